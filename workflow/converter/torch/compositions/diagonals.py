"""Diagonals of two axes."""

from __future__ import annotations

import torch

from converter.torch.compositions.table import composes

aten = torch.ops.aten


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
