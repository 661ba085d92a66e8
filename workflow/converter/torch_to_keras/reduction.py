"""Reductions over axes, as pooling layers where these are equivalent, else as keras.ops."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

from converter.torch_to_keras.activations import rescale
from converter.torch_to_keras.call import Call
from converter.torch_to_keras.layout import reshape_tensor, view
from converter.torch_to_keras.lengths import size as size_of
from converter.torch_to_keras.registry import converts
from converter.torch_to_keras.values import Value, static

_GLOBAL = {
    "mean": {3: layers.GlobalAveragePooling1D, 4: layers.GlobalAveragePooling2D, 5: layers.GlobalAveragePooling3D},
    "amax": {3: layers.GlobalMaxPooling1D, 4: layers.GlobalMaxPooling2D, 5: layers.GlobalMaxPooling3D},
}


def _axes(value: Value, dims: int | Sequence[int] | None) -> list[int]:
    """The stored axes of PyTorch's `dims`; none or an empty list means all."""
    rank = len(value.shape)
    dims = [dims] if isinstance(dims, int) else list(dims or range(rank))
    return sorted(value.axis(dim) for dim in dims)


def _order(value: Value, axes: Sequence[int], keepdim: bool) -> tuple[int, ...]:
    if keepdim:
        return value.order
    kept = [axis for place, axis in enumerate(value.order) if place not in axes]
    return tuple(sorted(kept).index(axis) for axis in kept)


def _reduce(call: Call, value: Value, dims: Any, keepdim: bool, function: Callable, **options: Any) -> Value:
    axes = _axes(value, dims)
    tensor = value.tensor
    if call.is_float and "float" not in tensor.dtype:
        tensor = call.op(keras.ops.cast, tensor, call.dtype)
    tensor = call.op(function, tensor, axis=tuple(axes), keepdims=keepdim, **options)
    return Value(tensor, call.shape, _order(value, axes, keepdim))


def _pooled(call: Call, value: Value, dims: Any, keepdim: bool, kind: str) -> Value | None:
    """The mean or maximum as a pooling: global over all between batch and channels, or over neighbouring axes."""
    if not value.is_float:
        return None
    axes, rank = _axes(value, dims), len(value.shape)
    order = _order(value, axes, keepdim)
    if axes == list(range(1, rank - 1)) and rank in _GLOBAL[kind]:
        tensor = call.layer(_GLOBAL[kind][rank], value.tensor, keepdims=keepdim)
        return Value(tensor, call.shape, order, value.nonnegative)
    stored = value.storage_shape
    if not call.layers_only or 0 in axes or axes != list(range(axes[0], axes[-1] + 1)):
        return None
    if any(static(stored[axis]) is None for axis in range(1, rank)):
        return None
    size, before, after = (
        math.prod(stored[a:b]) for a, b in ((axes[0], axes[-1] + 1), (1, axes[0]), (axes[-1] + 1, rank))
    )
    tensor = reshape_tensor(call, value.tensor, stored, (stored[0], before, size, after))
    cls = layers.AveragePooling2D if kind == "mean" else layers.MaxPooling2D
    tensor = call.layer(cls, tensor, pool_size=(1, size), strides=(1, size))
    tensor = reshape_tensor(call, tensor, (stored[0], before, 1, after), [call.shape[axis] for axis in order])
    return Value(tensor, call.shape, order, value.nonnegative)


@converts("mean.dim", "mean.default")
def mean(call: Call, value: Value, dims: Sequence[int] | None = None, keepdim: bool = False) -> Value:
    """Mean over axes, all of them for None."""
    return _pooled(call, value, dims, keepdim, "mean") or _reduce(call, value, dims, keepdim, keras.ops.mean)


@converts("sum.dim_IntList", "sum.default")
def total(call: Call, value: Value, dims: Sequence[int] | None = None, keepdim: bool = False) -> Value:
    """Sum over axes, all of them for None."""
    if call.layers_only:
        pooled = _pooled(call, value, dims, keepdim, "mean")
        if pooled is not None:
            count = math.prod(static(value.storage_shape[axis]) for axis in _axes(value, dims))
            return rescale(call, pooled, count)
    reduced = _reduce(call, value, dims, keepdim, keras.ops.sum)
    if reduced.tensor.dtype != call.dtype:
        return reduced.like(call.op(keras.ops.cast, reduced.tensor, call.dtype))
    return reduced


@converts("amax.default", "max.default")
def maximum(call: Call, value: Value, dims: Sequence[int] | None = None, keepdim: bool = False) -> Value:
    """Maximum over axes, all of them for None."""
    return _pooled(call, value, dims, keepdim, "amax") or _reduce(call, value, dims, keepdim, keras.ops.max)


@converts("amin.default", "min.default")
def minimum(call: Call, value: Value, dims: Sequence[int] | None = None, keepdim: bool = False) -> Value:
    """Minimum over axes, all of them for None."""
    return _reduce(call, value, dims, keepdim, keras.ops.min)


@converts("prod.dim_int", "prod.default")
def product(call: Call, value: Value, dims: int | None = None, keepdim: bool = False) -> Value:
    """Product over an axis, all of them for None."""
    return _reduce(call, value, dims, keepdim, keras.ops.prod)


def _extremum(name: str, extreme: Callable, position: Callable) -> None:
    def convert(call: Call, value: Value, dim: int, keepdim: bool = False) -> tuple[Value, Value | None]:
        first = extreme(call, value, [dim], keepdim)
        return first, _position(call, value, dim, keepdim, position) if call.uses(1) else None

    converts(f"{name}.dim")(convert)


_extremum("max", maximum, keras.ops.argmax)
_extremum("min", minimum, keras.ops.argmin)


