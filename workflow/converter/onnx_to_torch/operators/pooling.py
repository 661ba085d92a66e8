"""Pooling over windows and over all places, and its inverse."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from converter.onnx_to_torch.core.registry import Call, operator
from converter.onnx_to_torch.operators.windows import Windows, pad_around

__all__ = ["max_pooled"]

_MAX = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_AVERAGE = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}
_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_GLOBAL_AVERAGE = {
    1: functional.adaptive_avg_pool1d,
    2: functional.adaptive_avg_pool2d,
    3: functional.adaptive_avg_pool3d,
}
_GLOBAL_MAX = {1: functional.adaptive_max_pool1d, 2: functional.adaptive_max_pool2d, 3: functional.adaptive_max_pool3d}


@operator("MaxPool")
def _max_pool(call: Call) -> tuple[torch.Tensor, ...]:
    return max_pooled(call, call.tensor(0), indices=call.wants(1))


def max_pooled(call: Call, x: torch.Tensor, *, indices: bool = False) -> tuple[torch.Tensor, ...]:
    """The largest of each window of (N, C, ...) with the node's attributes; and where in the whole tensor it stands."""
    windows, sizes = _windows(call, x), list(x.shape[2:])
    rank, dtype = len(sizes), x.dtype
    # torch pads by at most half a window, and evenly.
    evenly = windows.symmetric and all(
        2 * side <= length for side, length in zip(windows.before, windows.kernel, strict=True)
    )
    ceil = bool(call.attribute("ceil_mode", 0))
    padding: Any = windows.before
    if not dtype.is_floating_point:
        x = x.double() if dtype in (torch.int32, torch.int64) else x.float()
    padded = list(sizes)
    if not evenly:
        after = _after(windows, sizes) if ceil else windows.after
        x = pad_around(x, windows.before, after, -math.inf)
        padded, padding, ceil = list(x.shape[2:]), 0, False
    arguments = (x, windows.kernel, windows.strides, padding, windows.dilations, ceil)
    # torch.export (torch 2.13) takes the length for a constant where max_pool1d gives no indices.
    if not indices and (rank > 1 or isinstance(x.shape[2], int)):
        return (_MAX[rank](*arguments).to(dtype),)
    y, places = _MAX[rank](*arguments, return_indices=True)
    if not indices:
        return (y.to(dtype),)
    # TensorFlow Lite divides no int64 (LiteRT 2.3), and no tensor has as many elements.
    parts = _unraveled(places.to(torch.int32), padded)
    if not evenly:
        parts = [part - side for part, side in zip(parts, windows.before, strict=True)]
    if call.attribute("storage_order", 0):
        parts, sizes = parts[::-1], sizes[::-1]
    place = parts[0]
    for part, size in zip(parts[1:], sizes[1:], strict=True):
        place = place * size + part
    planes = torch.arange(x.shape[0] * x.shape[1]).reshape(x.shape[0], x.shape[1], *[1] * rank)
    return y.to(dtype), place.to(torch.int64) + planes * math.prod(sizes)


def _unraveled(places: torch.Tensor, sizes: Sequence[Any]) -> list[torch.Tensor]:
    parts = []
    for size in reversed(sizes[1:]):
        parts.append(places % size)
        places = torch.div(places, size, rounding_mode="floor")
    return [places, *reversed(parts)]


def _windows(call: Call, x: torch.Tensor) -> Windows:
    return Windows.of(call, x.shape[2:], call.attribute("kernel_shape"), pooling=True)


def _after(windows: Windows, sizes: Sequence[Any]) -> list[Any]:
    """The padding behind with which the last window ends where rounding up lets it: it starts before that padding."""
    result = []
    for size, first, last, span, stride in zip(
        sizes, windows.before, windows.after, windows.spans, windows.strides, strict=True
    ):
        count = (size + first + last - span + stride - 1) // stride + 1
        most = (size + first + stride - 1) // stride
        numbers = isinstance(count, int) and isinstance(most, int)
        count = min(count, most) if numbers else torch.sym_min(count, most)
        result.append((count - 1) * stride + span - size - first)
    return result


