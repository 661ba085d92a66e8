"""Views, permutations, and copies that Keras need not make."""

from __future__ import annotations

import math

import keras
import numpy as np
from keras import layers

from converter.torch_to_keras.call import Call
from converter.torch_to_keras.flatten import flatten_for_linear
from converter.torch_to_keras.indexing import take_axis
from converter.torch_to_keras.layout import channels_last_tensor, view
from converter.torch_to_keras.naming import innermost_module
from converter.torch_to_keras.pending import Pending, carried_out, lazily_permuted, lazily_viewed
from converter.torch_to_keras.registry import converts
from converter.torch_to_keras.values import Value, channels_last, known_size, static


@converts("view.default", "_unsafe_view.default", "reshape.default", "unflatten.int", "flatten.using_ints", lazy=True)
def reshape(call: Call, value: Value | Pending, *_: object) -> Value | Pending:
    """The same values in another shape, which the program knows."""
    flat = flatten_for_linear(call, value) if isinstance(value, Value) else None
    return flat or lazily_viewed(call, value, call.shape)


@converts("unsqueeze.default", "squeeze.default", "squeeze.dim", "squeeze.dims", lazy=True)
def squeeze(call: Call, value: Value | Pending, *_: object) -> Value | Pending:
    """The same values with axes of size one taken away or added."""
    return lazily_viewed(call, value, call.shape)


@converts("permute.default", lazy=True)
def permute(call: Call, value: Value | Pending, dims: list[int]) -> Value | Pending:
    """Axes in the order of `dims`."""
    return lazily_permuted(value, dims)


@converts("transpose.int", lazy=True)
def transpose(call: Call, value: Value | Pending, first: int, second: int) -> Value | Pending:
    """Two axes exchanged."""
    dims = list(range(len(value.shape)))
    dims[first], dims[second] = dims[second], dims[first]
    return lazily_permuted(value, dims)


@converts("t.default", lazy=True)
def matrix_transpose(call: Call, value: Value | Pending) -> Value | Pending:
    """Axes in reverse."""
    return lazily_permuted(value, range(len(value.shape) - 1, -1, -1))


@converts(
    "clone.default", "contiguous.default", "alias.default", "detach.default", "lift_fresh_copy.default", lazy=True
)  # fmt: skip
def copy(call: Call, value: Value | Pending, *_: object) -> Value | Pending:
    """Nothing, unless it is what decomposing leaves of a Dropout."""
    path, module = innermost_module(call.node)
    if not module.startswith("torch.nn.modules.dropout."):
        return value
    rate = call.conversion.dropouts.get(path, 0.0)
    return _dropout(call, carried_out(call, value), rate, per_channel=not module.endswith(".Dropout"))


@converts("dropout.default", "feature_dropout.default")
def dropout(call: Call, value: Value, rate: float, *_: object) -> Value:
    """A Dropout layer, inactive in inference, where the rate and the dtype call for one."""
    return _dropout(call, value, rate, per_channel=call.operator.startswith("aten.feature_dropout"))


def _dropout(call: Call, value: Value, rate: float, *, per_channel: bool) -> Value:
    """A rate for further training, inactive in inference."""
    if not 0.0 < rate < 1.0 or not value.is_float:
        return value
    # A fixed seed, because Keras stores its random state in the file and files should not vary.
    config = {"rate": rate, "seed": len(call.conversion.known)}
    if not per_channel:
        return value.like(call.layer(layers.Dropout, value.tensor, **config), nonnegative=value.nonnegative)
    rank = len(value.shape)
    cls = {3: layers.SpatialDropout1D, 4: layers.SpatialDropout2D, 5: layers.SpatialDropout3D}.get(rank)
    if cls is None:
        return value
    tensor = call.layer(cls, channels_last_tensor(call, value), **config)
    return Value(tensor, value.shape, channels_last(rank), value.nonnegative)


@converts("_to_copy.default", "to.dtype")
def to_dtype(call: Call, value: Value, *_: object) -> Value:
    """Converted to the dtype of the result."""
    if str(value.tensor.dtype) == call.dtype:
        return value
    if call.layers_only and call.dtype == "float32" and "int" in value.tensor.dtype:
        return value.like(call.layer(layers.Rescaling, value.tensor, scale=1.0))
    if call.dtype == "bool":
        return value.like(call.op(keras.ops.not_equal, value.tensor, 0))
    return value.like(call.op(keras.ops.cast, value.tensor, call.dtype), nonnegative=value.nonnegative)


@converts("as_strided.default")
def as_strided(call: Call, value: Value, size: list[int], stride: list[int], offset: int | None) -> Value:
    """Elements of a tensor as they lie in memory, at fixed steps."""
    source = call.node.all_input_nodes[0].meta["val"]
    if not source.is_contiguous() or any(static(dim) is None for dim in (*source.shape, *size, *stride, offset or 0)):
        raise call.unsupported("it reads memory that is laid out in another way than the tensor, or of unknown size")
    places = np.full((), static(offset or 0))
    for count, step in zip(size, stride, strict=True):
        places = np.add.outer(places, np.arange(known_size(count)) * known_size(step))
    flat = view(call, value, (math.prod(value.shape),))
    return view(call, take_axis(call, flat, 0, places.reshape(-1)), call.shape)
