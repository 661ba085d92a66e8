"""Arithmetic of two or more tensors, element by element, and running sums and products."""

from __future__ import annotations

import operator as plain
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import torch

from converter.onnx_to_torch.core.integers import UNSIGNED, divided, in_int64, in_order, shifted_right
from converter.onnx_to_torch.core.registry import Call, operator
from converter.onnx_to_torch.core.values import Known

__all__ = ["operands"]


def operands(call: Call) -> tuple[Any, Any]:
    """Both inputs; a size that multiplies or bounds a tensor stays a number, since no tensor need be made of it."""
    found: list[Any] = []
    for position in (0, 1):
        value, other = call.inputs[position], call.inputs[1 - position]
        if isinstance(value, Known) and value.symbolic and value.array.ndim == 0 and isinstance(other, torch.Tensor):
            found.append(value.array.item())
        else:
            found.append(call.tensor(position))
    return found[0], found[1]


def _binary(call: Call, function: Callable[[Any, Any], torch.Tensor]) -> torch.Tensor:
    a, b = operands(call)
    return in_int64(function, a, b) if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) else function(a, b)


@operator("Add")
def _add(call: Call) -> torch.Tensor:
    return _binary(call, plain.add)


@operator("Sub")
def _sub(call: Call) -> torch.Tensor:
    return _binary(call, plain.sub)


@operator("Mul")
def _mul(call: Call) -> torch.Tensor:
    return _binary(call, plain.mul)


@operator("Div")
def _div(call: Call) -> torch.Tensor:
    a, b = operands(call)
    dtype = a.dtype if isinstance(a, torch.Tensor) else b.dtype
    if dtype.is_floating_point:
        return a / b
    if not isinstance(a, torch.Tensor) or not isinstance(b, torch.Tensor):
        return divided(call.tensor(0), call.tensor(1))
    return divided(a, b)


@operator("Mod")
def _mod(call: Call) -> torch.Tensor:
    """Of integers with the divisor's sign, or by `fmod` with the dividend's."""
    a, b = call.tensor(0), call.tensor(1)
    if a.dtype == torch.uint64:
        return in_int64(lambda x, y: x - divided(a, b).to(torch.int64) * y, a, b)
    return in_int64(torch.fmod if call.attribute("fmod", 0) else torch.remainder, a, b)


@operator("Pow")
def _pow(call: Call) -> torch.Tensor:
    """The base's type is the result's. Whole bases are raised as float64, as onnxruntime does by std::pow."""
    x, exponent = call.tensor(0), call.known(1)
    if exponent is not None and exponent.size == 1 and exponent.ndim <= x.ndim and x.is_floating_point():
        return x ** _number(exponent)
    base, y = call.known(0), call.tensor(1)
    if base is not None and base.size == 1 and base.ndim <= y.ndim and x.dtype == y.dtype and x.is_floating_point():
        return torch.pow(_number(base), y)
    if x.is_floating_point():
        return torch.pow(x, y.to(x.dtype))
    if y.is_floating_point() or y.dtype.is_signed:
        return torch.pow(x.to(torch.float64), y.to(torch.float64)).to(x.dtype)
    return torch.pow(x.to(torch.int64), y.to(torch.int64)).to(x.dtype)


@operator("Sum")
def _sum(call: Call) -> torch.Tensor:
    return reduce(plain.add, call.tensors())


@operator("Mean")
def _mean(call: Call) -> torch.Tensor:
    tensors = call.tensors()
    return reduce(plain.add, tensors) / len(tensors) if len(tensors) > 1 else tensors[0]


def _extreme(call: Call, function: Callable[..., torch.Tensor], bound: str) -> torch.Tensor:
    """By clamp where a number is the other operand: that is what ReLU6 and its like are made of."""
    if len(call) == 2:
        for position in (0, 1):
            x, limit = call.inputs[position], call.known(1 - position)
            if isinstance(x, torch.Tensor) and limit is not None and limit.size == 1 and limit.ndim <= x.ndim:
                number = _number(limit)
                if x.dtype not in UNSIGNED and number == number:
                    return x.clamp(**{bound: number})
    return reduce(lambda a, b: in_order(function, a, b), call.tensors())


@operator("Max")
def _max(call: Call) -> torch.Tensor:
    return _extreme(call, torch.maximum, "min")


@operator("Min")
def _min(call: Call) -> torch.Tensor:
    return _extreme(call, torch.minimum, "max")


@operator("BitShift")
def _bit_shift(call: Call) -> torch.Tensor:
    a, b = call.tensor(0), call.tensor(1)
    if call.attribute("direction") == "RIGHT":
        return shifted_right(a, b)
    return in_int64(torch.bitwise_left_shift, a, b)


@operator("BitwiseAnd")
def _bitwise_and(call: Call) -> torch.Tensor:
    return in_int64(torch.bitwise_and, call.tensor(0), call.tensor(1))


@operator("BitwiseOr")
def _bitwise_or(call: Call) -> torch.Tensor:
    return in_int64(torch.bitwise_or, call.tensor(0), call.tensor(1))


@operator("BitwiseXor")
def _bitwise_xor(call: Call) -> torch.Tensor:
    return in_int64(torch.bitwise_xor, call.tensor(0), call.tensor(1))


@operator("CumSum")
def _cum_sum(call: Call) -> torch.Tensor:
    return in_int64(lambda x: _running(call, x, lambda y, axis: y.cumsum(axis, dtype=y.dtype), 0), call.tensor(0))


@operator("CumProd")
def _cum_prod(call: Call) -> torch.Tensor:
    return in_int64(lambda x: _running(call, x, lambda y, axis: y.cumprod(axis, dtype=y.dtype), 1), call.tensor(0))


def _running(
    call: Call, x: torch.Tensor, function: Callable[[torch.Tensor, int], torch.Tensor], start: int
) -> torch.Tensor:
    axis = call.int(1)
    if not isinstance(axis, int):
        raise call.refusal("needs an axis that is known before the model runs, which this one's is not")
    reverse, size = call.attribute("reverse", 0), x.shape[axis]
    x = x.flip(axis) if reverse else x
    if call.attribute("exclusive", 0):
        # Not the inclusive sum less the element: that would be NaN behind an infinity.
        first = [1 if place == axis % x.dim() else size for place, size in enumerate(x.shape)]
        x = function(torch.cat([x.new_full(first, start), x], axis), axis).narrow(axis, 0, size)
    else:
        x = function(x, axis)
    return x.flip(axis) if reverse else x


def _number(array: np.ndarray) -> Any:
    return array.reshape(()).item()
