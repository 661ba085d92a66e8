"""Sums, means and maxima of rows of a table (EmbeddingBag)."""

from __future__ import annotations

import torch

from converter.torch.compositions.table import composes

aten = torch.ops.aten
_SUM, _MEAN, _MAX = 0, 1, 2


@composes(aten._embedding_bag.default, aten._embedding_bag_forward_only.default)
def embedding_bag(
    weight: torch.Tensor,
    indices: torch.Tensor,
    offsets: torch.Tensor,
    scale_grad_by_freq: bool = False,
    mode: int = _SUM,
    sparse: bool = False,
    per_sample_weights: torch.Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int = -1,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Bag b holds the rows that indices[offsets[b] : offsets[b + 1]] name. Only the first result is that of the operator."""
    if mode == _MAX and padding_idx >= 0:
        return NotImplemented
    if include_last_offset:
        offsets = offsets[:-1]
    count, bags = indices.shape[0], offsets.shape[0]
    # A step up where each bag begins; an empty last bag begins behind the end.
    steps = torch.zeros(count + 1, dtype=torch.int64).scatter_add(0, offsets.long(), torch.ones_like(offsets).long())
    bag = steps.cumsum(0)[:-1] - 1
    rows = torch.nn.functional.embedding(indices, weight)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.unsqueeze(1)
    empty = torch.zeros(bags, weight.shape[1], dtype=weight.dtype)
    if mode == _MAX:
        spread = bag.unsqueeze(1) + torch.zeros_like(rows, dtype=torch.int64)
        result = empty.scatter_reduce(0, spread, rows, "amax", include_self=False)
    else:
        held = (indices != padding_idx).to(weight.dtype)
        result = torch.index_put(empty, (bag,), rows * held.unsqueeze(1), True)
        if mode == _MEAN:
            sizes = torch.index_put(torch.zeros(bags, dtype=weight.dtype), (bag,), held, True)
            result = result / sizes.clamp(min=1).unsqueeze(1)
    nothing = torch.zeros(0, dtype=torch.int64)
    return result, nothing, nothing, nothing
