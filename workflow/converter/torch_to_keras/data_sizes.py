"""Results whose size depends on the data: as many elements as a condition holds for."""

from __future__ import annotations

import math
import operator

import keras
import numpy as np

from converter.torch_to_keras.call import Call
from converter.torch_to_keras.layout import view
from converter.torch_to_keras.lengths import size
from converter.torch_to_keras.positions import plain
from converter.torch_to_keras.registry import converts
from converter.torch_to_keras.values import Constant, KerasTensor, Value

_Tensor = Value | Constant


@converts("nonzero.default")
def nonzero(call: Call, value: _Tensor) -> Value:
    """(n, rank): the coordinates of what is not zero, in the order of memory.

    Taken from the places in memory: TensorFlow Lite has no operator that takes coordinates of int64 apart (LiteRT 2.3).
    """
    flat = call.op(keras.ops.reshape, plain(call, value), (-1,))
    (places,) = call.op(keras.ops.nonzero, flat)
    places, coordinates = call.op(keras.ops.cast, places, "int32"), []
    for dim in reversed(value.shape[1:]):
        length = size(call, dim)
        coordinates.append(call.op(keras.ops.mod, places, length))
        places = call.op(keras.ops.floor_divide, places, length)
    coordinates.append(places)
    tensor = call.op(keras.ops.stack, coordinates[::-1], axis=-1)
    return call.value(call.op(keras.ops.cast, tensor, call.dtype))


@converts("masked_select.default")
def masked_select(call: Call, value: _Tensor, mask: _Tensor) -> Value:
    """The elements for which a condition holds, in the order of memory."""
    tensor, condition = plain(call, value), plain(call, mask)
    everywhere = call.op(keras.ops.logical_or, condition, call.op(keras.ops.ones_like, tensor, dtype="bool"))
    held = call.op(keras.ops.logical_and, everywhere, condition)
    spread = call.op(keras.ops.where, everywhere, tensor, tensor)
    (places,) = call.op(keras.ops.nonzero, call.op(keras.ops.reshape, held, (-1,)))
    return call.value(call.op(keras.ops.take, call.op(keras.ops.reshape, spread, (-1,)), places, axis=0))


@converts("_unique2.default", "unique_consecutive.default")
def unique(call: Call, value: Value, *flags: object) -> tuple[Value, Value | None, Value | None]:
    """The different values in ascending order, for each element the place of its own, and how often each occurs."""
    if call.operator.startswith("aten.unique_consecutive"):
        raise call.unsupported("runs of equal values are not counted here")
    flat = view(call, value, (math.prod(value.shape),)).tensor
    ascending = call.op(keras.ops.sort, flat)
    later, earlier = (call.op(operator.getitem, ascending, (part,)) for part in (slice(1, None), slice(None, -1)))
    # Whether an element is the last of its value; the last of all is, where there is one.
    last = call.op(keras.ops.concatenate, [call.op(keras.ops.not_equal, later, earlier), np.ones(1, bool)], axis=0)
    (places,) = call.op(keras.ops.nonzero, last)
    different = call.op(keras.ops.take, ascending, places, axis=0)
    results = [call.value(different), None, None]
    if call.uses(1) or call.uses(2):
        column = call.op(keras.ops.expand_dims, flat, 1)
        if call.uses(1):
            below = call.op(keras.ops.less, call.op(keras.ops.expand_dims, different, 0), column)
            results[1] = _shaped(call, 1, _count(call, below, 1))
        if call.uses(2):
            alike = call.op(keras.ops.equal, call.op(keras.ops.expand_dims, different, 0), column)
            results[2] = _shaped(call, 2, _count(call, alike, 0))
    return tuple(results)


def _count(call: Call, held: KerasTensor, axis: int) -> KerasTensor:
    return call.op(keras.ops.sum, call.op(keras.ops.cast, held, "int64"), axis=axis)


def _shaped(call: Call, place: int, tensor: KerasTensor) -> Value:
    """A flat tensor in the shape of one of the results."""
    shape = tuple(call.result[place].shape)  # type: ignore[index]
    return view(call, Value(tensor, (math.prod(shape),), (0,)), shape)
