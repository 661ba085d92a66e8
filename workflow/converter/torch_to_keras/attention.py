"""Scaled dot-product attention."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import torch
from keras import layers

from converter.torch_to_keras.activations import rescale
from converter.torch_to_keras.call import Call
from converter.torch_to_keras.indexing import take_axis
from converter.torch_to_keras.layout import ordered, view
from converter.torch_to_keras.parameter_layers import affine
from converter.torch_to_keras.registry import converts
from converter.torch_to_keras.slicing import select_axis
from converter.torch_to_keras.values import Constant, Dim, Value, static

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
        key, value = (_for_each_query(call, query, x) for x in (key, value))
    scale = call.option("scale")
    scale = 1 / math.sqrt(static(query.shape[-1])) if scale is None else scale
    rank = len(query.shape)
    if rank not in (3, 4):
        raise call.unsupported(f"its inputs have {rank} axes, Keras's attention takes 4")
    if rank == 3:
        query, key, value = (view(call, x, (x.shape[0], 1, *x.shape[1:])) for x in (query, key, value))
    if call.layers_only or query.shape[-1] != value.shape[-1]:  # Keras 3.15 gives its result the size of the queries
        result = _by_heads(call, query, key, value, mask, causal, scale)
    else:
        options = _mask_option(call, mask, rank) | {"is_causal": causal, "scale": float(scale)}
        tensors = [ordered(call, x, _STORED) for x in (query, key, value)]
        tensor = call.op(keras.ops.dot_product_attention, *tensors, **options)
        result = Value(tensor, (*query.shape[:3], value.shape[3]), _STORED)
    return view(call, result, call.shape)


def _for_each_query(call: Call, query: Value, value: Value) -> Value:
    """Keys or values, of which there are fewer heads than of queries, once for each of these."""
    heads, own = static(query.shape[-3]), static(value.shape[-3])
    if heads is None or own is None:
        raise call.unsupported("grouped queries with an unknown number of heads")
    return take_axis(call, value, -3, np.repeat(np.arange(own), heads // own))


def _mask_option(call: Call, mask: Value | Constant | None, rank: int) -> dict[str, Any]:
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
    """Dot, Softmax and Dot for each head, for files that hold layers only.

    No Attention layer: Keras 3.15 takes its score_mode "dot" in an HDF5 file for the function of that name, and fails.
    """
    heads = static(query.shape[1])
    biases = _biases(call, query.shape, key.shape, mask, causal)
    scaled = rescale(call, query, scale)
    outputs = []
    for head in range(heads):
        q, k, v = (ordered(call, select_axis(call, x, 1, head), (0, 1, 2)) for x in (scaled, key, value))
        scores = Value(call.layer(layers.Dot, [q, k], axes=(2, 2)), (*query.shape[::2], key.shape[2]), (0, 1, 2))
        if biases is not None:
            masked = affine(call, scores, shift=Constant(biases[head], tuple(biases[head].shape)))
            if masked is None:
                raise call.unsupported("a mask of one element")
            scores = masked
        weights = call.layer(layers.Softmax, scores.tensor, axis=-1)
        outputs.append(call.layer(layers.Dot, [weights, v], axes=(2, 1)))
    shape = (query.shape[0], query.shape[2], heads * static(value.shape[3]))
    tensor = outputs[0] if heads == 1 else call.layer(layers.Concatenate, outputs, axis=-1)
    split = view(call, Value(tensor, shape, (0, 1, 2)), (*shape[:2], heads, static(value.shape[3])))
    return Value(split.tensor, (*query.shape[:3], value.shape[3]), _STORED)


def _biases(
    call: Call, query: tuple[Dim, ...], key: tuple[Dim, ...], mask: Value | Constant | None, causal: bool
) -> torch.Tensor | None:
    """What is added to the scores, as (heads, T, S): the mask, large and negative where nothing is to be seen."""
    if mask is None and not causal:
        return None
    sizes = [static(dim) for dim in (query[1], query[2], key[2])]
    if isinstance(mask, Value) or None in sizes:
        raise call.unsupported("HDF5 files cannot hold a mask that depends on the inputs: convert to .keras instead")
    if causal:
        array = torch.ones(sizes[1:], dtype=torch.bool).tril()
    else:
        array = mask.array
        if array.dim() > 2 and array.shape[0] != 1:
            raise call.unsupported(
                "HDF5 files cannot hold a mask that differs within a batch: convert to .keras instead"
            )
        array = array[0] if array.dim() == 4 or (array.dim() == 3 and sizes[0] == 1) else array
    if array.dtype == torch.bool:
        array = torch.where(array, 0.0, -math.inf)
    return array.clamp(min=torch.finfo(torch.float32).min / 2).expand(sizes)
