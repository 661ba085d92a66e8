"""Scaled dot-product attention."""

from __future__ import annotations

import math

import keras
from keras import layers

from converter.torch_to_keras.activations import rescale
from converter.torch_to_keras.call import Call
from converter.torch_to_keras.layout import ordered, view
from converter.torch_to_keras.registry import converts
from converter.torch_to_keras.slicing import select_axis
from converter.torch_to_keras.values import Constant, Value, static

_STORED = (0, 2, 1, 3)  # (N, length, heads, size), as Keras wants it and as projections leave it


@converts("scaled_dot_product_attention.default")
def attention(
    call: Call,
    query: Value,
    key: Value,
    value: Value,
    mask: Value | Constant | None,
    dropout: float = 0.0,
    causal: bool = False,
) -> Value:
    """query (N, heads, T, size), key and value (N, heads, S, size)."""
    if call.option("enable_gqa", False):
        raise call.unsupported("grouped queries")
    scale = call.option("scale")
    scale = 1 / math.sqrt(static(query.shape[-1])) if scale is None else scale
    rank = len(query.shape)
    if rank not in (3, 4):
        raise call.unsupported(f"its inputs have {rank} axes, Keras's attention takes 4")
    if rank == 3:
        query, key, value = (view(call, x, (x.shape[0], 1, *x.shape[1:])) for x in (query, key, value))
    if call.layers_only:
        result = _by_heads(call, query, key, value, mask, causal, scale)
    else:
        options = _mask_option(call, mask, rank) | {"is_causal": causal, "scale": float(scale)}
        tensors = [ordered(call, x, _STORED) for x in (query, key, value)]
        tensor = call.op(keras.ops.dot_product_attention, *tensors, **options)
        result = Value(tensor, (*query.shape[:3], value.shape[3]), _STORED)
    return view(call, result, call.shape)


def _mask_option(call: Call, mask: Value | Constant | None, rank: int) -> dict[str, object]:
    """A mask that broadcasts to (N, heads, T, S): added if it is of floats, True where to look if of booleans."""
    if mask is None:
        return {}
    if isinstance(mask, Constant):
        array = mask.numpy
        array = array if rank == 4 or array.ndim < 3 else array[:, None]
        array = array.reshape((1,) * (4 - array.ndim) + array.shape)
        return {"mask" if array.dtype == bool else "bias": array}
    if rank == 3 and len(mask.shape) == 3:
        mask = view(call, mask, (mask.shape[0], 1, *mask.shape[1:]))
    mask = view(call, mask, (1,) * (4 - len(mask.shape)) + mask.shape)
    return {"mask" if mask.tensor.dtype == "bool" else "bias": ordered(call, mask, range(4))}


def _by_heads(
    call: Call,
    query: Value,
    key: Value,
    value: Value,
    mask: Value | Constant | None,
    causal: bool,
    scale: float,
) -> Value:
    """One Attention layer per head, for files that hold layers only."""
    if mask is not None:
        raise call.unsupported("HDF5 files cannot hold attention with a mask: convert to .keras instead")
    heads = static(query.shape[1])
    outputs = []
    for head in range(heads):
        parts = [select_axis(call, x, 1, head) for x in (rescale(call, query, scale), value, key)]
        tensors = [ordered(call, part, (0, 1, 2)) for part in parts]
        outputs.append(call.layer(layers.Attention, tensors, call={"use_causal_mask": True} if causal else None))
    shape = (query.shape[0], query.shape[2], heads * static(value.shape[3]))
    tensor = outputs[0] if heads == 1 else call.layer(layers.Concatenate, outputs, axis=-1)
    split = view(call, Value(tensor, shape, (0, 1, 2)), (*shape[:2], heads, static(value.shape[3])))
    return Value(split.tensor, (*query.shape[:3], value.shape[3]), _STORED)
