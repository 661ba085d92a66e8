"""Convolutions: ordinary, transposed and deformable, and columns put back into images."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional

from converter.onnx_to_torch.core.registry import Call, operator
from converter.onnx_to_torch.operators.windows import Windows, pad_around
from converter.torch.extensions.deformable_convolution import deform_conv2d

__all__ = ["convolved"]

_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSED = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}


@operator("Conv")
def _conv(call: Call) -> torch.Tensor:
    return convolved(call, call.tensor(0), call.tensor(1), call.optional(2))


def convolved(call: Call, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """A convolution of (N, C, ...) with the node's attributes."""
    windows = Windows.of(call, x.shape[2:], weight.shape[2:])
    padding: Any = windows.before
    if not windows.symmetric:
        x, padding = pad_around(x, windows.before, windows.after), 0
    groups = call.attribute("group", 1)
    function = _CONVOLUTIONS[len(windows.kernel)]
    return function(x, weight, bias, windows.strides, padding, windows.dilations, groups)


@operator("ConvTranspose")
def _conv_transpose(call: Call) -> torch.Tensor:
    x, weight, bias = call.tensor(0), call.tensor(1), call.optional(2)
    sizes, rank = x.shape[2:], x.dim() - 2
    windows = Windows.of(call, sizes, weight.shape[2:])
    added = call.attribute("output_padding") or [0] * rank
    before, after = _cropped(call, windows, sizes, added)
    options = {"stride": windows.strides, "dilation": windows.dilations, "groups": call.attribute("group", 1)}
    function = _TRANSPOSED[rank]
    # The output padding that torch would need beside what it crops evenly; it must be smaller than a stride.
    rests = [first - last if isinstance(first - last, int) else -1 for first, last in zip(before, after, strict=True)]
    evenly = all(isinstance(first, int) and first >= 0 for first in before) and all(
        0 <= rest < max(stride, dilation)
        for rest, stride, dilation in zip(rests, windows.strides, windows.dilations, strict=True)
    )
    if evenly:
        return function(x, weight, bias, padding=before, output_padding=rests, **options)
    grown = any(not isinstance(side, int) or side < 0 for side in (*before, *after))
    y = function(x, weight, None if grown else bias, **options)
    y = pad_around(y, [-side for side in before], [-side for side in after])
    return y if bias is None or not grown else y + bias.reshape(-1, *[1] * rank)


def _cropped(call: Call, windows: Windows, sizes: Any, added: list[int]) -> tuple[list[Any], list[Any]]:
    """How much of each end of the whole result is left out; negative where zeros are added there."""
    rank, auto = len(windows.kernel), call.attribute("auto_pad", "NOTSET")
    asked = call.attribute("output_shape")
    if not asked and auto in ("NOTSET", "VALID"):
        return windows.before, [side - more for side, more in zip(windows.after, added, strict=True)]
    before, after = [], []
    for axis, (span, stride, more) in enumerate(zip(windows.spans, windows.strides, added, strict=True)):
        if asked:
            size = sizes[axis]
            whole = (size - 1) * stride + span + more
            total = whole - asked[-rank:][axis]
        else:
            total = max(span + more - stride, 0)
        if isinstance(total, int) and total < 0:
            # onnxruntime pads no negative amounts: what lacks is added behind.
            before.append(0)
            after.append(total - more)
            continue
        half = total // 2
        first, last = (half, total - half) if auto == "SAME_UPPER" else (total - half, half)
        before.append(first)
        after.append(last - more)
    return before, after


@operator("DeformConv")
def _deform_conv(call: Call) -> torch.Tensor:
    x, weight, offset = call.tensor(0), call.tensor(1), call.tensor(2)
    if x.dim() != 4:
        raise call.refusal("has other than two spatial axes")
    bias, mask = call.optional(3), call.optional(4)
    windows = Windows.of(call, x.shape[2:], weight.shape[2:])
    groups, offset_groups = call.attribute("group", 1), call.attribute("offset_group", 1)
    bias = weight.new_zeros(weight.shape[0]) if bias is None else bias
    places = [number for pair in (windows.strides, windows.before, windows.dilations) for number in pair]
    return deform_conv2d(
        x,
        weight,
        offset,
        x if mask is None else mask,
        bias,
        *places,
        groups=groups,
        offset_groups=offset_groups,
        use_mask=mask is not None,
    )


@operator("Col2Im")
def _col2im(call: Call) -> torch.Tensor:
    """Overlapping blocks are added: the transposed convolution with one unit kernel for each place of a block."""
    x, image, block = call.tensor(0), call.ints(1) or [], call.ints(2) or []
    windows = Windows.of(call, image, block)
    places = math.prod(block)
    channels = x.shape[1] // places
    if len(image) == 2 and windows.symmetric:
        sides = (image, block, windows.dilations, windows.before, windows.strides)
        return functional.fold(x, *(tuple(side) for side in sides))
    counts = [
        (size + first + last - span) // stride + 1
        for size, first, last, span, stride in zip(
            image, windows.before, windows.after, windows.spans, windows.strides, strict=True
        )
    ]
    kernels = torch.eye(places, dtype=x.dtype).reshape(places, 1, *block)
    columns = x.reshape(x.shape[0] * channels, places, *counts)
    whole = _TRANSPOSED[len(image)](columns, kernels, stride=windows.strides, dilation=windows.dilations)
    before = [-side for side in windows.before]
    after = [size - side - have for size, side, have in zip(image, before, whole.shape[2:], strict=True)]
    return pad_around(whole, before, after).reshape(x.shape[0], channels, *image)
