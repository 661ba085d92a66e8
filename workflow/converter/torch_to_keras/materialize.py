"""A constant where a tensor of the model is needed: a class token, positions, a state that is learned."""

from __future__ import annotations

import math

import keras
import numpy as np

from converter.torch_to_keras.call import Call
from converter.torch_to_keras.layout import reshape_tensor
from converter.torch_to_keras.values import Constant, KerasTensor, Value, same, static

__all__ = ["materialize"]


def materialize(call: Call, value: Value | Constant) -> Value:
    """The constant as a tensor of the model whose first axis is the batch.

    Its values are the bias of a Dense layer that is fed zeros, one per row of the batch, so that they can be trained.
    """
    if isinstance(value, Value):
        return value
    if not value.shape or any(static(dim) is None for dim in value.shape[1:]):
        raise call.unsupported(f"a constant of shape {list(value.shape)} would have to be a tensor of its own")
    array = value.numpy
    array = array.reshape((1,) * (len(value.shape) - array.ndim) + array.shape)
    if array.shape[0] != 1:
        raise call.unsupported(f"a constant of shape {list(value.shape)} varies along the batch")
    row = np.ascontiguousarray(np.broadcast_to(array, (1, *(static(dim) for dim in value.shape[1:])))).reshape(-1)
    tensor = _dense(call, _zeros(call, value), row, value) if "float" in str(array.dtype) else None
    if tensor is None:
        tensor = call.op(keras.ops.add, call.op(keras.ops.cast, _zeros(call, value), str(array.dtype)), row[None])
    flat = (value.shape[0], math.prod(value.shape[1:]))
    tensor = reshape_tensor(call, tensor, flat, value.shape)
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


def _zeros(call: Call, value: Constant) -> KerasTensor:
    """A zero for each row of the batch, (N, 1), from an input with that batch."""
    key = str(value.shape[0])
    cache = call.conversion.batch_zeros
    if key in cache:
        return cache[key]
    for source in call.conversion.inputs:
        if source.order and source.order[0] == 0 and same(source.shape[0], value.shape[0]):
            break
    else:
        raise call.unsupported(f"no input has the leading size {value.shape[0]} of a constant")
    tensor, layers = source.tensor, keras.layers
    # Integers first become floats; a NaN or an infinity in the one element that is read would spread.
    if len(source.shape) == 1:
        tensor = call.layer(layers.Reshape, tensor, target_shape=(1,))
    elif len(source.shape) > 2 or static(source.shape[1]) != 1:
        tensor = call.layer(layers.Reshape, tensor, target_shape=(-1, 1))
        tensor = call.layer(layers.GlobalMaxPooling1D, call.layer(layers.Rescaling, tensor, scale=0.0))
    cache[key] = call.layer(layers.Rescaling, tensor, scale=0.0)
    return cache[key]
