"""Pooling."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import torch
from keras import layers

from converter.torch_to_keras.call import Call
from converter.torch_to_keras.indexing import take_axis
from converter.torch_to_keras.layout import channels_last_tensor, view
from converter.torch_to_keras.padding import zero_pad
from converter.torch_to_keras.parameter_layers import affine
from converter.torch_to_keras.registry import converts
from converter.torch_to_keras.values import Constant, KerasTensor, Value, channels_last, static

_MAX = {1: layers.MaxPooling1D, 2: layers.MaxPooling2D, 3: layers.MaxPooling3D}
_AVERAGE = {1: layers.AveragePooling1D, 2: layers.AveragePooling2D, 3: layers.AveragePooling3D}
_GLOBAL = {
    "average": {1: layers.GlobalAveragePooling1D, 2: layers.GlobalAveragePooling2D, 3: layers.GlobalAveragePooling3D},
    "max": {1: layers.GlobalMaxPooling1D, 2: layers.GlobalMaxPooling2D, 3: layers.GlobalMaxPooling3D},
}
_ADAPTIVE = {
    "average": {
        1: layers.AdaptiveAveragePooling1D,
        2: layers.AdaptiveAveragePooling2D,
        3: layers.AdaptiveAveragePooling3D,
    },
    "max": {1: layers.AdaptiveMaxPooling1D, 2: layers.AdaptiveMaxPooling2D, 3: layers.AdaptiveMaxPooling3D},
}


def _axes(numbers: int | Sequence[int], rank: int, default: Sequence[int] = ()) -> tuple[int, ...]:
    numbers = [numbers] if isinstance(numbers, int) else list(numbers) or list(default)
    return tuple(numbers * rank if len(numbers) == 1 else numbers)


def _rank(call: Call) -> int:
    return int(call.operator.split("pool")[1][0])


def _batched(call: Call, value: Value, rank: int) -> Value:
    return value if len(value.shape) == rank + 2 else view(call, value, (1, *value.shape))


def _result(call: Call, tensor: KerasTensor, rank: int, nonnegative: bool) -> Value:
    """The channels-last tensor as the call's result, which has no batch if the input had none."""
    if len(call.shape) == rank + 2:
        return call.value(tensor, channels_last(rank + 2), nonnegative=nonnegative)
    return view(call, Value(tensor, (1, *call.shape), channels_last(rank + 2), nonnegative), call.shape)


def _sizes(call: Call, value: Value, rank: int, needed: str) -> tuple[int, ...]:
    """The spatial sizes of the input, which `needed` makes necessary to know."""
    sizes = tuple(static(dim) for dim in value.shape[-rank:])
    if None in sizes:
        raise call.unsupported(f"{needed} needs an input of known size")
    return sizes


