"""Where a value stands among known keys, in operators that every target has: comparisons, gathers, selections."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from converter.tf.graph.rewrite import Emitter

__all__ = ["TEXT_INDEX", "emit_index", "is_searchable"]

TEXT_INDEX = "_converter_text_index"
"""Attribute of the node that holds positions among texts; its first input is Equal(GatherV2(keys, ...), texts).

ONNX has an operator for the whole of it, and none for its parts.
"""

_BUCKETS = 2**63 - 1
_INTEGERS = (tf.int32, tf.int64)


def is_searchable(dtype: tf.DType) -> bool:
    """Whether keys of this dtype can be looked up by comparison."""
    return dtype in (*_INTEGERS, tf.string)


def emit_index(emit: Emitter, tensor: str, dtype: tf.DType, keys: np.ndarray) -> str:
    """For each element of `tensor`, int32: 1 + its position in `keys` (distinct, of any order), 0 where it is not there."""
    if dtype == tf.string:
        return _text_index(emit, tensor, keys)
    order = np.argsort(keys, kind="stable")
    if not np.array_equal(order, np.arange(len(keys))):
        return emit(
            *("GatherV2", emit.const([0, *(order + 1)], tf.int32), emit_index(emit, tensor, dtype, keys[order])),
            *(emit.const(0, tf.int32),),
            **_gather_types(tf.int32),
        )
    if not len(keys):
        # Zeros of the tensor's shape.
        same = emit("Equal", tensor, emit.const(0, dtype), T=dtype, incompatible_shape_error=True)
        return _select(emit, same, emit.const(0, tf.int32), emit.const(0, tf.int32))
    if _is_dense(keys, dtype):
        return _dense_index(emit, tensor, dtype, keys)
    position, key = _position(emit, tensor, dtype, keys)
    found = emit("Equal", key, tensor, T=dtype, incompatible_shape_error=True)
    return _select(emit, found, _successor(emit, position), emit.const(0, tf.int32))


def _is_dense(keys: np.ndarray, dtype: tf.DType) -> bool:
    """Whether one small array can hold a place for every number between the smallest and the largest key."""
    low, high = int(keys[0]), int(keys[-1])
    return low > dtype.min and high < dtype.max and high - low < 4 * len(keys) + 64


def _dense_index(emit: Emitter, tensor: str, dtype: tf.DType, keys: np.ndarray) -> str:
    low, high = int(keys[0]), int(keys[-1])
    places = np.zeros(high - low + 1, np.int32)
    places[keys - low] = np.arange(1, len(keys) + 1)
    above = emit("Greater", tensor, emit.const(low - 1, dtype), T=dtype)
    below = emit("Less", tensor, emit.const(high + 1, dtype), T=dtype)
    inside = emit("LogicalAnd", above, below)
    first = emit.const(low, dtype)
    safe = emit("SelectV2", inside, tensor, first, T=dtype)
    offset = emit("Sub", safe, first, T=dtype)
    place = emit(
        *("GatherV2", emit.const(places, tf.int32), offset, emit.const(0, tf.int32)),
        **_gather_types(tf.int32, dtype),
    )
    return _select(emit, inside, place, emit.const(0, tf.int32))


def _position(emit: Emitter, tensor: str, dtype: tf.DType, keys: np.ndarray) -> tuple[str, str]:
    """The position of the last of the sorted `keys` that is not above the value, 0 where all are, and that key.

    Bisection, one step for each binary digit of the number of keys; the last key fills them up to a power of two.
    """
    steps = (len(keys) - 1).bit_length()
    count = 1 << steps
    table = emit.const(np.concatenate([keys, np.repeat(keys[-1:], count - len(keys))]), dtype)

    def key_at(position: str) -> str:
        return emit("GatherV2", table, position, emit.const(0, tf.int32), **_gather_types(dtype))

    position = emit.const(0, tf.int32)
    for step in reversed(range(steps)):
        further = emit("AddV2", position, emit.const(1 << step, tf.int32), T=tf.int32)
        reached = emit("LessEqual", key_at(further), tensor, T=dtype)
        position = _select(emit, reached, further, position)
    last = emit("Minimum", position, emit.const(len(keys) - 1, tf.int32), T=tf.int32)
    return last, key_at(last)


def _text_index(emit: Emitter, tensor: str, keys: np.ndarray) -> str:
    """By the texts' hashes, of which no two keys share one, and then a comparison with the key found."""
    if not len(keys):
        same = emit("Equal", tensor, emit.const(b"", tf.string), T=tf.string, incompatible_shape_error=True)
        return _select(emit, same, emit.const(0, tf.int32), emit.const(0, tf.int32))
    buckets, hashes = _distinct_hashes(keys)
    order = np.argsort(hashes)
    hashed = emit("StringToHashBucketFast", tensor, num_buckets=buckets)
    index = emit_index(emit, hashed, tf.int64, hashes[order])  # 0 where no key has this hash
    # Position 0 of the padded keys is any key: the comparison below also asks for an index.
    texts = emit.const(np.concatenate([keys[order[:1]], keys[order]]), tf.string)
    key = emit("GatherV2", texts, index, emit.const(0, tf.int32), **_gather_types(tf.string))
    found = emit("Equal", key, tensor, T=tf.string, incompatible_shape_error=True)
    places = emit.const([0, *(order + 1)], tf.int32)
    place = emit("GatherV2", places, index, emit.const(0, tf.int32), **_gather_types(tf.int32))
    result = _select(emit, found, place, emit.const(0, tf.int32))
    emit.added[-1].attr[TEXT_INDEX].b = True
    return result


def _distinct_hashes(keys: np.ndarray) -> tuple[int, np.ndarray]:
    buckets = _BUCKETS
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:  # whatever graph is being read just now
        while True:
            hashes = session.run(tf.raw_ops.StringToHashBucketFast(input=list(keys), num_buckets=buckets))
            if len(np.unique(hashes)) == len(keys):
                return buckets, hashes
            buckets -= 1


def _successor(emit: Emitter, tensor: str) -> str:
    return emit("AddV2", tensor, emit.const(1, tf.int32), T=tf.int32)


def _select(emit: Emitter, condition: str, then: str, otherwise: str) -> str:
    return emit("SelectV2", condition, then, otherwise, T=tf.int32)


def _gather_types(params: tf.DType, indices: tf.DType = tf.int32) -> dict[str, tf.DType]:
    return {"Tparams": params, "Tindices": indices, "Taxis": tf.int32}
