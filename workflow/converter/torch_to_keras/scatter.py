"""Tensors with elements written anew, at places that a tensor names or a condition selects."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import keras
import numpy as np
import torch

from converter.torch_to_keras.call import Call
from converter.torch_to_keras.layout import permuted, view
from converter.torch_to_keras.materialize import materialize
from converter.torch_to_keras.positions import along_axis, cut_to, linear, plain, plus, unique, within
from converter.torch_to_keras.registry import converts
from converter.torch_to_keras.values import Constant, Dim, KerasTensor, Value, same, static

_Tensor = Value | Constant
_MOST_COMPARED = 1 << 16  # places times updates: where more are compared one by one, memory would be the price


def _added(call: Call, array: KerasTensor, places: KerasTensor, updates: KerasTensor) -> KerasTensor:
    return call.op(keras.ops.scatter_update, array, places, updates, reduction="add")


def _zeros(call: Call, array: KerasTensor, dtype: str | None = None) -> KerasTensor:
    return call.op(keras.ops.zeros_like, array, dtype=dtype or array.dtype)


def _hits(call: Call, array: KerasTensor, places: KerasTensor, updates: KerasTensor) -> KerasTensor:
    """How many updates each element gets, int32."""
    ones = call.op(keras.ops.ones_like, updates, dtype="int32")
    return _added(call, _zeros(call, array, "int32"), places, ones)


def _written(
    call: Call, array: KerasTensor, places: KerasTensor, updates: KerasTensor, sizes: Sequence[Dim], once: bool
) -> KerasTensor:
    """The array with the updates at their places, the last where several have one; all are different where `once`.

    places (n, k): coordinates along the first k axes, whose sizes are given. updates (n, ...). TensorFlow Lite (2.21) would
    add up what is written to one place, so all but the last are made zeros first.
    """
    if once:
        return call.op(keras.ops.scatter_update, array, places, updates)
    if array.dtype == "bool":
        whole = [call.op(keras.ops.cast, tensor, "int32") for tensor in (array, updates)]
        written = _written(call, whole[0], places, whole[1], sizes, once)
        return call.op(keras.ops.cast, written, "bool")
    coordinates = [call.op(operator.getitem, places, (slice(None), axis)) for axis in range(len(sizes))]
    keys = linear(call, coordinates, sizes)
    order = call.op(keras.ops.argsort, keys)  # stable: TensorFlow's top_k, like LiteRT's, prefers the first of equals
    keys, places, updates = (call.op(keras.ops.take, t, order, axis=0) for t in (keys, places, updates))
    later, earlier = (call.op(operator.getitem, keys, (part,)) for part in (slice(1, None), slice(None, -1)))
    # The first key is compared with nothing, so that the last stands alone: it is always the last of its place.
    last = call.op(keras.ops.concatenate, [call.op(keras.ops.not_equal, later, earlier), np.ones(1, bool)], axis=0)
    last = call.op(keras.ops.reshape, last, (-1, *(1,) * (len(updates.shape) - 1)))
    kept = call.op(keras.ops.where, last, updates, _zeros(call, updates))
    hit = call.op(keras.ops.greater, _hits(call, array, places, updates), 0)
    return call.op(keras.ops.where, hit, _added(call, _zeros(call, array), places, kept), array)


# -- along one axis -----------------------------------------------------------------------------------------------------


def _along(call: Call, value: _Tensor, dim: int, index: _Tensor) -> tuple[KerasTensor, KerasTensor, KerasTensor, int]:
    """The array, the index, the coordinates and the axis."""
    array = plain(call, value, call.dtype)
    dim %= max(len(value.shape), 1)
    places = plain(call, index, "int32")
    return array, places, along_axis(call, places, dim), dim


def _flat_updates(call: Call, source: _Tensor, index: _Tensor, places: KerasTensor) -> KerasTensor:
    tensor = plain(call, source, call.dtype)
    tensor = cut_to(call, tensor, source.shape, places, index.shape, range(len(index.shape)))
    return call.op(keras.ops.reshape, tensor, (-1,))


@converts("scatter.src")
def scatter(call: Call, value: _Tensor, dim: int, index: _Tensor, source: _Tensor) -> Value:
    """`source` at the places that `index` names along an axis; the last where one is named twice."""
    if isinstance(source, Constant) and source.uniform is not None:
        return scatter_number(call, value, dim, index, source.uniform)
    array, places, coordinates, _ = _along(call, value, dim, index)
    updates = _flat_updates(call, source, index, places)
    alone = static(index.shape[dim]) == 1
    return call.value(_written(call, array, coordinates, updates, call.shape, alone))


@converts("scatter.value")
def scatter_number(call: Call, value: _Tensor, dim: int, index: _Tensor, number: float) -> Value:
    """One number at the places that `index` names along an axis."""
    array, _, coordinates, _ = _along(call, value, dim, index)
    first = call.op(operator.getitem, coordinates, (slice(None), 0))
    hit = call.op(keras.ops.greater, _hits(call, array, coordinates, first), 0)
    filling = np.array(number).astype(array.dtype)
    return call.value(call.op(keras.ops.where, hit, filling, array))


@converts("scatter_add.default")
def scatter_add(call: Call, value: _Tensor, dim: int, index: _Tensor, source: _Tensor) -> Value:
    """`source` added at the places that `index` names along an axis."""
    return scatter_reduce(call, value, dim, index, source, "sum")


@converts("scatter_reduce.two")
def scatter_reduce(
    call: Call, value: _Tensor, dim: int, index: _Tensor, source: _Tensor, kind: str, include_self: bool = True
) -> Value:
    """Sum, product, mean, largest or smallest of what `index` sends to one place, and of what is there already."""
    include_self = call.option("include_self", include_self)
    array, places, coordinates, dim = _along(call, value, dim, index)
    if kind in ("sum", "mean"):
        return call.value(
            _summed(call, array, coordinates, _flat_updates(call, source, index, places), kind, include_self)
        )
    size, count = static(value.shape[dim]), static(index.shape[dim])
    alike = all(same(a, b) for axis, (a, b) in enumerate(zip(value.shape, index.shape, strict=True)) if axis != dim)
    if alike and size is not None and count is not None and size * count <= _MOST_COMPARED:
        updates = cut_to(
            call, plain(call, source, call.dtype), source.shape, places, index.shape, range(len(index.shape))
        )
        return call.value(_compared(call, array, places, updates, dim, kind, include_self))
    updates = _flat_updates(call, source, index, places)
    reduction, start = {"amax": ("max", _lowest), "amin": ("min", _highest), "prod": ("mul", lambda _: 1)}[kind]
    if not include_self:
        hit = call.op(keras.ops.greater, _hits(call, array, coordinates, updates), 0)
        array = call.op(keras.ops.where, hit, np.array(start(call.dtype)).astype(call.dtype), array)
    return call.value(call.op(keras.ops.scatter_update, array, coordinates, updates, reduction=reduction))


def _summed(
    call: Call, array: KerasTensor, places: KerasTensor, updates: KerasTensor, kind: str, include_self: bool
) -> KerasTensor:
    hits = _hits(call, array, places, updates) if kind == "mean" or not include_self else None
    base = array
    if not include_self:
        base = call.op(keras.ops.where, call.op(keras.ops.greater, hits, 0), _zeros(call, array), array)
    total = _added(call, base, places, updates)
    if kind == "sum":
        return total
    count = call.op(keras.ops.maximum, hits, 1) if not include_self else call.op(keras.ops.add, hits, 1)
    if "float" in array.dtype:
        return call.op(keras.ops.divide, total, call.op(keras.ops.cast, count, array.dtype))
    return call.op(keras.ops.floor_divide, total, call.op(keras.ops.cast, count, array.dtype))


def _lowest(dtype: str) -> float:
    return -np.inf if "float" in dtype else np.iinfo(dtype).min


def _highest(dtype: str) -> float:
    return np.inf if "float" in dtype else np.iinfo(dtype).max


def _compared(
    call: Call, array: KerasTensor, places: KerasTensor, updates: KerasTensor, dim: int, kind: str, include_self: bool
) -> KerasTensor:
    """Each place with each update of its row: TensorFlow Lite has no scattering of maxima or products."""
    last = [axis for axis in range(len(array.shape)) if axis != dim] + [dim]
    array, places, updates = (call.op(keras.ops.transpose, t, last) for t in (array, places, updates))
    own = np.arange(array.shape[-1], dtype="int32")[:, None]
    hits = call.op(keras.ops.equal, call.op(keras.ops.expand_dims, places, -2), own)
    reduce, join, start = {
        "amax": (keras.ops.max, keras.ops.maximum, _lowest(call.dtype)),
        "amin": (keras.ops.min, keras.ops.minimum, _highest(call.dtype)),
        "prod": (keras.ops.prod, keras.ops.multiply, 1),
    }[kind]
    filling = np.array(start).astype(call.dtype)
    spread = call.op(keras.ops.where, hits, call.op(keras.ops.expand_dims, updates, -2), filling)
    result = call.op(reduce, spread, axis=-1)
    if result.dtype != call.dtype:
        result = call.op(keras.ops.cast, result, call.dtype)
    if include_self:
        result = call.op(join, array, result)
    else:
        result = call.op(keras.ops.where, call.op(keras.ops.any, hits, axis=-1), result, array)
    return call.op(keras.ops.transpose, result, np.argsort(last).tolist())


# -- at tuples of places, or where a condition holds --------------------------------------------------------------------


@converts("index_put.default", "_unsafe_index_put.default")
def index_put(
    call: Call, value: _Tensor, indices: list[_Tensor | None], values: _Tensor, accumulate: bool = False
) -> Value:
    """value[indices] = values, or += values; the last where one place is named twice."""
    used = [axis for axis, places in enumerate(indices) if places is not None]
    chosen = [places for places in indices if places is not None]
    if any(_is_bool(places) for places in chosen):
        if len(used) > 1:
            raise call.unsupported("it writes by a condition and by places at once")
        return _where(call, value, used[0], chosen[0], values, accumulate)
    sizes = [value.shape[axis] for axis in used]
    once = unique(chosen, sizes)
    rest = [axis for axis in range(len(value.shape)) if axis not in used]
    moved = permuted(materialize(call, value), [*used, *rest])
    array = plain(call, moved, call.dtype)
    places = [within(call, places, dim) for places, dim in zip(chosen, sizes, strict=True)]
    rank = max(len(place.shape) for place in places)
    places = [call.op(keras.ops.reshape, p, (*(1,) * (rank - len(p.shape)), *_open(p))) for p in places]
    updates = _in_order(call, values, used, rank, len(value.shape))
    zeros = call.op(keras.ops.zeros_like, places[0])
    for place in places[1:]:
        zeros = plus(call, zeros, call.op(keras.ops.zeros_like, place))
    coordinates = call.op(keras.ops.stack, [plus(call, zeros, p) for p in places], axis=-1)
    updates = _spread(call, updates, zeros, array, len(used))
    if accumulate:
        result = _added(call, array, coordinates, updates)
    elif once:
        result = call.op(keras.ops.scatter_update, array, coordinates, updates)
    else:
        coordinates = call.op(keras.ops.reshape, coordinates, (-1, len(used)))
        count = None if None in zeros.shape else int(np.prod(zeros.shape))
        target = [count, *(static(value.shape[axis]) for axis in rest)]
        if target.count(None) > 1:
            raise call.unsupported("it writes rows of unknown size at an unknown number of places")
        updates = call.op(keras.ops.reshape, updates, [-1 if size is None else size for size in target])
        result = _written(call, array, coordinates, updates, sizes, once)
    written = Value(result, moved.shape, tuple(range(len(moved.shape))))
    return permuted(written, np.argsort([*used, *rest]).tolist())


def _open(tensor: KerasTensor) -> tuple[int, ...]:
    """The shape to give to a reshape that adds axes; several unknown sizes cannot be told."""
    return tuple(-1 if size is None else size for size in tensor.shape)


def _is_bool(places: _Tensor) -> bool:
    return str(places.tensor.dtype if isinstance(places, Value) else places.array.dtype).endswith("bool")


def _in_order(call: Call, values: _Tensor, used: list[int], rank: int, whole: int) -> KerasTensor:
    """The values with the axes of the places first, then those that no place names."""
    values = materialize(call, values)
    total = rank + whole - len(used)
    values = view(call, values, (*(1,) * (total - len(values.shape)), *values.shape))
    if used == list(range(used[0], used[-1] + 1)) and used[0] > 0:
        # Places that are neighbours leave their axes where they were.
        first = used[0]
        order = [*range(first, first + rank), *range(first), *range(first + rank, total)]
        values = permuted(values, order)
    return plain(call, values, call.dtype)


def _spread(call: Call, updates: KerasTensor, zeros: KerasTensor, array: KerasTensor, used: int) -> KerasTensor:
    """The updates broadcast to the shape of the places and that of the array's other axes."""
    others = len(array.shape) - used
    for _ in range(others):
        zeros = call.op(keras.ops.expand_dims, zeros, -1)
    row = call.op(operator.getitem, array, (0,) * used) if others else None
    everywhere = call.op(keras.ops.equal, zeros, 0)
    if row is not None:
        everywhere = call.op(keras.ops.logical_and, everywhere, call.op(keras.ops.ones_like, row, dtype="bool"))
    return call.op(keras.ops.where, everywhere, updates, updates)