@converts("max_pool1d.default", "max_pool2d.default", "max_pool3d.default")
def max_pool(
    call: Call,
    value: Value,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> Value:
    """Maximum over windows of (N, C, *sizes)."""
    rank = _rank(call)
    kernel, padding, dilation = (_axes(numbers, rank) for numbers in (kernel, padding, dilation))
    stride = _axes(stride, rank, kernel)
    if max(dilation) > 1:
        raise call.unsupported("Keras has no dilated pooling")
    value = _batched(call, value, rank)
    tensor = channels_last_tensor(call, value)
    margins = [(p, p) for p in padding]
    if ceil_mode:
        margins = _ceil_margins(call, value, kernel, stride, padding)
    same = [((k - 1) // 2, k - 1 - (k - 1) // 2) for k in kernel]
    if any(map(any, margins)) and margins == same and max(stride) == 1:
        tensor = call.layer(_MAX[rank], tensor, pool_size=kernel, strides=1, padding="same")
    else:
        tensor = _pad_for_maximum(call, value, tensor, margins)
        tensor = call.layer(_MAX[rank], tensor, pool_size=kernel, strides=stride)
    return _result(call, tensor, rank, value.nonnegative)


def _ceil_margins(
    call: Call, value: Value, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> list[tuple[int, int]]:
    """(left, right) per axis so that a plain pooling has the size of PyTorch's result."""
    sizes = _sizes(call, value, len(kernel), "ceil_mode")
    counts = [static(dim) for dim in call.shape[-len(kernel) :]]
    return [
        (p, max((count - 1) * s + k - size - p, 0))
        for size, count, k, s, p in zip(sizes, counts, kernel, stride, padding, strict=True)
    ]


def _pad_for_maximum(call: Call, value: Value, tensor: KerasTensor, margins: list[tuple[int, int]]) -> KerasTensor:
    """Pad with what never wins the maximum: zeros if nothing is below, else the lowest number.

    In layers: copies of the edge, since each window that reaches into the padding holds the edge itself too.
    """
    if not any(map(any, margins)):
        return tensor
    if value.nonnegative:
        return zero_pad(call, tensor, margins)
    if not call.layers_only:
        lowest = float(np.finfo(np.dtype(call.dtype)).min) if call.is_float else int(np.iinfo("int32").min)
        widths = [(0, 0), *margins, (0, 0)]
        return call.op(keras.ops.pad, tensor, widths, mode="constant", constant_values=lowest)
    stored = Value(tensor, value.shape, channels_last(len(value.shape)))
    for axis, (left, right) in enumerate(margins, 2):
        if left or right:
            size = _sizes(call, stored, len(margins), "padding a maximum in an HDF5 file")[axis - 2]
            stored = take_axis(call, stored, axis, np.pad(np.arange(size), (left, right), mode="edge"))
    return stored.tensor


@converts("max_pool2d_with_indices.default", "max_pool3d_with_indices.default", "max_pool1d_with_indices.default")
def max_pool_with_indices(call: Call, value: Value, kernel: Sequence[int], *rest: object) -> tuple[Value, None]:
    """Maximum over windows; raises UnsupportedError where the indices are used."""
    if call.uses(1):
        raise call.unsupported("Keras's pooling does not return indices")
    return max_pool(call, value, kernel, *rest), None


@converts("avg_pool1d.default", "avg_pool2d.default", "avg_pool3d.default")
def average_pool(
    call: Call,
    value: Value,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None = None,
) -> Value:
    """Mean over windows of (N, C, *sizes); `divisor` replaces the number of elements of a window."""
    rank = _rank(call)
    kernel, padding = _axes(kernel, rank), _axes(padding, rank)
    stride = _axes(stride, rank, kernel)
    value = _batched(call, value, rank)
    margins = [(p, p) for p in padding]
    if ceil_mode:
        margins = _ceil_margins(call, value, kernel, stride, padding)
    tensor = zero_pad(call, channels_last_tensor(call, value), margins)
    tensor = call.layer(_AVERAGE[rank], tensor, pool_size=kernel, strides=stride)
    result = _result(call, tensor, rank, value.nonnegative)
    if divisor is not None:
        factors = np.array(float(np.prod(kernel)) / divisor)
    elif any(map(any, margins)) and (not count_include_pad or ceil_mode):
        factors = _divisor_corrections(call, value, kernel, stride, padding, count_include_pad)
    else:
        return result
    if (factors == 1).all():
        return result
    array = torch.from_numpy(factors.astype(call.dtype)).reshape(1, 1, *factors.shape)
    return affine(call, result, scale=Constant(array, tuple(array.shape))) or _uniform(call, result, factors)


def _uniform(call: Call, value: Value, factors: np.ndarray) -> Value:
    return value.like(call.layer(layers.Rescaling, value.tensor, scale=float(factors.reshape(-1)[0])))


def _divisor_corrections(
    call: Call,
    value: Value,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    count_include_pad: bool,
) -> np.ndarray:
    """The kernel's size over PyTorch's own divisor, per window: a window counts what lies inside the input, or inside
    the padded input with count_include_pad, never what ceil_mode adds behind that.
    """
    sizes = _sizes(call, value, len(kernel), "an average that leaves out its padding")
    counts = [static(dim) for dim in call.shape[-len(kernel) :]]
    factors = np.ones(())
    for size, count, k, s, p in zip(sizes, counts, kernel, stride, padding, strict=True):
        starts = np.arange(count) * s - p
        low, high = (-p, size + p) if count_include_pad else (0, size)
        inside = np.minimum(starts + k, high) - np.maximum(starts, low)
        factors = np.multiply.outer(factors, k / inside)
    return factors


@converts("adaptive_avg_pool1d.default", "adaptive_avg_pool2d.default", "adaptive_avg_pool3d.default")
def adaptive_average(call: Call, value: Value, size: Sequence[int]) -> Value:
    """Mean over as many windows as `size` says."""
    return _adaptive(call, value, size, "average")


@converts("_adaptive_avg_pool2d.default", "_adaptive_avg_pool3d.default")
def adaptive_average_core(call: Call, value: Value, size: Sequence[int]) -> Value:
    """As `adaptive_average`: another name of the same operator."""
    return _adaptive(call, value, size, "average")


@converts("adaptive_max_pool1d.default", "adaptive_max_pool2d.default", "adaptive_max_pool3d.default")
def adaptive_max(call: Call, value: Value, size: Sequence[int]) -> tuple[Value, None]:
    """Maximum over as many windows as `size` says; raises UnsupportedError where the indices are used."""
    if call.uses(1):
        raise call.unsupported("Keras's pooling does not return indices")
    return _adaptive(call, value, size, "max"), None


def _adaptive(call: Call, value: Value, size: Sequence[int], kind: str) -> Value:
    """A global pooling for size 1, nothing where the size stays, an ordinary pooling where windows are equal."""
    rank = _rank(call)
    value = _batched(call, value, rank)
    wanted = [static(dim) for dim in call.shape[-rank:]]
    present = [static(dim) for dim in value.shape[-rank:]]
    tensor = channels_last_tensor(call, value)
    if set(wanted) == {1}:
        tensor = call.layer(_GLOBAL[kind][rank], tensor, keepdims=True)
    elif None in wanted or None in present:
        raise call.unsupported(f"pooling to {wanted} needs an input of known size")
    elif all(p % w == 0 for p, w in zip(present, wanted, strict=True)):
        windows = tuple(p // w for p, w in zip(present, wanted, strict=True))
        if max(windows) > 1:
            cls = (_AVERAGE if kind == "average" else _MAX)[rank]
            tensor = call.layer(cls, tensor, pool_size=windows, strides=windows)
    else:
        tensor = call.layer(_ADAPTIVE[kind][rank], tensor, output_size=tuple(wanted) if rank > 1 else wanted[0])
    return _result(call, tensor, rank, value.nonnegative)
