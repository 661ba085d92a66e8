"""Comparisons, logic, and selections by them."""

from __future__ import annotations

import operator as plain
from collections.abc import Callable
from typing import Any

import torch

from converter.onnx_to_torch.core.integers import in_int64, in_order
from converter.onnx_to_torch.core.registry import Call, operator
from converter.onnx_to_torch.operators.arithmetic import operands

__all__: list[str] = []


def _comparison(name: str, function: Callable[[Any, Any], torch.Tensor]) -> None:
    def compare(call: Call) -> torch.Tensor:
        a, b = operands(call)
        both = isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)
        return in_order(function, a, b) if both else function(a, b)

    operator(name)(compare)


for _name, _function in {
    "Equal": plain.eq,
    "Greater": plain.gt,
    "GreaterOrEqual": plain.ge,
    "Less": plain.lt,
    "LessOrEqual": plain.le,
}.items():
    _comparison(_name, _function)


@operator("And")
def _and(call: Call) -> torch.Tensor:
    return torch.logical_and(call.tensor(0), call.tensor(1))


@operator("Or")
def _or(call: Call) -> torch.Tensor:
    return torch.logical_or(call.tensor(0), call.tensor(1))


@operator("Xor")
def _xor(call: Call) -> torch.Tensor:
    return torch.logical_xor(call.tensor(0), call.tensor(1))


@operator("Where")
def _where(call: Call) -> torch.Tensor:
    return in_int64(torch.where, call.tensor(0), call.tensor(1), call.tensor(2))
