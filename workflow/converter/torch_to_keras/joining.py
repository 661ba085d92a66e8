"""Joining and repeating."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import torch
from keras import layers

from converter.torch_to_keras.call import Call
from converter.torch_to_keras.layout import ordered, view
from converter.torch_to_keras.lengths import counting, size
from converter.torch_to_keras.materialize import materialize
from converter.torch_to_keras.pending import Pending
from converter.torch_to_keras.registry import converts
from converter.torch_to_keras.values import (
    Constant,
    Dim,
    KerasTensor,
    Value,
    known_size,
    magnitude,
    same,
    same_shape,
    static,
)

_BROADCASTING = [
    "add",
    "sub",
    "mul",
    "div",
    "rsub",
    "where",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "maximum",
    "minimum",
    "pow",
]
_MOST_COPIES = 8


@converts("cat.default")
def concatenate(call: Call, values: Sequence[Value | Constant], dim: int = 0) -> Value:
    """One after the other along an axis, laid out as the largest of them."""
    # PyTorch skips tensors of shape (0,) whatever the others' rank.
    values = [value for value in values if not (len(value.shape) == 1 and static(value.shape[0]) == 0)]
    dim %= len(call.shape)
    values = [value for value in values if static(value.shape[dim]) != 0] or values[:1]
    values = [materialize(call, value) for value in values]
    largest = max(values, key=lambda value: math.prod(map(magnitude, value.shape)))
    order = largest.order
    tensors = [ordered(call, value, order) for value in values]
    tensors = [t if t.dtype == call.dtype else call.op(keras.ops.cast, t, call.dtype) for t in tensors]
    place = order.index(dim)
    if len(tensors) == 1:
        tensor = tensors[0]
    elif place == 0:
        tensor = call.op(keras.ops.concatenate, tensors, axis=0)
    else:
        tensor = call.layer(layers.Concatenate, tensors, axis=place)
    return Value(
        tensor, call.shape, order, all(value.nonnegative for value in values), parts=_rows(values) if dim == 0 else None
    )


def _rows(parts: Sequence[Value]) -> tuple[Value, ...] | None:
    """The slices along axis 0 of what was joined along it, if each part knows its own."""
    if any(part.parts is None for part in parts):
        return None
    return tuple(row for part in parts for row in part.parts)


@converts("stack.default")
def stack(call: Call, values: Sequence[Value | Constant], dim: int = 0) -> Value:
    """One after the other along a new axis."""
    dim %= len(call.shape)
    widened = []
    for value in values:
        value = materialize(call, value)
        widened.append(view(call, value, (*value.shape[:dim], 1, *value.shape[dim:])))
    return concatenate(call, widened, dim)


@converts("expand.default")
def expand(call: Call, value: Value, *_: object) -> Value:
    """Copies along axes of size 1, unless all that follows broadcasts by itself."""
    shape = call.shape
    value = view(call, value, (1,) * (len(shape) - len(value.shape)) + value.shape)
    if call.node.users and all(_broadcasts(call, user) for user in call.node.users):
        return value
    return _repeated(call, value, [None if same(a, b) else b for a, b in zip(value.shape, shape, strict=True)])


def _broadcasts(call: Call, user: torch.fx.Node) -> bool:
    """Whether the operation broadcasts the tensor against another that has the result's shape already."""
    others = [argument for argument in user.all_input_nodes if argument is not call.node]
    shapes = [getattr(other.meta.get("val"), "shape", ()) for other in others]
    others_are_values = all(isinstance(call.conversion.values.get(other), Value | Pending) for other in others)
    name = str(user.target).removeprefix("aten.").split(".")[0]
    return name in _BROADCASTING and others_are_values and any(same_shape(s, user.meta["val"].shape) for s in shapes)


def _repeated(call: Call, value: Value, counts: Sequence[Any]) -> Value:
    """The whole tensor `counts[axis]` times behind itself along each of PyTorch's axes, None for once."""
    for axis, count in enumerate(counts):
        if count is None or static(count) == 1:
            continue
        place = value.axis(axis)
        if static(count) is None:
            tensor = _taken_again(call, value, axis, count)
            value = Value(tensor, _resized(value, axis, count), value.order, value.nonnegative)
            continue
        count = known_size(count)
        if place != 0 and (count <= _MOST_COPIES or call.layers_only):
            tensor = call.layer(layers.Concatenate, [value.tensor] * count, axis=place)
        else:
            repeats = [count if i == place else 1 for i in range(len(value.shape))]
            tensor = call.op(keras.ops.tile, value.tensor, repeats)
        value = Value(tensor, _resized(value, axis, count), value.order, value.nonnegative)
    return value


def _resized(value: Value, axis: int, count: Dim) -> tuple[Dim, ...]:
    return (*value.shape[:axis], value.shape[axis] * count, *value.shape[axis + 1 :])


def _taken_again(call: Call, value: Value, axis: int, count: Dim) -> KerasTensor:
    """Repeated a number of times that is known only when the model runs: places counted again from the start."""
    places = counting(call, value.shape[axis] * count)
    places = call.op(keras.ops.mod, places, size(call, value.shape[axis]))
    return call.op(keras.ops.take, value.tensor, places, axis=value.axis(axis))


@converts("repeat.default")
def repeat(call: Call, value: Value, repeats: Sequence[int]) -> Value:
    """Repeated so many times along each axis; new axes come first."""
    value = view(call, value, (1,) * (len(repeats) - len(value.shape)) + value.shape)
    return _repeated(call, value, repeats)
