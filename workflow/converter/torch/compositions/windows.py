"""Windows along an axis."""

from __future__ import annotations

import torch

from converter.torch.compositions.table import composes

aten = torch.ops.aten


@composes(aten.unfold.default, aten.unfold_copy.default)
def unfold(x: torch.Tensor, dim: int, size: int, step: int) -> torch.Tensor:
    """Windows of `size` along an axis, one every `step`; what is in one lies along a new last axis."""
    if x.dim() == 0:
        return x.unsqueeze(0)[:size]
    dim %= x.dim()
    count = (x.shape[dim] - size) // step + 1
    if isinstance(count, int):
        places = (torch.arange(count) * step).unsqueeze(1) + torch.arange(size)
        windows = x.index_select(dim, places.flatten()).unflatten(dim, (count, size))
        return windows.movedim(dim + 1, -1)
    # Of an axis of unknown size the elements at each place in the window, one behind the other.
    parts = [x.narrow(dim, start, x.shape[dim] - size + 1) for start in range(size)]
    if step != 1:
        return NotImplemented
    return torch.stack(parts, -1)
