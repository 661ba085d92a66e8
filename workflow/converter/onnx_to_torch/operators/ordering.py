"""Sorted, greatest and distinct elements."""

from __future__ import annotations

import numpy as np
import torch

from converter.onnx_to_torch.core.integers import in_order
from converter.onnx_to_torch.core.registry import Call, on_sizes, operator
from converter.onnx_to_torch.core.values import Known, to_numpy, to_torch

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


# Pairs of parts, times their elements, that are compared; more are no table of a few hundred rows.
_MOST_COMPARED = 1 << 26


@operator("Unique")
def _unique(call: Call) -> tuple[torch.Tensor, ...]:
    """Distinct elements, or parts along an axis; where they first lie, which of them each is, how often each is there.

    Every part is compared with every other: sizes that the data decide come of one nonzero, which targets have.
    """
    x, axis = call.tensor(0), call.attribute("axis")
    if axis is None:
        x, axis = x.reshape(-1), 0
    axis %= x.dim()
    if call.known(0) is not None:
        return _unique_of_known(to_numpy(x), axis, bool(call.attribute("sorted", 1)))
    moved = x.movedim(axis, 0)
    parts = moved.reshape(moved.shape[0], -1)
    count = parts.shape[0]
    if isinstance(count, int) and isinstance(parts.shape[1], int) and count * count * parts.shape[1] > _MOST_COMPARED:
        raise call.refusal(f"compares {count} parts of {parts.shape[1]} elements, which are too many")
    differs, below = parts[:, None] != parts[None], in_order(torch.lt, parts[:, None], parts[None])
    equal = torch.logical_not(differs.any(-1))
    places = torch.arange(count)
    first_equal = equal.to(torch.int32).argmax(1)
    distinct = torch.nonzero(first_equal == places)[:, 0]
    if call.attribute("sorted", 1):
        if x.dim() > 1:
            # By the first element that differs; of equal parts it is the first of all, where none is below the other.
            where = differs.to(torch.int32).argmax(-1, keepdim=True)
            below = torch.gather(below, -1, where)
        # How many distinct parts lie below each.
        leads = (first_equal == places).to(torch.int32)
        ranks = (below[..., 0].to(torch.int32) * leads[:, None]).sum(0)
        distinct = distinct[torch.argsort(ranks[distinct], stable=True)]
    which = (first_equal[:, None] == distinct[None]).to(torch.int32).argmax(1)
    counts = equal[distinct].to(torch.int64).sum(1)
    return moved[distinct].movedim(0, axis), distinct, which, counts


def _unique_of_known(array: np.ndarray, axis: int, ordered: bool) -> tuple[torch.Tensor, ...]:
    values, first, which, counts = np.unique(array, True, True, True, axis=axis)
    which = which.reshape(-1)
    if not ordered:
        order = np.argsort(first)
        values, first, counts = values.take(order, axis), first[order], counts[order]
        which = np.argsort(order)[which]
    return tuple(to_torch(np.ascontiguousarray(found)) for found in (values, first, which, counts))
