"""Elements written to places that a tensor names."""

from __future__ import annotations

import numpy as np
import torch

from converter.onnx_to_torch.core.integers import in_int64
from converter.onnx_to_torch.core.registry import Call, on_sizes, operator
from converter.onnx_to_torch.operators.gathering import from_front

__all__: list[str] = []

_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _scattered(reduction: str, axis: int, x: torch.Tensor, places: torch.Tensor, updates: torch.Tensor) -> torch.Tensor:
    def scatter(updates: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        if reduction == "none":
            return x.scatter(axis, places, updates)
        if reduction == "add":
            return x.scatter_add(axis, places, updates)
        return x.scatter_reduce(axis, places, updates, _REDUCTIONS[reduction])

    if x.dtype == torch.bool and reduction != "none":
        # add and max are "or", mul and min are "and".
        return scatter(updates.to(torch.uint8), x.to(torch.uint8)).to(torch.bool)
    return in_int64(scatter, updates, x)


@operator("Scatter", "ScatterElements")
def _scatter_elements(call: Call) -> torch.Tensor:
    x, updates, axis = call.tensor(0), call.tensor(2), call.attribute("axis", 0)
    return _scattered(call.attribute("reduction", "none"), axis, x, from_front(call, 1, x.shape[axis]), updates)


@operator("ScatterND")
def _scatter_nd(call: Call) -> torch.Tensor:
    x, indices, updates = call.tensor(0), call.tensor(1), call.tensor(2)
    reduction, depth = call.attribute("reduction", "none"), indices.shape[-1]
    if reduction == "none" or (reduction == "add" and x.dtype != torch.bool):
        places = indices.unbind(-1)
        return in_int64(lambda updates, x: x.index_put(places, updates, reduction == "add"), updates, x)
    # As torch reduces along one axis: the named axes as one.
    flat = x.flatten(0, depth - 1)
    row: torch.Tensor | int = 0
    for axis, places in enumerate(indices.unbind(-1)):
        row = row * x.shape[axis] + torch.where(places < 0, places + x.shape[axis], places)
    assert isinstance(row, torch.Tensor)
    rows = row.reshape([-1] + [1] * (flat.ndim - 1)).expand([-1, *flat.shape[1:]])
    return _scattered(reduction, 0, flat, rows, updates.reshape([-1, *flat.shape[1:]])).reshape(x.shape)


@on_sizes("ScatterND")
def _scatter_nd_sizes(call: Call, arrays: list[np.ndarray]) -> np.ndarray | None:
    array, places, updates = arrays
    if places.dtype == object or call.attribute("reduction", "none") != "none":
        return None
    result = array.astype(object)
    result[tuple(np.moveaxis(places, -1, 0))] = updates.astype(object)
    return result


@operator("TensorScatter")
def _tensor_scatter(call: Call) -> torch.Tensor:
    """The update of a cache, from each row's place on along an axis; in mode circular from its start again."""
    cache, update, axis = call.tensor(0), call.tensor(1), call.attribute("axis", -2)
    axis = axis % cache.ndim
    places = torch.arange(update.shape[axis]).reshape([-1] + [1] * (cache.ndim - axis - 1))
    if call.has(2):
        places = places + call.tensor(2).to(torch.int64).reshape([-1] + [1] * (cache.ndim - 1))
    if call.attribute("mode", "linear") == "circular":
        places = places % cache.shape[axis]
    return _scattered("none", axis, cache, places.expand(update.shape), update)
