"""Picking elements by fixed or computed positions."""

from __future__ import annotations

import math
import operator

import keras
import numpy as np
from keras import layers

from converter.torch_to_keras import lengths
from converter.torch_to_keras.call import Call
from converter.torch_to_keras.layout import MOST_AXES, permuted, torch_tensor, view
from converter.torch_to_keras.lengths import counting
from converter.torch_to_keras.materialize import materialize
from converter.torch_to_keras.positions import cut_to, linear, plain, within
from converter.torch_to_keras.registry import converts
from converter.torch_to_keras.slicing import slice_axis
from converter.torch_to_keras.values import Constant, Dim, Value, expression_of, known_size, static

__all__ = ["take_axis"]

_MOST_RUNS = 64


def take_axis(call: Call, value: Value, axis: int, positions: np.ndarray) -> Value:
    """The elements at fixed `positions` (1-d) along PyTorch's `axis`."""
    axis %= len(value.shape)
    shape = (*value.shape[:axis], len(positions), *value.shape[axis + 1 :])
    place = value.axis(axis)
    runs = np.split(positions, np.flatnonzero(np.diff(positions) != 1) + 1)
    if len(runs) == 1 and positions[0] >= 0:
        return slice_axis(call, value, axis, int(positions[0]), int(positions[-1]) + 1)
    if call.layers_only and len(runs) <= _MOST_RUNS and place != 0:
        tensors = [slice_axis(call, value, axis, int(run[0]), int(run[-1]) + 1).tensor for run in runs]
        tensor = call.layer(layers.Concatenate, tensors, axis=place)
    else:
        tensor = call.op(keras.ops.take, value.tensor, positions.astype("int32"), axis=place)
    return Value(tensor, shape, value.order, value.nonnegative)


@converts("index_select.default")
def index_select(call: Call, value: Value | Constant, dim: int, index: Value | Constant) -> Value:
    if isinstance(index, Constant) and isinstance(value, Value):
        return take_axis(call, value, dim, index.numpy.reshape(-1))
    return _take(call, value, dim, index)


def _take(call: Call, value: Value | Constant, dim: int, index: Value) -> Value:
    array = torch_tensor(call, value) if isinstance(value, Value) else value.numpy
    positions = torch_tensor(call, index) if isinstance(index, Value) else index.numpy.astype("int32")
    return call.value(call.op(keras.ops.take, array, positions, axis=dim))


@converts("index.Tensor")
def index(call: Call, value: Value | Constant, indices: list[Value | Constant | None]) -> Value:
    """value[..., positions, ...]: one index, or several fixed ones on neighbouring axes."""
    used = [axis for axis, positions in enumerate(indices) if positions is not None]
    chosen = [positions for positions in indices if positions is not None]
    if any((p.tensor.dtype if isinstance(p, Value) else str(p.array.dtype)).endswith("bool") for p in chosen):
        return _selected(call, value, used, chosen)
    if len(used) == 1:
        axis, positions = used[0], chosen[0]
        if isinstance(positions, Value) or isinstance(value, Constant):
            return _take(call, value, axis, positions)
        array = positions.numpy
        taken = take_axis(call, value, axis, array.reshape(-1) % (static(value.shape[axis]) or np.iinfo("int64").max))
        return view(call, taken, (*value.shape[:axis], *array.shape, *value.shape[axis + 1 :]))
    sizes = [static(value.shape[axis]) for axis in used]
    neighbours = used == list(range(used[0], used[-1] + 1))
    if (
        not neighbours
        or None in sizes
        or not all(isinstance(p, Constant) for p in chosen)
        or isinstance(value, Constant)
    ):
        return _at_tuples(call, value, used, chosen)
    flat = np.ravel_multi_index(
        np.broadcast_arrays(*(p.numpy % size for p, size in zip(chosen, sizes, strict=True))), sizes
    )
    before, after = value.shape[: used[0]], value.shape[used[-1] + 1 :]
    merged = view(call, value, (*before, int(np.prod(sizes)), *after))
    return view(call, take_axis(call, merged, used[0], flat.reshape(-1)), (*before, *flat.shape, *after))


def _at_tuples(call: Call, value: Value | Constant, used: list[int], chosen: list[Value | Constant]) -> Value:
    """Elements at tuples of places: the axes that they name become one, whose places are counted off theirs."""
    value = materialize(call, value)
    sizes = [value.shape[axis] for axis in used]
    places = [within(call, positions, size) for positions, size in zip(chosen, sizes, strict=True)]
    flat = linear(call, places, sizes)
    rest = [axis for axis in range(len(value.shape)) if axis not in used]
    moved = permuted(value, [*used, *rest])
    merged = view(call, moved, (math.prod(sizes), *moved.shape[len(used) :]))
    taken = call.op(keras.ops.take, torch_tensor(call, merged), flat, axis=0)
    rank, first = len(flat.shape), used[0]
    order = list(range(len(taken.shape)))
    if used == list(range(first, used[-1] + 1)):  # places of neighbours stay where these were
        order = [*range(rank, rank + first), *range(rank), *range(rank + first, len(order))]
    return call.value(taken, [order.index(axis) for axis in range(len(order))])


def _selected(call: Call, value: Value | Constant, used: list[int], chosen: list[Value | Constant]) -> Value:
    """Elements where a condition holds, as many as there are: the condition lies along the first axes."""
    mask = materialize(call, chosen[0])
    value = materialize(call, value)
    rank = len(mask.shape)
    if used != [0]:
        raise call.unsupported("it selects by a condition that does not lie along the first axes, or by two")
    flat = view(call, value, (math.prod(mask.shape), *value.shape[rank:]))
    held = view(call, mask, (math.prod(mask.shape),))
    (places,) = call.op(keras.ops.nonzero, held.tensor)
    taken = call.op(keras.ops.take, torch_tensor(call, flat), places, axis=0)
    return call.value(taken)


