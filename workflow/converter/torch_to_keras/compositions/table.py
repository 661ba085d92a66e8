"""Operators that are others put together: written in PyTorch, and traced into the program where it is decomposed.

torch's own table of decompositions ends at core ATen operators; these are beyond it, or core operators without a layer.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["COMPOSITIONS", "composes"]

COMPOSITIONS: dict[object, Callable] = {}


def composes(*targets: object) -> Callable[[Callable], Callable]:
    """Register a function, with the operator's own parameters, that computes the same by other operators.

    It gives NotImplemented where it cannot, as of a size that is not known: the operator then stays what it is.
    """

    def register(function: Callable) -> Callable:
        COMPOSITIONS.update(dict.fromkeys(targets, function))
        return function

    return register
