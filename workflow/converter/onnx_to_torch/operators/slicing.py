"""Parts of tensors at regular places, and the places of what a condition picks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from converter.onnx_to_torch.core.registry import Call, on_sizes, operator
from converter.onnx_to_torch.core.values import Known

__all__ = ["picked"]

# What exporters write for an end: the largest number of some integer type.
_OPEN = 2**31 - 1


def picked(x: torch.Tensor, places: torch.Tensor, axis: int) -> torch.Tensor:
    """The elements at those places of the axis, counted from its end where negative; of any number of axes, also none."""
    # Not x[..., places]: Python would read a place without axes as a number.
    return torch.ops.aten.index.Tensor(x, [None] * (axis % x.ndim) + [places])


def _slices(call: Call, shape: list[Any]) -> list[tuple[int, slice, int]] | None:
    """For each axis that is cut: a slice with a step of 1, and the step that goes through it; negative ones backwards."""
    if call.opset < 10:
        starts, ends, axes, steps = call.attribute("starts"), call.attribute("ends"), call.attribute("axes"), None
    else:
        starts, ends, axes, steps = (call.ints(position) for position in range(1, 5))
    assert starts is not None and ends is not None
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if not all(isinstance(number, int) for number in (*axes, *steps)):
        raise call.refusal("needs axes and steps that are known before the model runs, which this model computes")
    cuts = []
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        axis = axis % len(shape)
        cuts.append((axis, _forwards(start, end) if step > 0 else _backwards(start, end, shape[axis]), step))
    return cuts


def _forwards(start: Any, end: Any) -> slice:
    # Python and torch limit both to the axis, as ONNX does.
    return slice(None if _is(start, 0) else start, None if isinstance(end, int) and end >= _OPEN else end)


def _backwards(start: Any, end: Any, size: Any) -> slice:
    """What is read from start down to just above end, in the order in which it lies."""
    if isinstance(start, int):
        # What lies before the first element is the first here, not nothing as to Python. Of a size that varies torch.export
        # takes note of which it is, as it does for ends beyond the axis.
        if start < -1 and size + start < 0:
            start = 0
        start = None if start == -1 or start >= _OPEN else start + 1
    else:
        start = start + 1
    if isinstance(end, int):
        # -1 is the last element, above which there is none; what lies before the first stands for all.
        end = size if end == -1 else None if end < -_OPEN else end + 1
        return slice(end, start)
    return slice(end + 1, start)


def _is(number: Any, other: int) -> bool:
    return isinstance(number, int) and number == other


@operator("Slice")
def _slice(call: Call) -> torch.Tensor:
    x = call.tensor(0)
    for axis, part, step in _slices(call, list(x.shape)) or []:
        before = (slice(None),) * axis
        if part != slice(None):
            x = x[(*before, part)]
        if step < 0:
            x = x.flip(axis)
        if abs(step) != 1:
            x = x[(*before, slice(None, None, abs(step)))]
    return x


@on_sizes("Slice")
def _slice_sizes(call: Call, arrays: list[np.ndarray]) -> np.ndarray | None:
    array = arrays[0]
    for axis, part, step in _slices(call, list(array.shape)) or []:
        if not all(bound is None or isinstance(bound, int) for bound in (part.start, part.stop)):
            return None
        before = (slice(None),) * axis
        array = array[(*before, part)][(*before, slice(None, None, step))]
    return array


@operator("NonZero")
def _non_zero(call: Call) -> torch.Tensor:
    x = call.tensor(0)
    # onnxruntime takes a number without axes for a row of one.
    x = x.reshape(1) if x.ndim == 0 else x
    return (x if x.dtype == torch.bool else x != 0).nonzero().transpose(0, 1)


@on_sizes("NonZero")
def _non_zero_sizes(call: Call, arrays: list[np.ndarray]) -> Known | None:
    if arrays[0].dtype == object:
        return None
    return call.sizes(np.array(np.nonzero(np.atleast_1d(arrays[0])), np.int64))


@operator("Compress")
def _compress(call: Call) -> torch.Tensor:
    """The parts along an axis, or of all elements in a row, for which the condition holds; it may end early."""
    x, axis = call.tensor(0), call.attribute("axis")
    if axis is None:
        x, axis = x.reshape(-1), 0
    condition = call.known(1)
    if condition is not None:
        return picked(x, torch.from_numpy(np.flatnonzero(condition)), axis)
    return picked(x, call.tensor(1).nonzero().reshape(-1), axis)


@on_sizes("Compress")
def _compress_sizes(call: Call, arrays: list[np.ndarray]) -> np.ndarray | None:
    if arrays[1].dtype == object:
        return None
    return np.compress(arrays[1], arrays[0], call.attribute("axis"))
