"""Sequences, which are lists here, and optionals, of which an empty one is None."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from converter.onnx_to_torch.core.registry import Call, known_sizes, operator
from converter.onnx_to_torch.core.values import Known, Value

__all__ = ["joined"]


def joined(call: Call, parts: list[Value], axis: int, *, stacked: bool) -> Value:
    """The parts one after the other along the axis, or along a new one; numbers stay numbers."""
    known = [part for part in parts if isinstance(part, Known)]
    if parts and len(known) == len(parts):
        join = np.stack if stacked else np.concatenate
        array = join([part.array.astype(object) for part in known], axis)
        return known_sizes(array, known[0].dtype, constant=all(part.constant for part in known))
    return (torch.stack if stacked else torch.cat)([call.frame.module.tensor(part) for part in parts], axis)


def _sequence(call: Call) -> list[Value]:
    value = call.inputs[0]
    if not isinstance(value, list):
        raise call.refusal("needs a sequence, which is not given")
    return value


def _place(call: Call, position: int, default: int) -> int:
    if not call.has(position):
        return default
    place = call.int(position) if isinstance(call.inputs[position], Known) else None
    if not isinstance(place, int):
        raise call.refusal("needs a place that is known before the model runs, which this model computes")
    return place


@operator("SequenceConstruct")
def _construct(call: Call) -> list[Value]:
    return list(call.inputs)


@operator("SequenceEmpty")
def _empty(call: Call) -> list[Value]:
    return []


@operator("SequenceAt")
def _at(call: Call) -> Value:
    return _sequence(call)[_place(call, 1, 0)]


@operator("SequenceLength")
def _length(call: Call) -> Known:
    return call.sizes(len(_sequence(call)))


@operator("SequenceInsert")
def _insert(call: Call) -> list[Value]:
    sequence = _sequence(call)
    place = _place(call, 2, len(sequence))
    place = place + len(sequence) if place < 0 else place
    return [*sequence[:place], call.inputs[1], *sequence[place:]]


@operator("SequenceErase")
def _erase(call: Call) -> list[Value]:
    sequence = _sequence(call)
    place = _place(call, 1, -1) % len(sequence)
    return [*sequence[:place], *sequence[place + 1 :]]


@operator("SplitToSequence")
def _split(call: Call) -> list[Value]:
    x, axis = call.tensor(0), call.attribute("axis", 0)
    size: Any = x.shape[axis]
    if call.has(1) and len(_shape(call.inputs[1])) == 1:
        return list(x.split(call.ints(1), axis))
    length = call.int(1) if call.has(1) else 1
    if not isinstance(size, int) or not isinstance(length, int):
        raise call.refusal("needs a number of parts that is the same for all inputs: give the sizes in input_shape")
    parts = x.split(length, axis)
    keep = call.has(1) or call.attribute("keepdims", 1)
    return list(parts) if keep else [part.squeeze(axis) for part in parts]


def _shape(value: Value) -> tuple[Any, ...]:
    return value.array.shape if isinstance(value, Known) else value.shape  # type: ignore[union-attr]


@operator("ConcatFromSequence")
def _concat(call: Call) -> Value:
    return joined(call, _sequence(call), call.attribute("axis"), stacked=bool(call.attribute("new_axis", 0)))


@operator("SequenceMap")
def _map(call: Call) -> tuple[Value, ...]:
    """The graph of each element; further inputs are sequences of the same length, or given to all."""
    runs = []
    for place in range(len(_sequence(call))):
        inputs = [value[place] if isinstance(value, list) else value for value in call.inputs]
        runs.append(call.graph("body", inputs))
    return tuple([run[output] for run in runs] for output in range(len(call.attribute("body").output)))


@operator("Optional")
def _optional(call: Call) -> Value:
    return call.inputs[0] if call.has(0) else None


@operator("OptionalHasElement")
def _has_element(call: Call) -> Known:
    return call.constant(np.array(call.has(0)))


@operator("OptionalGetElement")
def _get_element(call: Call) -> Value:
    if not call.has(0):
        raise call.refusal("takes the value of an optional that has none")
    return call.inputs[0]