def _position(call: Call, value: Value, dim: int, keepdim: bool, function: Callable) -> Value:
    axis = value.axis(dim)
    tensor = value.tensor
    if value.is_float:
        # Of floats Keras (3.15) takes -0.0 for less than 0.0, by bits that TensorFlow Lite cannot mask.
        extreme = keras.ops.max if function is keras.ops.argmax else keras.ops.min
        hits = call.op(keras.ops.equal, tensor, call.op(extreme, tensor, axis=axis, keepdims=True))
        tensor, function = call.op(keras.ops.cast, hits, "int32"), keras.ops.argmax
    tensor = call.op(function, tensor, axis=axis, keepdims=keepdim)
    return Value(tensor, call.shape, _order(value, [axis], keepdim))


@converts("argmax.default")
def argmax(call: Call, value: Value, dim: int | None, keepdim: bool) -> Value:
    """Index of the first maximum along an axis; raises UnsupportedError without one."""
    return _argument(call, value, dim, keepdim, keras.ops.argmax)


@converts("argmin.default")
def argmin(call: Call, value: Value, dim: int | None, keepdim: bool) -> Value:
    """Index of the first minimum along an axis; raises UnsupportedError without one."""
    return _argument(call, value, dim, keepdim, keras.ops.argmin)


def _argument(call: Call, value: Value, dim: int | None, keepdim: bool, function: Callable) -> Value:
    if dim is None:
        flat = view(call, value, (math.prod(value.shape),))
        found = _position(call, flat, 0, True, function)
        return view(call, Value(found.tensor, (1,), (0,)), call.shape)
    return _position(call, value, dim, keepdim, function)


@converts("any.dim", "any.dims", "any.default")
def any_true(call: Call, value: Value, dims: Any = None, keepdim: bool = False) -> Value:
    """Whether any value over the axes is true."""
    return _reduce(call, value, dims, keepdim, keras.ops.any)


@converts("all.dim", "all.dims", "all.default")
def all_true(call: Call, value: Value, dims: Any = None, keepdim: bool = False) -> Value:
    """Whether all values over the axes are true."""
    return _reduce(call, value, dims, keepdim, keras.ops.all)


@converts("var.correction")
def variance(call: Call, value: Value, dims: Sequence[int] | None, *_: object) -> Value:
    """Divided by n - correction; Keras divides by n."""
    correction, keepdim = call.option("correction"), call.option("keepdim", False)
    correction = 1 if correction is None else correction
    plain = _reduce(call, value, dims, keepdim, keras.ops.var)
    sizes = [static(value.storage_shape[axis]) for axis in _axes(value, dims)]
    if correction == 0:
        return plain
    if None in sizes:
        count = call.op(
            keras.ops.cast, size_of(call, math.prod(value.storage_shape[a] for a in _axes(value, dims))), call.dtype
        )
        factor = call.op(keras.ops.divide, count, call.op(keras.ops.subtract, count, float(correction)))
        return plain.like(call.op(keras.ops.multiply, plain.tensor, factor))
    count = math.prod(sizes)
    return rescale(call, plain, count / (count - correction))


@converts("std.correction")
def deviation(call: Call, value: Value, dims: Sequence[int] | None, *_: object) -> Value:
    """Standard deviation over axes: the root of `variance`."""
    squared = variance(call, value, dims)
    return squared.like(call.op(keras.ops.sqrt, squared.tensor), nonnegative=True)


@converts("linalg_vector_norm.default")
def norm(call: Call, value: Value, order: float = 2, dims: Sequence[int] | None = None, keepdim: bool = False) -> Value:
    """`sum(|x| ** order) ** (1 / order)` over axes; for infinite orders the largest or smallest `|x|`."""
    absolute = value.like(call.op(keras.ops.absolute, value.tensor))
    if order == 2:
        squares = value.like(call.op(keras.ops.square, value.tensor))
        summed = _reduce(call, squares, dims, keepdim, keras.ops.sum)
        return summed.like(call.op(keras.ops.sqrt, summed.tensor), nonnegative=True)
    if order == 1:
        return _reduce(call, absolute, dims, keepdim, keras.ops.sum)
    if order in (math.inf, -math.inf):
        return _reduce(call, absolute, dims, keepdim, keras.ops.max if order > 0 else keras.ops.min)
    if order == 0:
        nonzero = value.like(call.op(keras.ops.cast, call.op(keras.ops.not_equal, value.tensor, 0), call.dtype))
        return _reduce(call, nonzero, dims, keepdim, keras.ops.sum)
    powers = value.like(call.op(keras.ops.power, absolute.tensor, order))
    summed = _reduce(call, powers, dims, keepdim, keras.ops.sum)
    return summed.like(call.op(keras.ops.power, summed.tensor, 1 / order), nonnegative=True)


@converts("logsumexp.default")
def logsumexp(call: Call, value: Value, dims: Sequence[int], keepdim: bool) -> Value:
    """`log(sum(exp(x)))` over axes."""
    return _reduce(call, value, dims, keepdim, keras.ops.logsumexp)


@converts("cumprod.default")
def cumprod(call: Call, value: Value, dim: int) -> Value:
    """Products of all values up to each along an axis of unknown size; of others they are put together of products."""
    tensor = value.tensor if value.tensor.dtype == call.dtype else call.op(keras.ops.cast, value.tensor, call.dtype)
    return value.like(call.op(keras.ops.cumprod, tensor, axis=value.axis(dim)))


@converts("cumsum.default")
def cumsum(call: Call, value: Value, dim: int) -> Value:
    """Sums of all values up to each along an axis."""
    tensor = value.tensor
    if tensor.dtype != call.dtype:
        tensor = call.op(keras.ops.cast, tensor, call.dtype)
    return value.like(call.op(keras.ops.cumsum, tensor, axis=value.axis(dim)))
