"""Operands of one elementwise operation brought to the same rank and order of axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from converter.torch_to_keras.call import Call
from converter.torch_to_keras.layout import ordered, view
from converter.torch_to_keras.values import Constant, KerasTensor, Value, magnitude

__all__ = ["aligned", "constant_in_order"]


def aligned(call: Call, operands: Sequence[Any]) -> tuple[list[KerasTensor], tuple[int, ...]]:
    """Keras tensors, numpy arrays and numbers that broadcast as the operands do in PyTorch, and their common order.

    The order is that of the largest operand, which then need not move.
    """
    rank = len(call.shape)
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
