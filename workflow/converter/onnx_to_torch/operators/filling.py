"""Tensors that are made of a shape, a range or positions rather than of other tensors' elements."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from converter.onnx_to_torch.core.integers import in_int64
from converter.onnx_to_torch.core.registry import Call, on_sizes, operator
from converter.onnx_to_torch.core.values import Known, to_torch, torch_dtype

__all__: list[str] = []

# Longer ones are positions that the program counts itself rather than shapes or axes.
_MOST_NUMBERS = 256


def _filler(call: Call) -> np.ndarray:
    return call.attribute("value", np.zeros(1, np.float32)).reshape(-1)[0]


@operator("ConstantOfShape")
def _constant_of_shape(call: Call) -> torch.Tensor:
    filler = to_torch(np.array(_filler(call)))
    return torch.full(call.ints(0) or [], filler.item(), dtype=filler.dtype)


@on_sizes("ConstantOfShape")
def _constant_of_shape_sizes(call: Call, arrays: list[np.ndarray]) -> Known | None:
    sizes, filler = call.ints(0) or [], _filler(call)
    if not all(isinstance(size, int) for size in sizes) or math.prod(sizes) > _MOST_NUMBERS:
        return None
    return Known(np.full(sizes, filler), filler.dtype, False)


@operator("Range")
def _range(call: Call) -> torch.Tensor:
    values = call.inputs
    are_numbers = all(isinstance(value, Known) for value in values)
    is_float = not are_numbers and any(call.tensor(position).is_floating_point() for position in range(3))
    if is_float or not isinstance(values[2], Known) or values[2].symbolic:
        return _computed_range(*(call.tensor(position).reshape(()) for position in range(3)))
    start, limit, delta = (call.int(position) for position in range(3))
    dtype = to_torch(np.zeros(0, values[2].dtype)).dtype
    if all(isinstance(number, int | float) for number in (start, limit)) and (limit - start) * delta <= 0:
        return torch.zeros(0, dtype=dtype)  # torch.arange raises
    return torch.arange(start, limit, delta, dtype=dtype)


def _computed_range(start: torch.Tensor, limit: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
    """Of tensors without axes: as many numbers as they say."""
    count = ((limit - start).to(torch.float64) / delta.to(torch.float64)).ceil().clamp(min=0).to(torch.int64).item()
    return start + torch.arange(count).to(start.dtype) * delta  # type: ignore[arg-type]


@on_sizes("Range")
def _range_sizes(call: Call, arrays: list[np.ndarray]) -> Known | None:
    if any(array.dtype == object for array in arrays):
        return None
    start, limit, delta = (array.item() for array in arrays)
    numbers = np.arange(start, limit, delta, dtype=arrays[0].dtype)
    return Known(numbers, numbers.dtype, False) if len(numbers) <= _MOST_NUMBERS else None


@operator("EyeLike")
def _eye_like(call: Call) -> torch.Tensor:
    x = call.tensor(0)
    dtype = torch_dtype(call.attribute("dtype")) if call.attribute("dtype") is not None else x.dtype
    if dtype is None:
        raise call.refusal("makes a type that torch has no tensors of")
    rows, columns = (torch.arange(size) for size in x.shape)
    return (rows.unsqueeze(1) + call.attribute("k", 0) == columns).to(dtype)


@operator("OneHot")
def _one_hot(call: Call) -> torch.Tensor:
    indices, depth, axis = call.tensor(0).to(torch.int64), _depth(call), call.attribute("axis", -1)
    indices = torch.where(indices < 0, indices + depth, indices)
    axis = axis % (indices.ndim + 1)
    places = torch.arange(depth).reshape([-1] + [1] * (indices.ndim - axis))
    hot = indices.unsqueeze(axis) == places
    off_on, dtype = call.known(2), call.tensor(2).dtype
    if off_on is not None and list(off_on) == [0, 1]:
        return hot.to(dtype)
    return in_int64(lambda values: torch.where(hot, values[1], values[0]), call.tensor(2))


def _depth(call: Call) -> Any:
    depth = call.int(1)
    return int(depth) if isinstance(depth, float) else depth


@operator("Trilu")
def _trilu(call: Call) -> torch.Tensor:
    x, upper = call.tensor(0), call.attribute("upper", 1)
    diagonal = call.known(1) if call.has(1) else np.zeros(1, np.int64)
    if diagonal is not None:
        keep = torch.triu if upper else torch.tril
        return in_int64(lambda x: keep(x, int(diagonal.item())), x)
    rows, columns = (torch.arange(size) for size in x.shape[-2:])
    above = columns - rows.unsqueeze(1) - call.tensor(1).reshape(())
    return in_int64(lambda x: torch.where(above >= 0 if upper else above <= 0, x, torch.zeros_like(x)), x)


@operator("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli")
def _random(call: Call) -> torch.Tensor:
    raise call.refusal("draws random numbers, which are others in every run: there is nothing to compare a result with")


@operator("Dropout")
def _dropout(call: Call) -> tuple[torch.Tensor, ...]:
    """Nothing is dropped outside of training."""
    x = call.tensor(0)
    if call.has(2):
        training, ratio = call.known(2), call.known(1) if call.has(1) else np.array(0.5)
        if training is None or (training.any() and (ratio is None or ratio.any())):
            raise call.refusal("drops elements at random as in training: export the model for inference")
    if not call.wants(1):
        return (x,)
    # What is kept; before opset 12 onnxruntime says of all that it is not dropped, with zeros.
    mask = torch.ones_like if call.opset >= 12 else torch.zeros_like
    return x, mask(x, dtype=torch.bool if call.opset >= 10 else x.dtype)