def _where(call: Call, value: _Tensor, axis: int, mask: _Tensor, values: _Tensor, accumulate: bool) -> Value:
    """The values where the mask holds, which lies along the axes from `axis` on."""
    rank, behind = len(value.shape), len(value.shape) - axis - len(mask.shape)
    array = plain(call, value, call.dtype)
    condition = plain(call, view(call, materialize(call, mask), (*(1,) * axis, *mask.shape, *(1,) * behind)))
    uniform = values.uniform if isinstance(values, Constant) else None
    if uniform is not None:
        updates = np.array(uniform).astype(call.dtype)
    elif len(values.shape) <= behind or (len(values.shape) == behind + 1 and static(values.shape[0]) == 1):
        updates = plain(call, values, call.dtype)
    elif axis == 0 and len(values.shape) == behind + 1:
        updates = _in_turn(call, plain(call, mask), plain(call, values, call.dtype))
    else:
        raise call.unsupported("it writes several values for each element of a condition behind other axes")
    if accumulate:
        nothing = np.zeros((), call.dtype)
        return call.value(plus(call, array, call.op(keras.ops.where, condition, updates, nothing)))
    assert rank == len(array.shape)
    return call.value(call.op(keras.ops.where, condition, updates, array))


def _in_turn(call: Call, mask: KerasTensor, values: KerasTensor) -> KerasTensor:
    """For each element of the mask the next of the values if it holds, else any of them."""
    flat = call.op(keras.ops.cast, call.op(keras.ops.reshape, mask, (-1,)), "int32")
    places = call.op(keras.ops.subtract, call.op(keras.ops.cumsum, flat, axis=0), flat)  # of earlier ones that hold
    total = call.op(
        keras.ops.maximum,
        call.op(
            keras.ops.subtract,
            call.op(
                keras.ops.sum,
                call.op(
                    keras.ops.ones_like,
                    call.op(operator.getitem, values, (slice(None), *(0,) * (len(values.shape) - 1))),
                    dtype="int32",
                ),
            ),
            1,
        ),
        0,
    )
    taken = call.op(keras.ops.take, values, call.op(keras.ops.minimum, places, total), axis=0)
    if len(mask.shape) == 1:
        return taken
    shape = [*mask.shape, *values.shape[1:]]
    if shape.count(None) > 1:
        raise call.unsupported("it writes by a condition of several unknown sizes")
    return call.op(keras.ops.reshape, taken, [-1 if size is None else size for size in shape])


