"""Embeddings."""

from __future__ import annotations

from keras import layers

from converter.torch_to_keras.call import Call
from converter.torch_to_keras.registry import converts
from converter.torch_to_keras.values import Constant, Value


@converts("embedding.default")
def embedding(call: Call, weight: Constant, indices: Value | Constant, *_: object) -> Value | Constant:
    """Rows of `weight` (entries, features) by index."""
    if not isinstance(weight, Constant):
        raise call.unsupported("its table depends on the inputs")
    if isinstance(indices, Constant):  # one kind of token throughout, as many as there are tokens
        rows = weight.array[indices.array.long()]
        return Constant(rows, (*indices.shape, weight.shape[-1]), trainable=weight.trainable)
    table = weight.numpy
    tensor = call.layer(
        layers.Embedding,
        indices.tensor,
        input_dim=table.shape[0],
        output_dim=table.shape[1],
        weights=[table],
        parameters=[weight.name],
        dtype=None if call.dtype == "float32" else call.dtype,
    )
    return call.value(tensor, (*indices.order, len(indices.shape)))
