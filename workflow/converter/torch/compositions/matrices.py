"""Distances, and what of linear algebra is made of products and solutions."""

from __future__ import annotations

import torch

from converter.torch.compositions.table import composes

aten = torch.ops.aten


@composes(aten._cdist_forward.default, aten.cdist.default)
def cdist(a: torch.Tensor, b: torch.Tensor, p: float = 2.0, compute_mode: int | None = None) -> torch.Tensor:
    """Distances of all rows of one from all of the other, in the norm p."""
    return _norm(a.unsqueeze(-2) - b.unsqueeze(-3), p)


@composes(aten._pdist_forward.default, aten.pdist.default)
def pdist(x: torch.Tensor, p: float = 2.0) -> torch.Tensor:
    """Distances of all pairs of rows."""
    if not isinstance(x.shape[0], int):
        return NotImplemented
    rows, columns = torch.triu_indices(x.shape[0], x.shape[0], 1)
    return _norm(x[rows] - x[columns], p)


def _norm(x: torch.Tensor, p: float) -> torch.Tensor:
    if p == 0:
        return (x != 0).to(x.dtype).sum(-1)
    if p == torch.inf:
        return x.abs().amax(-1)
    if p == 1:
        return x.abs().sum(-1)
    if p == 2:
        return torch.sqrt((x * x).sum(-1))
    return x.abs().pow(p).sum(-1).pow(1 / p)


@composes(aten.cholesky_solve.default)
def cholesky_solve(b: torch.Tensor, factor: torch.Tensor, upper: bool = False) -> torch.Tensor:
    """The solution of A x = b by a triangular factor of A."""
    lower = factor.mH if upper else factor
    half = torch.linalg.solve_triangular(lower, b, upper=False)
    return torch.linalg.solve_triangular(lower.mH, half, upper=True)


# Larger ones would be written out as thousands of operators.
_LARGEST_DETERMINANT = 16


@composes(aten._linalg_det.default)
def determinant(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """By elimination with the largest element of each column as its pivot; the factors are of no use to anyone."""
    size = matrix.shape[-1]
    if not isinstance(size, int) or not 0 < size <= _LARGEST_DETERMINANT:
        return NotImplemented
    rest, result = matrix, torch.ones_like(matrix[..., 0, 0])
    for step in range(size - 1):
        left = size - step
        column = rest[..., 0]
        row = column.abs().argmax(-1, keepdim=True)
        is_pivot = torch.arange(left) == row
        # The pivot's row is exchanged with the first, which turns the sign.
        pivot_row = torch.gather(rest, -2, row.unsqueeze(-1).expand(*rest.shape[:-2], 1, left))
        rest = torch.where(is_pivot.unsqueeze(-1), rest[..., :1, :], rest)[..., 1:, :]
        pivot = pivot_row[..., 0, 0]
        result = result * torch.where(row[..., 0] == 0, pivot, -pivot)
        factors = rest[..., 0] / torch.where(pivot == 0, torch.ones_like(pivot), pivot).unsqueeze(-1)
        rest = (rest - factors.unsqueeze(-1) * pivot_row)[..., 1:]
    result = result * rest[..., 0, 0]
    return result, matrix, torch.zeros_like(matrix[..., 0], dtype=torch.int32)