@converts("gather.default")
def gather(call: Call, value: Value | Constant, dim: int, positions: Value | Constant) -> Value:
    """Elements at the places that a tensor names along an axis; along the others it may be shorter."""
    dim %= max(len(value.shape), 1)
    places, array = plain(call, positions), plain(call, value)
    others = [axis for axis in range(len(value.shape)) if axis != dim]
    array = cut_to(call, array, value.shape, places, positions.shape, others)
    sizes = call.shape
    if len(sizes) > MOST_AXES and all(static(size) is not None for size in (*value.shape, *sizes)):
        # Keras moves the axis to the end: the axes before it and those behind it are one each.
        before, after = math.prod(sizes[:dim]), math.prod(sizes[dim + 1 :])
        array, places = (call.op(keras.ops.reshape, x, (before, -1, after)) for x in (array, places))
        taken = call.op(keras.ops.take_along_axis, array, places, axis=1)
        return call.value(call.op(keras.ops.reshape, taken, tuple(map(known_size, sizes))))
    return call.value(call.op(keras.ops.take_along_axis, array, places, axis=dim))


@converts("flip.default")
def flip(call: Call, value: Value, dims: list[int]) -> Value:
    for dim in dims:
        size = static(value.shape[dim])
        if call.layers_only and size is not None:
            value = take_axis(call, value, dim, np.arange(size)[::-1])
        else:
            value = value.like(call.op(keras.ops.flip, value.tensor, axis=value.axis(dim)))
    return value


@converts("roll.default")
def roll(call: Call, value: Value, shifts: list[int], dims: list[int]) -> Value:
    if not dims:
        flat = view(call, value, (math.prod(value.shape),))
        return view(call, roll(call, flat, shifts, [0]), call.shape)
    for shift, dim in zip(shifts, dims, strict=True):
        size = static(value.shape[dim])
        if size is not None:
            value = _rolled(call, value, dim, shift % size if size else 0)
        else:
            # Python's remainder, and so this one, is never below zero.
            places = call.op(keras.ops.subtract, counting(call, value.shape[dim]), shift)
            places = call.op(keras.ops.mod, places, lengths.size(call, value.shape[dim]))
            value = value.like(call.op(keras.ops.take, value.tensor, places, axis=value.axis(dim)))
    return value


def _rolled(call: Call, value: Value, dim: int, shift: int) -> Value:
    """The last `shift` elements, then those before: TensorFlow Lite has no operator that rolls."""
    size, place = known_size(value.shape[dim]), value.axis(dim)
    if shift == 0:
        return value
    parts = [slice_axis(call, value, dim, *ends).tensor for ends in ((size - shift, size), (0, size - shift))]
    if place == 0:
        return value.like(call.op(keras.ops.concatenate, parts, axis=0))
    return value.like(call.layer(layers.Concatenate, parts, axis=place))


@converts("topk.default")
def topk(call: Call, value: Value, k: Dim, dim: int, largest: bool, ordered: bool) -> tuple[Value, Value]:
    """Along the last axis, as Keras has it. Among equal values PyTorch may choose other positions."""
    last = len(value.shape) - 1
    moved = [axis for axis in range(last + 1) if axis != dim % (last + 1)] + [dim % (last + 1)]
    tensor = call.op(keras.ops.transpose, torch_tensor(call, value), moved) if moved[-1] != last else None
    tensor = torch_tensor(call, value) if tensor is None else tensor
    if not largest:
        tensor = call.op(keras.ops.negative, tensor)
    if static(k) is None:
        # Keras takes a number: all are sorted, and of these as many taken as there are at most.
        most = (*(slice(None),) * last, slice(None, _at_most(call, k, value.shape[dim])))
        positions = call.op(keras.ops.argsort, call.op(keras.ops.negative, tensor), axis=-1)
        positions = call.op(operator.getitem, positions, most)
        values = call.op(keras.ops.take_along_axis, tensor, positions, axis=-1)
    else:
        values, positions = call.op(keras.ops.top_k, tensor, static(k), sorted=True)
    if not largest:
        values = call.op(keras.ops.negative, values)
    return call.value(values, moved), call.value(positions, moved)


def _at_most(call: Call, k: Dim, size: Dim) -> int:
    """n, where k is the smaller of the axis's size and n."""
    expression = expression_of(k)
    number, *rest = expression.args if type(expression).__name__ == "Min" else (expression,)
    if not number.is_Integer or rest != [expression_of(size)]:
        raise call.unsupported(f"it takes the {expression} largest, a number that is not known before the model runs")
    return int(number)


@converts("sort.stable")
def stable_sort(call: Call, value: Value) -> tuple[Value, Value]:
    """Equal values in the order in which they were: so sorts TensorFlow too, whose top_k prefers the first of equals."""
    return sort(call, value, call.option("dim", -1), call.option("descending", False))


@converts("sort.default")
def sort(call: Call, value: Value, dim: int, descending: bool) -> tuple[Value, Value]:
    axis = value.axis(dim)
    tensor = call.op(keras.ops.negative, value.tensor) if descending else value.tensor
    positions = call.op(keras.ops.argsort, tensor, axis=axis)
    values = call.op(keras.ops.take_along_axis, value.tensor, positions, axis=axis)
    return call.value(values, value.order), call.value(positions, value.order)
