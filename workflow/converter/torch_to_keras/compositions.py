"""Operators that are others put together: written in PyTorch, and traced into the program where it is decomposed.

torch's own table ends at core ATen operators; these are beyond it, or core operators for which no single layer exists.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

__all__ = ["COMPOSITIONS"]

aten = torch.ops.aten
COMPOSITIONS: dict[object, Callable] = {}


def composes(*targets: object) -> Callable[[Callable], Callable]:
    """Register a function, with the operator's own parameters, that computes the same by other operators."""

    def register(function: Callable) -> Callable:
        COMPOSITIONS.update(dict.fromkeys(targets, function))
        return function

    return register


# -- diagonals -----------------------------------------------------------------------------------------------------------


def _diagonal_places(rows: int, columns: int, offset: int) -> tuple[torch.Tensor, torch.Tensor]:
    count = max(min(rows + min(offset, 0), columns - max(offset, 0)), 0)
    return torch.arange(count) + max(-offset, 0), torch.arange(count) + max(offset, 0)


@composes(aten.diagonal.default, aten.diagonal_copy.default)
def diagonal(x: torch.Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> torch.Tensor:
    """Elements (i, i + offset) of two axes, along a new last axis."""
    rows, columns = _diagonal_places(x.shape[dim1], x.shape[dim2], offset)
    moved = x.movedim((dim1, dim2), (-2, -1))
    return moved[..., rows, columns]


@composes(aten.diagonal_scatter.default)
def diagonal_scatter(
    x: torch.Tensor, source: torch.Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> torch.Tensor:
    """The tensor with such elements written anew."""
    rows, columns = _diagonal_places(x.shape[dim1], x.shape[dim2], offset)
    moved = x.movedim((dim1, dim2), (0, 1))
    written = aten.index_put(moved, (rows, columns), source.movedim(-1, 0))
    return written.movedim((0, 1), (dim1, dim2))