@converts("masked_scatter.default")
def masked_scatter(call: Call, value: _Tensor, mask: _Tensor, source: _Tensor) -> Value:
    """The elements of `source` in turn where the mask holds."""
    array = plain(call, value, call.dtype)
    condition = plain(call, mask)
    condition = call.op(keras.ops.logical_and, condition, call.op(keras.ops.ones_like, array, dtype="bool"))
    flat = call.op(keras.ops.reshape, plain(call, source, call.dtype), (-1,))
    return call.value(call.op(keras.ops.where, condition, _in_turn(call, condition, flat), array))


@converts("copy.default")
def copy(call: Call, value: _Tensor, source: _Tensor, *_: object) -> Value:
    """`source` in the shape and type of `value`."""
    everywhere = call.op(keras.ops.ones_like, plain(call, value), dtype="bool")
    updates = plain(call, source, call.dtype)
    return call.value(call.op(keras.ops.where, everywhere, updates, updates))


@converts("fill.Scalar")
def fill(call: Call, value: _Tensor, number: float) -> Constant:
    """A number in the place of every element."""
    array = torch.tensor(number).to(getattr(torch, call.dtype))
    known = [static(dim) for dim in call.shape]
    sizes = [size for size in known if size is not None]
    return Constant(array.expand(sizes) if len(sizes) == len(known) else array, call.shape)
