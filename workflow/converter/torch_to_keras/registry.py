"""Which function converts which ATen operator, and with it which operators a program is decomposed to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from converter.torch.compositions import COMPOSITIONS
from converter.torch.extensions.vision_operators import compositions

__all__ = ["converter_of", "converts", "converts_operator", "converts_torchvision", "decompositions", "takes_pending"]

_CONVERTERS: dict[object, Callable] = {}
# By name: the operators are there once torchvision's library, or what stands for it, is.
_TORCHVISION: dict[str, Callable] = {}
_LAZY: set[object] = set()


def converts(*names: str, lazy: bool = False) -> Callable[[Callable], Callable]:
    """Register a function for ATen operators, named as in ``conv2d.default``.

    The function takes the `Call` and the operator's positional arguments in the order of its schema, defaults filled in
    (keyword-only ones are at ``call.option``): tensors are `Value` or `Constant`, the rest plain Python. It returns a
    `Value`, or a tuple of them for an operator with several results. lazy: it takes `Pending` views too.
    """

    def register(function: Callable) -> Callable:
        for name in names:
            packet, overload = name.split(".")
            target = getattr(getattr(torch.ops.aten, packet), overload)
            _CONVERTERS[target] = function
            if lazy:
                _LAZY.add(target)
        return function

    return register


def converts_operator(operator: object) -> Callable[[Callable], Callable]:
    """As `converts`, for an operator that runs graphs within the graph, which the function is given as they are."""

    def register(function: Callable) -> Callable:
        _CONVERTERS[operator] = function
        return function

    return register


def converts_torchvision(name: str) -> Callable[[Callable], Callable]:
    """As `converts`, for an operator of torchvision."""

    def register(function: Callable) -> Callable:
        _TORCHVISION[f"torchvision.{name}.default"] = function
        return function

    return register


def converter_of(target: object) -> Callable | None:
    """The function that converts calls of this operator; None if there is none."""
    return _CONVERTERS.get(target) or _TORCHVISION.get(str(target))


def takes_pending(target: object) -> bool:
    """Whether that function takes values whose permutation or view is not carried out yet."""
    return target in _LAZY


def decompositions() -> dict[Any, Callable[..., Any]]:
    """torch's table of decompositions and ours, without what has a converter: `linear` becomes a Dense layer."""
    table = torch.export.default_decompositions()
    table.update(compositions())
    for target in _CONVERTERS:
        table.pop(target, None)
    for target, function in COMPOSITIONS.items():
        table[target] = function
    return table
