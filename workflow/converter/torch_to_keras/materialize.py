"""A constant where a tensor of the model is needed: a class token, positions, a state that is learned."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import numpy as np

from converter.torch_to_keras.call import Call
from converter.torch_to_keras.layout import reshape_tensor
from converter.torch_to_keras.lengths import ones, ones_along
from converter.torch_to_keras.values import Constant, Dim, KerasTensor, Value, known_size, same, static

__all__ = ["materialize"]


def materialize(call: Call, value: Value | Constant) -> Value:
    """The constant as a tensor of the model whose first axis in Keras is the batch: the axis of unknown size, else the first.

    Its values are the bias of a Dense layer that is fed zeros, one per row of the batch, so that they can be trained.
    """
    if isinstance(value, Value):
        return value
    unknown = [axis for axis, dim in enumerate(value.shape) if static(dim) is None]
    if not value.shape or len(unknown) > 1 or 0 in value.array.shape:
        return _selected(call, value, unknown)
    batch = unknown[0] if unknown else 0
    order = (batch, *(axis for axis in range(len(value.shape)) if axis != batch))
    array = value.numpy
    array = array.reshape((1,) * (len(value.shape) - array.ndim) + array.shape).transpose(order)
    if array.shape[0] != 1 or not _has_batch(call, value.shape[batch]):
        return _selected(call, value, unknown)
    size, *sizes = (value.shape[axis] for axis in order)
    row = np.ascontiguousarray(np.broadcast_to(array, (1, *map(static, sizes)))).reshape(-1)
    zeros = _zeros(call, size)
    tensor = _dense(call, zeros, row, value) if "float" in str(array.dtype) else None
    if tensor is None and row.dtype == bool:  # which nothing adds
        tensor = call.op(keras.ops.logical_or, call.op(keras.ops.cast, zeros, "bool"), row[None])
    elif tensor is None:
        tensor = call.op(keras.ops.add, call.op(keras.ops.cast, zeros, str(array.dtype)), row[None])
    tensor = reshape_tensor(call, tensor, (size, math.prod(sizes)), (size, *sizes))
    return Value(tensor, value.shape, order)


def _has_batch(call: Call, size: Dim) -> bool:
    return any(
        source.order and source.order[0] == 0 and same(source.shape[0], size) for source in call.conversion.inputs
    )


def _selected(call: Call, value: Constant, unknown: Sequence[int]) -> Value:
    """A tensor that no layer holds: the array, chosen by a condition of the input's size that always holds."""
    array = value.numpy.reshape((1,) * (len(value.shape) - value.array.dim()) + tuple(value.array.shape))
    array = np.broadcast_to(array, [1 if axis in unknown else known_size(dim) for axis, dim in enumerate(value.shape)])
    tensor = call.conversion.inputs[0].tensor
    row = ones_along(call, tensor, 0) if tensor.shape else call.op(keras.ops.ones_like, tensor, dtype="int32")
    none = call.op(keras.ops.multiply, row, 0)
    condition = call.op(keras.ops.equal, call.op(keras.ops.sum, none), 0)
    for axis in unknown:
        along = call.op(keras.ops.greater, ones(call, value.shape[axis]), 0)
        along = call.op(keras.ops.reshape, along, (-1, *(1,) * (len(value.shape) - axis - 1)))
        condition = call.op(keras.ops.logical_and, condition, along)
    tensor = call.op(keras.ops.where, condition, np.ascontiguousarray(array), np.ascontiguousarray(array))
    return Value(tensor, value.shape, tuple(range(len(value.shape))))


def _dense(call: Call, zeros: KerasTensor, row: np.ndarray, value: Constant) -> KerasTensor:
    weights = [np.zeros((1, row.size), row.dtype), row]
    return call.layer(
        keras.layers.Dense,
        zeros,
        units=row.size,
        weights=weights,
        trainable=value.trainable,
        name=call.name("constant", value.name and value.name + ".value"),
        dtype=str(row.dtype) if row.dtype != np.float32 else None,
    )


def _zeros(call: Call, size: Dim) -> KerasTensor:
    """A zero for each row of the batch, (N, 1), from an input with that batch."""
    key = str(size)
    cache = call.conversion.batch_zeros
    if key in cache:
        return cache[key]
    for source in call.conversion.inputs:
        if source.order and source.order[0] == 0 and same(source.shape[0], size):
            break
    else:
        raise call.unsupported(f"no input has the leading size {size} of a constant")
    tensor, layers = source.tensor, keras.layers
    # Integers first become floats; a NaN or an infinity in the one element that is read would spread.
    if len(source.shape) == 1:
        tensor = call.layer(layers.Reshape, tensor, target_shape=(1,))
    elif len(source.shape) > 2 or static(source.shape[1]) != 1:
        tensor = call.layer(layers.Reshape, tensor, target_shape=(-1, 1))
        tensor = call.layer(layers.GlobalMaxPooling1D, call.layer(layers.Rescaling, tensor, scale=0.0))
    cache[key] = call.layer(layers.Rescaling, tensor, scale=0.0)
    return cache[key]
