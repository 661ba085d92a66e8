"""Operators that are others put together: written in PyTorch, and traced into the program where it is decomposed.

torch's own table of decompositions ends at core ATen operators; these are beyond it, or core operators without a layer.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from converter.torch.extensions.exported_recurrence import followable_recurrence
from converter.torch.extensions.vision_operators import compositions

__all__ = ["COMPOSITIONS", "composed_program", "composes", "is_composed"]

COMPOSITIONS: dict[object, Callable] = {}
_CONDITIONS: dict[object, Callable[[torch.fx.Node], bool]] = {}


def composes(*targets: object, when: Callable[[torch.fx.Node], bool] | None = None) -> Callable[[Callable], Callable]:
    """Register a function, with the operator's own parameters, that computes the same by other operators.

    It gives NotImplemented where it cannot, as of a size that is not known: the operator then stays what it is, and its
    converter is asked, if there is one. when: of an operator with a converter, the nodes that need the function.
    """

    def register(function: Callable) -> Callable:
        COMPOSITIONS.update(dict.fromkeys(targets, function))
        if when is not None:
            _CONDITIONS.update(dict.fromkeys(targets, when))
        return function

    return register


def is_composed(node: torch.fx.Node) -> bool:
    """Whether the node is to be written as other operators."""
    return node.target in COMPOSITIONS and _CONDITIONS.get(node.target, lambda _: True)(node)


def composed_program(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram | None:
    """The program with such operators written as others; None where it has none. Others stay what they are."""
    of_regions = compositions()
    if not any(is_composed(node) or node.target in of_regions for node in program.graph.nodes):
        return None
    with followable_recurrence():
        return program.run_decompositions({**COMPOSITIONS, **of_regions})  # type: ignore[arg-type]
