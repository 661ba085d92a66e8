"""Coordinates of elements: what gather, scatter and index_put have in common."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import keras
import numpy as np

from converter.torch_to_keras.call import Call
from converter.torch_to_keras.layout import torch_tensor
from converter.torch_to_keras.lengths import ones_along, size
from converter.torch_to_keras.materialize import materialize
from converter.torch_to_keras.values import Constant, Dim, KerasTensor, Value, known_size, same, static

__all__ = ["along_axis", "cut_to", "linear", "plain", "plus", "unique", "within"]


def plain(call: Call, value: Value | Constant, dtype: str | None = None) -> KerasTensor:
    """The tensor with PyTorch's order of axes, cast to `dtype` if given; of a constant too."""
    tensor = torch_tensor(call, materialize(call, value))
    return tensor if dtype in (None, tensor.dtype) else call.op(keras.ops.cast, tensor, dtype)


def within(call: Call, places: Value | Constant, dim: Dim) -> KerasTensor:
    """Places along an axis of that size, int32, negative ones counted from its end."""
    if isinstance(places, Constant) and static(dim) is not None:
        places = Constant(places.array % known_size(dim), places.shape)
        return plain(call, places, "int32")
    tensor = plain(call, places, "int32")
    from_end = plus(call, tensor, size(call, dim))
    return call.op(keras.ops.where, call.op(keras.ops.less, tensor, 0), from_end, tensor)


def _places_along(call: Call, tensor: KerasTensor, axis: int) -> KerasTensor | np.ndarray:
    """0, 1, 2, ... along an axis of the tensor, with as many axes as it has."""
    shape = [1] * len(tensor.shape)
    shape[axis] = -1
    if tensor.shape[axis] is not None:
        return np.arange(tensor.shape[axis], dtype="int32").reshape(shape)
    row = call.op(keras.ops.subtract, call.op(keras.ops.cumsum, ones_along(call, tensor, axis), axis=0), 1)
    return call.op(keras.ops.reshape, row, shape)


def along_axis(call: Call, index: KerasTensor, axis: int) -> KerasTensor:
    """(n, rank): the coordinates of what gather and scatter find at `index` (int32) along an axis, in its order."""
    zeros = call.op(keras.ops.zeros_like, index)
    coordinates = [
        index if place == axis else plus(call, zeros, _places_along(call, index, place))
        for place in range(len(index.shape))
    ]
    stacked = call.op(keras.ops.stack, coordinates, axis=-1)
    return call.op(keras.ops.reshape, stacked, (-1, len(index.shape)))


def cut_to(
    call: Call, tensor: KerasTensor, old: Sequence[Dim], index: KerasTensor, new: Sequence[Dim], axes: Sequence[int]
) -> KerasTensor:
    """The tensor of shape `old` without what lies beyond the shape `new` of `index`, along `axes`."""
    for axis in axes:
        if same(old[axis], new[axis]):
            continue
        if static(new[axis]) is not None:
            cut = (*(slice(None),) * axis, slice(0, static(new[axis])))
            tensor = call.op(operator.getitem, tensor, cut)
        else:
            places = call.op(keras.ops.reshape, _places_along(call, index, axis), (-1,))
            tensor = call.op(keras.ops.take, tensor, places, axis=axis)
    return tensor


def linear(call: Call, coordinates: Sequence[KerasTensor], sizes: Sequence[Dim]) -> KerasTensor:
    """The place in memory of elements of a tensor of these sizes, of coordinates that broadcast, one for each axis."""
    result = coordinates[0]
    for coordinate, dim in zip(coordinates[1:], sizes[1:], strict=True):
        result = plus(call, call.op(keras.ops.multiply, result, size(call, dim)), coordinate)
    return result


def unique(indices: Sequence[Value | Constant], sizes: Sequence[Dim]) -> bool:
    """Whether no place is named twice, as far as that is known before the model runs."""
    counts = [np.prod([static(dim) or 2 for dim in index.shape]) for index in indices]
    if max(counts) == 1:
        return True
    if not all(isinstance(index, Constant) and index.is_whole for index in indices) or None in map(static, sizes):
        return False
    known = [known_size(dim) for dim in sizes]
    fixed = [index.numpy for index in indices if isinstance(index, Constant)]
    arrays = np.broadcast_arrays(*(index % size for index, size in zip(fixed, known, strict=True)))
    places = np.ravel_multi_index(arrays, known)
    return len(np.unique(places)) == places.size


def plus(call: Call, a: KerasTensor, b: KerasTensor | np.ndarray | int) -> KerasTensor:
    """a + b, as a difference: Keras's add on TensorFlow (3.15) takes a second operand with one axis for a bias of channels."""
    return call.op(keras.ops.subtract, a, call.op(keras.ops.negative, b) if isinstance(b, keras.KerasTensor) else -b)
