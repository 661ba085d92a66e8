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
from converter.onnx_to_torch.core.values import Known, to_torch

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
    """The base's type is the result's. Whole bases are multiplied with themselves where the exponents are known and whole,
    else raised as float64, as onnxruntime does by std::pow.
    """
    x, exponent = call.tensor(0), call.known(1)
    if exponent is not None and not x.is_floating_point() and _are_whole(exponent):
        return _multiplied(x, exponent.astype(np.int64))
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


# Larger ones leave the range of int64 for all bases but 0, 1 and -1.
_LARGEST_EXPONENT = 64


def _are_whole(exponents: np.ndarray) -> bool:
    return bool(((exponents >= 0) & (exponents <= _LARGEST_EXPONENT) & (exponents == np.floor(exponents))).all())


def _multiplied(x: torch.Tensor, exponents: np.ndarray) -> torch.Tensor:
    """Of int32 or int64 to whole powers, by squares; what leaves the range is the least number, as of onnxruntime's cast."""
    result, square = torch.ones_like(x), x
    for bit in range(int(exponents.max(initial=0)).bit_length()):
        square = square if bit == 0 else square * square
        taken = (exponents >> bit) & 1
        if taken.any():
            result = result * (square if taken.all() else torch.where(to_torch(taken == 1), square, torch.ones_like(x)))
    least, most = torch.iinfo(x.dtype).min, torch.iinfo(x.dtype).max
    ends = [_bases_within(int(exponent), least, most) for exponent in exponents.reshape(-1)]
    low, high = (torch.tensor(side, dtype=x.dtype).reshape(exponents.shape) for side in zip(*ends, strict=True))
    return torch.where((x < low) | (x > high), least, result)


def _bases_within(exponent: int, least: int, most: int) -> tuple[int, int]:
    """The least and the greatest base whose power is between these, least is -(most + 1)."""
    if exponent < 2:
        return least, most
    high = round(most ** (1 / exponent))
    while high**exponent > most:
        high -= 1
    while (high + 1) ** exponent <= most:
        high += 1
    return (-high - 1 if (-high - 1) ** exponent == least else -high), high


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
    """By negative counts, and by the type's width or more, only the sign is left of what is shifted right, else nothing."""
    a, b, known = call.tensor(0), call.tensor(1), call.known(1)
    is_right, bits = call.attribute("direction") == "RIGHT", torch.iinfo(a.dtype).bits
    shifted = shifted_right if is_right else lambda x, y: in_int64(torch.bitwise_left_shift, x, y)
    if known is not None and bool(((known >= 0) & (known < bits)).all()):
        return shifted(a, b)
    counts = b.to(torch.int64)
    inside = (counts >= 0) & (counts < bits)
    if is_right and a.dtype.is_signed:
        return shifted(a, torch.where(inside, counts, bits - 1).to(a.dtype))
    result = shifted(a, torch.where(inside, counts, 0).to(a.dtype))
    return in_int64(lambda x: torch.where(inside, x, torch.zeros_like(x)), result)


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