@operator("AveragePool")
def _average_pool(call: Call) -> torch.Tensor:
    x, windows = call.tensor(0), _windows(call, call.tensor(0))
    sizes, rank = list(x.shape[2:]), x.dim() - 2
    include, ceil = bool(call.attribute("count_include_pad", 0)), bool(call.attribute("ceil_mode", 0))
    plain = all(dilation == 1 for dilation in windows.dilations)
    evenly = windows.symmetric and all(
        2 * side <= length for side, length in zip(windows.before, windows.kernel, strict=True)
    )
    if plain and evenly:
        return _AVERAGE[rank](x, windows.kernel, windows.strides, windows.before, ceil, include)
    after = _after(windows, sizes) if ceil else windows.after
    sums = _window_sums(pad_around(x, windows.before, after), windows)
    counted = torch.ones(1, 1, *sizes, dtype=x.dtype)
    if include:
        counted = pad_around(counted, windows.before, windows.after, 1.0)
        after = [last - own for last, own in zip(after, windows.after, strict=True)]
        counted = pad_around(counted, [0] * rank, after)
    else:
        counted = pad_around(counted, windows.before, after)
    return sums / _window_sums(counted, windows)


def _window_sums(x: torch.Tensor, windows: Windows) -> torch.Tensor:
    """Of the elements of each window of (N, C, ...), which is padded already."""
    rank = len(windows.kernel)
    if rank < 3 and all(dilation == 1 for dilation in windows.dilations):
        return _AVERAGE[rank](x, windows.kernel, windows.strides) * math.prod(windows.kernel)
    planes = x.reshape(x.shape[0] * x.shape[1], 1, *x.shape[2:])
    ones = torch.ones(1, 1, *windows.kernel, dtype=x.dtype)
    sums = _CONVOLUTIONS[rank](planes, ones, None, windows.strides, 0, windows.dilations)
    return sums.reshape(x.shape[0], x.shape[1], *sums.shape[2:])


@operator("LpPool")
def _lp_pool(call: Call) -> torch.Tensor:
    x, windows, power = call.tensor(0), _windows(call, call.tensor(0)), call.attribute("p", 2)
    after = _after(windows, list(x.shape[2:])) if call.attribute("ceil_mode", 0) else windows.after
    return _root(_window_sums(pad_around(_power(x, power), windows.before, after), windows), power)


def _power(x: torch.Tensor, power: int) -> torch.Tensor:
    return x.abs() if power == 1 else x * x if power == 2 else x.abs().pow(power)


def _root(x: torch.Tensor, power: int) -> torch.Tensor:
    return x if power == 1 else x.sqrt() if power == 2 else x.pow(1 / power)


@operator("GlobalAveragePool")
def _global_average_pool(call: Call) -> torch.Tensor:
    x = call.tensor(0)
    function = _GLOBAL_AVERAGE.get(x.dim() - 2)
    return x.mean(list(range(2, x.dim())), keepdim=True) if function is None else function(x, 1)


@operator("GlobalMaxPool")
def _global_max_pool(call: Call) -> torch.Tensor:
    x = call.tensor(0)
    function = _GLOBAL_MAX.get(x.dim() - 2)
    return x.amax(list(range(2, x.dim())), keepdim=True) if function is None else function(x, 1)


@operator("GlobalLpPool")
def _global_lp_pool(call: Call) -> torch.Tensor:
    x, power = call.tensor(0), call.attribute("p", 2)
    return _root(_power(x, power).sum(list(range(2, x.dim())), keepdim=True), power)


@operator("MaxUnpool")
def _max_unpool(call: Call) -> torch.Tensor:
    x, places = call.tensor(0), call.tensor(1)
    windows = _windows(call, x)
    sizes = [
        (size - 1) * stride + length - first - last
        for size, stride, length, first, last in zip(
            x.shape[2:], windows.strides, windows.kernel, windows.before, windows.after, strict=True
        )
    ]
    shape = [x.shape[0], x.shape[1], *sizes]
    asked = call.ints(2)
    flat = torch.zeros(math.prod(shape if asked is None else asked), dtype=x.dtype)
    # The places are counted in the whole result.
    return flat.scatter(0, places.reshape(-1), x.reshape(-1)).reshape(shape if asked is None else asked)
