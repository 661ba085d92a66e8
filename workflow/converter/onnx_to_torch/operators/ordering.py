"""Sorted, greatest and distinct elements."""

from __future__ import annotations

import numpy as np
import torch

from converter.onnx_to_torch.core.registry import Call, on_sizes, operator
from converter.onnx_to_torch.core.values import Known

__all__: list[str] = []


@operator("TopK")
def _top_k(call: Call) -> tuple[torch.Tensor, torch.Tensor]:
    """Of equal elements the first: a stable sort, as torch.topk promises nothing of these."""
    x, axis, largest = call.tensor(0), call.attribute("axis", -1), bool(call.attribute("largest", 1))
    count = call.int(1) if call.opset >= 10 else call.attribute("k")
    values, places = x.sort(dim=axis, descending=largest, stable=True)
    first = (*(slice(None),) * (axis % x.ndim), slice(None, count))
    return values[first], places[first]


@on_sizes("TopK")
def _top_k_sizes(call: Call, arrays: list[np.ndarray]) -> tuple[Known, Known] | None:
    x = arrays[0]
    if x.dtype == object or x.ndim != 1 or len(arrays) < 2 or arrays[1].dtype == object:
        return None
    # Sorted backwards from the end, so that of equal ones the first comes first.
    order = (
        len(x) - 1 - np.argsort(x[::-1], kind="stable")[::-1]
        if call.attribute("largest", 1)
        else np.argsort(x, kind="stable")
    )[: int(arrays[1].item())]
    return Known(x[order], x.dtype, False), call.sizes(order)


@operator("Unique")
def _unique(call: Call) -> tuple[torch.Tensor, ...]:
    """Distinct elements, or parts along an axis; where they first lie, which of them each is, how often each is there."""
    x, axis = call.tensor(0), call.attribute("axis")
    if axis is None:
        x, axis = x.reshape(-1), 0
    values, which, counts = torch.unique(x, return_inverse=True, return_counts=True, dim=axis)
    places = torch.arange(x.shape[axis])
    first = torch.full_like(counts, x.shape[axis]).scatter_reduce(0, which, places, "amin")
    if not call.attribute("sorted", 1):
        order = first.argsort()
        values, first, counts = values.index_select(axis, order), first[order], counts[order]
        which = order.argsort()[which]
    return values, first, which, counts
