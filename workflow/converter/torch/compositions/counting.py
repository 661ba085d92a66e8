"""How often values occur."""

from __future__ import annotations

import torch

from converter.torch.compositions.table import composes

aten = torch.ops.aten


@composes(aten.histc.default)
def histc(x: torch.Tensor, bins: int = 100, low: float = 0, high: float = 0) -> torch.Tensor:
    """How many values lie in each of `bins` equal parts of low ... high; the last part has its upper end."""
    if low == high or x.dtype not in (torch.float32, torch.float64):
        return NotImplemented  # the range is that of the values, and may be nothing
    flat = x.flatten()
    held = (flat >= low) & (flat <= high)
    places = torch.floor((torch.where(held, flat, low) - low) * bins / (high - low)).clamp(max=bins - 1)
    hits = (places.unsqueeze(1) == torch.arange(bins)) & held.unsqueeze(1)
    return hits.to(x.dtype).sum(0)


@composes(aten.mode.default)
def mode(x: torch.Tensor, dim: int = -1, keepdim: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """The value that occurs most, the smallest of several, and the last of its places."""
    if not isinstance(x.shape[dim], int) or x.dtype == torch.bool:
        return NotImplemented
    row = x.movedim(dim, -1)
    counts = (row.unsqueeze(-1) == row.unsqueeze(-2)).sum(-1)
    most = counts == counts.amax(-1, keepdim=True)
    beyond = torch.inf if x.is_floating_point() else torch.iinfo(x.dtype).max
    value = torch.where(most, row, beyond).amin(-1, keepdim=True)
    places = torch.where(row == value, torch.arange(x.shape[dim]), -1).amax(-1, keepdim=True)
    value, places = value.movedim(-1, dim), places.movedim(-1, dim)
    return (value, places) if keepdim else (value.squeeze(dim), places.squeeze(dim))
