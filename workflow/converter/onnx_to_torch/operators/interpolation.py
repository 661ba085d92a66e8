"""Along one axis: where in the input each element of a resized output lies, and which elements it is made of.

Computed in numpy where the sizes are known, and else in torch: the formulas are the same, in float32 as
onnxruntime's are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from converter.onnx_to_torch.core.values import to_torch

__all__ = ["ResizedAxis", "interpolated", "nearest_index", "positions"]

# An array of numpy or torch.
_Array = Any
_MATRIX_FROM = 6


@dataclass(frozen=True)
class ResizedAxis:
    """old, new: its sizes. scale: new by old, for the positions. start, end: of a region, in parts of old."""

    axis: int
    old: Any
    new: Any
    scale: Any
    start: Any = 0.0
    end: Any = 1.0

    @property
    def known(self) -> bool:
        """Whether everything about it is a plain number."""
        sizes = isinstance(self.old, int) and isinstance(self.new, int)
        return sizes and all(isinstance(x, int | float | np.floating) for x in (self.scale, self.start, self.end))


def positions(axis: ResizedAxis, mode: str) -> _Array:
    """(new,): where in the input, by the coordinate_transformation_mode."""
    old, new, scale = axis.old, axis.new, axis.scale
    i = np.arange(new, dtype=np.float32) if axis.known else torch.arange(new, dtype=torch.float32)
    if mode == "half_pixel":
        return (i + 0.5) / scale - 0.5
    if mode == "pytorch_half_pixel":
        # 0 where there is but one element.
        return ((i + 0.5) / scale - 0.5) * _smaller(new - 1, 1)
    if mode == "asymmetric":
        return i / scale
    if mode == "align_corners":
        return i * (old - 1) / _larger(new - 1, 1)
    if mode == "tf_half_pixel_for_nn":
        return (i + 0.5) / scale
    if mode == "half_pixel_symmetric":
        return old / 2 * (1 - new / (old * scale)) + (i + 0.5) / scale - 0.5
    assert mode == "tf_crop_and_resize", mode
    if isinstance(new, int) and new == 1:
        return 0.5 * (axis.start + axis.end) * (old - 1) + i
    return axis.start * (old - 1) + i * (axis.end - axis.start) * (old - 1) / _larger(new - 1, 1)


def nearest_index(places: _Array, old: Any, mode: str, *, smaller: bool) -> _Array:
    """(new,): the element nearest to each position. mode: "simple" is how the operators before opset 11 cut it off."""
    array = _library(places)
    if mode == "simple":
        mode = "ceil" if smaller else "floor"
    if mode == "round_prefer_floor":
        places = array.ceil(places - 0.5)
    elif mode == "round_prefer_ceil":
        places = array.floor(places + 0.5)
    else:
        places = array.ceil(places) if mode == "ceil" else array.floor(places)
    return _integers(_clipped(places, old))


def interpolated(
    x: torch.Tensor, axis: ResizedAxis, places: _Array, *, cubic: float | None, exclude_outside: bool, antialias: bool
) -> torch.Tensor:
    """x, resized along the axis: each output is a weighted mean of the elements around its place.

    cubic: the coefficient; None for linear. antialias: the scale has to be a plain number.
    """
    index, weights = _taps(places, axis, cubic, exclude_outside, antialias)
    index, weights = (to_torch(part) if isinstance(part, np.ndarray) else part for part in (index, weights))
    count, weights = index.shape[1], weights.to(x.dtype)
    rest = [1] * (x.dim() - 1 - axis.axis)
    if count < _MATRIX_FROM:
        parts = [
            torch.index_select(x, axis.axis, index[:, tap]) * weights[:, tap].reshape(-1, *rest) for tap in range(count)
        ]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total
    matrix = torch.zeros(axis.new, axis.old, dtype=x.dtype).scatter_add(1, index, weights)
    return torch.movedim(torch.matmul(torch.movedim(x, axis.axis, -1), matrix.T), -1, axis.axis)


def _taps(
    places: _Array, axis: ResizedAxis, cubic: float | None, exclude_outside: bool, antialias: bool
) -> tuple[_Array, _Array]:
    """Indices and weights (new, taps). Elements beyond the edges are those at the edges, or count nothing."""
    array = _library(places)
    reach = 1 if cubic is None else 2
    # An antialiasing filter is as much wider as the output is smaller.
    width = max(1.0, 1.0 / float(axis.scale)) if antialias else 1.0
    count = 2 * math.ceil(reach * width)
    steps = array.arange(count) - (count // 2 - 1)
    first = array.floor(places)
    index = first[:, None] + steps
    distance = abs(index - places[:, None]) / width
    weights = _triangle(array, distance) if cubic is None else _cubic(array, distance, cubic)
    if exclude_outside:
        weights = array.where((index >= 0) & (index <= axis.old - 1), weights, 0.0)
    if exclude_outside or antialias:
        weights = weights / weights.sum(1)[:, None]
    return _integers(_clipped(index, axis.old)), weights


def _triangle(array: Any, distance: _Array) -> _Array:
    return array.where(distance < 1, 1 - distance, 0.0)


def _cubic(array: Any, distance: _Array, a: float) -> _Array:
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return array.where(distance <= 1, near, array.where(distance < 2, far, 0.0))


def _library(values: _Array) -> Any:
    return np if isinstance(values, np.ndarray) else torch


def _clipped(values: _Array, old: Any) -> _Array:
    if isinstance(values, np.ndarray):
        return np.clip(values, 0, old - 1)
    return torch.minimum(values.clamp(min=0), torch.scalar_tensor(old - 1, dtype=values.dtype))


def _integers(values: _Array) -> _Array:
    return values.astype(np.int64) if isinstance(values, np.ndarray) else values.to(torch.int64)


def _larger(first: Any, second: Any) -> Any:
    return max(first, second) if isinstance(first, int) else torch.sym_max(first, second)


def _smaller(first: Any, second: Any) -> Any:
    return min(first, second) if isinstance(first, int) else torch.sym_min(first, second)
