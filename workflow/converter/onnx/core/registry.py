"""Which function takes an operator over the boundary between two opsets."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converter.onnx.core.site import Site

__all__ = ["adapter", "down", "up"]

Adapter = Callable[["Site"], None]

_ADAPTERS: dict[tuple[str, int, bool], Adapter] = {}


def up(opset: int, *operators: str) -> Callable[[Adapter], Adapter]:
    """Registers what makes one of these operators of the opset before `opset` one of `opset`."""
    return _registered(opset, operators, upwards=True)


def down(opset: int, *operators: str) -> Callable[[Adapter], Adapter]:
    """Registers what makes one of these operators of `opset` one of the opset before it."""
    return _registered(opset, operators, upwards=False)


def _registered(opset: int, operators: tuple[str, ...], upwards: bool) -> Callable[[Adapter], Adapter]:
    def register(function: Adapter) -> Adapter:
        for operator in operators:
            _ADAPTERS[operator, opset, upwards] = function
        return function

    return register


def adapter(operator: str, opset: int, upwards: bool) -> Adapter | None:
    """What takes the operator over the boundary below `opset`; None where nothing but types and attributes may change."""
    return _ADAPTERS.get((operator, opset, upwards))
