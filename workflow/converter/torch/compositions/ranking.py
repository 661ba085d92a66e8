"""Places by order: medians, the k-th, the most frequent, and where values belong among sorted ones."""

from __future__ import annotations

import torch

from converter.torch.compositions.table import composes

aten = torch.ops.aten
_Pair = tuple[torch.Tensor, torch.Tensor]


@composes(aten.kthvalue.default)
def kthvalue(x: torch.Tensor, k: int, dim: int = -1, keepdim: bool = False) -> _Pair:
    """The k-th smallest value along an axis, counted from 1, and its place."""
    values, places = torch.sort(x, dim=dim, stable=True)
    chosen = values.narrow(dim, k - 1, 1), places.narrow(dim, k - 1, 1)
    return chosen if keepdim else (chosen[0].squeeze(dim), chosen[1].squeeze(dim))


@composes(aten.median.dim)
def median(x: torch.Tensor, dim: int, keepdim: bool = False) -> _Pair:
    """The lower of the two in the middle, and its place."""
    if not isinstance(x.shape[dim], int):
        return NotImplemented
    return kthvalue(x, (x.shape[dim] + 1) // 2, dim, keepdim)


@composes(aten.median.default)
def median_of_all(x: torch.Tensor) -> torch.Tensor:
    """The median of all elements."""
    result = median(x.flatten(), 0)
    return result if result is NotImplemented else result[0]


@composes(aten.searchsorted.Tensor)
def searchsorted(
    edges: torch.Tensor,
    x: torch.Tensor,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: torch.Tensor | None = None,
) -> torch.Tensor:
    """How many of the sorted `edges` lie below each value, or not above it; of NaN all do."""
    if sorter is not None:
        edges = edges.gather(-1, sorter)
    edges, values = edges.unsqueeze(-2), x.unsqueeze(-1)
    beyond = edges > values if right or side == "right" else edges >= values
    return torch.logical_not(beyond).sum(-1).to(torch.int32 if out_int32 else torch.int64)


@composes(aten.searchsorted.Scalar)
def searchsorted_number(edges: torch.Tensor, x: float, **options: object) -> torch.Tensor:
    """The same of one number."""
    return searchsorted(edges, torch.full((1,), x, dtype=edges.dtype), **options).squeeze(0)


@composes(aten.bucketize.Tensor)
def bucketize(x: torch.Tensor, edges: torch.Tensor, *, out_int32: bool = False, right: bool = False) -> torch.Tensor:
    """The number of the bin that each value lies in."""
    return searchsorted(edges, x, out_int32=out_int32, right=right)
