"""Elements at places that a tensor names."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from converter.onnx_to_torch.core.integers import in_int64
from converter.onnx_to_torch.core.registry import Call, on_sizes, operator
from converter.onnx_to_torch.core.values import Known
from converter.onnx_to_torch.operators.slicing import picked

__all__ = ["from_front"]


def from_front(call: Call, position: int, size: Any) -> torch.Tensor:
    """Places (int64) along an axis of that size, negative ones counted from the front; for functions that take no others."""
    known = call.known(position)
    if known is not None and (known.size == 0 or known.min() >= 0):
        return call.tensor(position).to(torch.int64)
    places = call.tensor(position).to(torch.int64)
    return torch.where(places < 0, places + size, places)


@operator("Gather")
def _gather(call: Call) -> torch.Tensor:
    x, axis = call.tensor(0), call.attribute("axis", 0)
    table, places = call.inputs[0], call.inputs[1]
    if isinstance(places, Known) and places.array.ndim == 0:
        return x.select(axis, places.array.item())
    is_table = isinstance(table, Known) and table.constant and x.ndim == 2 and x.is_floating_point()
    indices = call.tensor(1)
    if is_table and axis in (0, -2) and not isinstance(places, Known):
        # To torch an embedding, which counts no rows from the end.
        if not call.frame.module.is_tracing() and (indices < 0).any():
            raise call.refusal("takes rows of a table by indices below zero, which embeddings have not")
        return functional.embedding(indices.to(torch.int64), x)
    return picked(x, indices if indices.dtype == torch.int64 else indices.to(torch.int64), axis)


@on_sizes("Gather")
def _gather_sizes(call: Call, arrays: list[np.ndarray]) -> np.ndarray | None:
    array, places = arrays
    return None if places.dtype == object else np.take(array, places, call.attribute("axis", 0))


@operator("GatherElements")
def _gather_elements(call: Call) -> torch.Tensor:
    x, axis = call.tensor(0), call.attribute("axis", 0)
    places = from_front(call, 1, x.shape[axis])
    return in_int64(lambda x: x.gather(axis, places), x)


@on_sizes("GatherElements")
def _gather_elements_sizes(call: Call, arrays: list[np.ndarray]) -> np.ndarray | None:
    array, places = arrays
    axis = call.attribute("axis", 0)
    if places.dtype == object:
        return None
    coordinates = list(np.indices(places.shape, sparse=True))
    coordinates[axis] = places
    return array[tuple(coordinates)]


@operator("GatherND")
def _gather_nd(call: Call) -> torch.Tensor:
    x, indices, batch = call.tensor(0), call.tensor(1), call.attribute("batch_dims", 0)
    rank = indices.ndim - 1
    places = [torch.arange(x.shape[axis]).reshape([1] * axis + [-1] + [1] * (rank - axis - 1)) for axis in range(batch)]
    return torch.ops.aten.index.Tensor(x, [*places, *indices.unbind(-1)])


@on_sizes("GatherND")
def _gather_nd_sizes(call: Call, arrays: list[np.ndarray]) -> np.ndarray | None:
    array, places = arrays
    if places.dtype == object or call.attribute("batch_dims", 0):
        return None
    return array[tuple(np.moveaxis(places, -1, 0))]


@operator("ReverseSequence")
def _reverse_sequence(call: Call) -> torch.Tensor:
    """The first elements in time, as many as each sequence has, in the opposite order."""
    x, lengths = call.tensor(0), call.tensor(1)
    time, batch = call.attribute("time_axis", 0), call.attribute("batch_axis", 1)
    steps = torch.arange(x.shape[time]).unsqueeze(1)
    places = torch.where(steps < lengths, lengths - 1 - steps, steps)
    parts = x.movedim((time, batch), (0, 1))
    reversed_ = torch.ops.aten.index.Tensor(parts, [places, torch.arange(x.shape[batch])])
    return reversed_.movedim((0, 1), (time, batch))
