"""Operands of one elementwise operation brought to the same rank and order of axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from converter.torch_to_keras.call import Call
from converter.torch_to_keras.layout import ordered, view
from converter.torch_to_keras.materialize import materialize
from converter.torch_to_keras.values import Constant, KerasTensor, Value, magnitude, static

__all__ = ["aligned", "constant_in_order"]


def aligned(call: Call, operands: Sequence[Any]) -> tuple[list[KerasTensor], tuple[int, ...]]:
    """Keras tensors, numpy arrays and numbers that broadcast as the operands do in PyTorch, and their common order.

    The order is that of the largest operand, which then need not move.
    """
    rank = len(call.shape)
    operands = _all_axes_held(call, operands)
    values = [_with_rank(call, operand, rank) if isinstance(operand, Value) else operand for operand in operands]
    largest = max(
        (value for value in values if isinstance(value, Value)),
        key=lambda value: math.prod(magnitude(dim) for dim in value.shape),
    )
    order = largest.order
    arrays = []
    for value in values:
        if isinstance(value, Value):
            arrays.append(ordered(call, value, order))
        elif isinstance(value, Constant):
            arrays.append(constant_in_order(value, order))
        else:
            arrays.append(value)
    return arrays, order


def _all_axes_held(call: Call, operands: Sequence[Any]) -> list[Any]:
    """The operands with those constants as tensors that alone have an axis of the result, and not yet in their array."""

    def missing(shape: Sequence[Any]) -> set[int]:
        whole = (1,) * (len(call.shape) - len(shape)) + tuple(shape)
        return {axis for axis, dim in enumerate(whole) if static(dim) == 1}

    held = [missing(o.shape) for o in operands if isinstance(o, Value)]
    held += [missing(o.array.shape) for o in operands if isinstance(o, Constant)]
    lacking = set.intersection(*held) - missing(call.shape)
    result = []
    for operand in operands:
        alone = isinstance(operand, Constant) and lacking - missing(operand.shape)
        result.append(materialize(call, operand) if alone else operand)
    if not any(isinstance(operand, Value) for operand in result):
        first = next(place for place, operand in enumerate(result) if isinstance(operand, Constant))
        result[first] = materialize(call, result[first])
    return result


def _with_rank(call: Call, value: Value, rank: int) -> Value:
    if len(value.shape) == rank:
        return value
    return view(call, value, (1,) * (rank - len(value.shape)) + value.shape)


def constant_in_order(constant: Constant, order: Sequence[int]) -> np.ndarray:
    """The constant's array with as many axes as `order`, permuted to it; a scalar stays one."""
    array = constant.numpy
    if array.ndim == 0:
        return array
    return array.reshape((1,) * (len(order) - array.ndim) + array.shape).transpose(order)
