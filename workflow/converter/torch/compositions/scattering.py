"""Scattering in forms that are made of sums, products and extrema."""

from __future__ import annotations

import torch

from converter.torch.compositions.table import composes

aten = torch.ops.aten


@composes(aten.scatter_reduce.two, when=lambda node: node.args[4] == "mean")
def scatter_mean(
    x: torch.Tensor, dim: int, index: torch.Tensor, source: torch.Tensor, reduce: str, *, include_self: bool = True
) -> torch.Tensor:
    """The mean of what is sent to one place: ONNX's scattering has none (torch 2.13 writes another one)."""
    if reduce != "mean" or not x.is_floating_point():
        return NotImplemented
    counts = torch.zeros_like(x).scatter_add(dim, index, torch.ones_like(source))
    base = x if include_self else torch.where(counts > 0, 0.0, x)
    total = base.scatter_add(dim, index, source)
    return total / (counts + 1 if include_self else counts.clamp(min=1))


@composes(aten.scatter.reduce)
def scatter_with(x: torch.Tensor, dim: int, index: torch.Tensor, source: torch.Tensor, *, reduce: str) -> torch.Tensor:
    """Added to, or multiplied with, what is there."""
    return aten.scatter_reduce.two(x, dim, index, source, {"add": "sum", "multiply": "prod"}[reduce])


@composes(aten.index_reduce.default)
def index_reduce(
    x: torch.Tensor, dim: int, index: torch.Tensor, source: torch.Tensor, reduce: str, *, include_self: bool = True
) -> torch.Tensor:
    """As scatter_reduce, with one row of places for all."""
    row = [-1 if axis == dim % x.dim() else 1 for axis in range(x.dim())]
    places = index.reshape(row) + torch.zeros_like(source, dtype=index.dtype)
    return aten.scatter_reduce.two(x, dim, places, source, reduce, include_self=include_self)
