"""Tensors with a slice, a row or a diagonal written anew."""

from __future__ import annotations

import operator

import keras
import numpy as np

from converter.torch_to_keras.call import Call
from converter.torch_to_keras.indexing import take_axis
from converter.torch_to_keras.layout import ordered, view
from converter.torch_to_keras.materialize import materialize
from converter.torch_to_keras.registry import converts
from converter.torch_to_keras.slicing import known_bound, known_place
from converter.torch_to_keras.values import Constant, Value, same, static


@converts("slice_scatter.default")
def slice_scatter(
    call: Call,
    value: Value | Constant,
    source: Value | Constant,
    dim: int,
    start: int | None,
    stop: int | None,
    step: int,
) -> Value:
    """The tensor with a slice of it written anew: what lies before, the new values, and what lies behind."""
    value, source = materialize(call, value), materialize(call, source)
    dim %= len(value.shape)
    if source.tensor.dtype != call.dtype:
        source = source.like(call.op(keras.ops.cast, source.tensor, call.dtype))
    if same(source.shape[dim], value.shape[dim]):
        return source
    size, order = static(value.shape[dim]), value.order
    parts = [value.tensor, ordered(call, source, order)]
    place = value.axis(dim)
    if size is not None:
        written = np.arange(size)
        span = range(size)[slice(known_bound(call, start), known_bound(call, stop), step)]
        written[span] = size + np.arange(len(span))
        joined = call.op(keras.ops.concatenate, parts, axis=place)
        both = Value(joined, (*value.shape[:dim], size + len(span), *value.shape[dim + 1 :]), order)
        return take_axis(call, both, dim, written)
    to_the_end = stop is None or (static(stop) or 0) >= 2**62
    if step != 1 or not (to_the_end or start in (None, 0)):
        raise call.unsupported("it writes a slice in the midst of an axis of unknown size")
    kept = slice(None, known_bound(call, start)) if to_the_end else slice(known_bound(call, stop), None)
    parts[0] = call.op(operator.getitem, value.tensor, (*(slice(None),) * place, kept))
    tensor = call.op(keras.ops.concatenate, parts if to_the_end else parts[::-1], axis=place)
    return Value(tensor, value.shape, order)


@converts("select_scatter.default")
def select_scatter(call: Call, value: Value | Constant, source: Value | Constant, dim: int, index: int) -> Value:
    """The tensor with one row along an axis written anew."""
    dim %= len(value.shape)
    source = materialize(call, source)
    row = view(call, source, (*value.shape[:dim], 1, *value.shape[dim + 1 :]))
    place = known_place(call, index)
    return slice_scatter(call, value, row, dim, place, None if place == -1 else place + 1, 1)
