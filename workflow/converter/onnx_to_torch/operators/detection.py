"""Boxes: the suppression of those that overlap, and pooling of the regions within them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from converter.onnx_to_torch.core.registry import Call, operator
from converter.torch.extensions.vision import vision_operators

__all__: list[str] = []


@operator("NonMaxSuppression")
def _non_max_suppression(call: Call) -> torch.Tensor:
    """(n, 3): image, class and box, by images, classes, and descending scores."""
    boxes, scores = call.tensor(0), call.tensor(1)
    images, classes = scores.shape[0], scores.shape[1]
    if not isinstance(images, int) or not isinstance(classes, int):
        raise call.refusal("needs numbers of images and classes that do not vary")
    most = call.int(2) if call.has(2) else 0
    if isinstance(most, int) and most <= 0:
        return torch.zeros(0, 3, dtype=torch.int64)
    overlap, least = _overlap(call), call.optional(4)
    vision_operators()
    corners = _corners(boxes, bool(call.attribute("center_point_box", 0)))
    rows = []
    for image in range(images):
        for label in range(classes):
            own = scores[image, label]
            kept = torch.ops.torchvision.nms(corners[image], own, overlap)
            if least is not None:
                # A lower score suppresses no higher one: those below may be left out afterwards.
                kept = kept[own[kept] > least.reshape(())]
            kept = kept[:most]
            place = torch.tensor([[image, label]]).expand(kept.shape[0], 2)
            rows.append(torch.cat([place, kept[:, None]], 1))
    return torch.cat(rows)


def _overlap(call: Call) -> float:
    """The threshold, a number of float32."""
    if not call.has(3):
        return 0.0
    known = call.known(3)
    if known is None:
        raise call.refusal("needs an iou_threshold that is known before the model runs")
    return float(np.float32(known.reshape(-1)[0]))


def _corners(boxes: torch.Tensor, centres: bool) -> torch.Tensor:
    """The lesser corner first."""
    first, second = boxes[..., :2], boxes[..., 2:]
    if centres:
        return torch.cat([first - second / 2, first + second / 2], -1)
    return torch.cat([torch.minimum(first, second), torch.maximum(first, second)], -1)


@operator("RoiAlign")
def _roi_align(call: Call) -> torch.Tensor:
    x, rois, images = call.tensor(0), call.tensor(1), call.tensor(2)
    size = call.attribute("output_height", 1), call.attribute("output_width", 1)
    scale, samples = call.attribute("spatial_scale", 1.0), call.attribute("sampling_ratio", 0)
    half = call.opset >= 16 and call.attribute("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    if call.attribute("mode", "avg") != "max":
        vision_operators()
        regions = torch.cat([images.to(rois.dtype)[:, None], rois], 1)
        return torch.ops.torchvision.roi_align(x, regions, scale, *size, samples, half)
    if samples <= 0:
        raise call.refusal("needs a sampling_ratio for the mode max: else each region has its own number of samples")
    starts, ends = rois[:, :2] * scale - 0.5 * half, rois[:, 2:] * scale - 0.5 * half
    lengths = ends - starts if half else (ends - starts).clamp(min=1)
    columns, rows = (
        _samples(starts[:, axis], lengths[:, axis], size[1 - axis], samples, x.shape[3 - axis]) for axis in (0, 1)
    )
    flat = x.permute(0, 2, 3, 1).reshape(x.shape[0] * x.shape[2] * x.shape[3], x.shape[1])
    first = images.to(torch.int64)[:, None, None] * x.shape[2]
    parts = []
    for row, row_weight in rows:
        for column, column_weight in columns:
            places = (first + row[:, :, None]) * x.shape[3] + column[:, None, :]
            weights = row_weight[:, :, None] * column_weight[:, None, :]
            parts.append(flat[places] * weights[..., None])
    # (regions, rows, columns, C): of each sample the largest of its four weighted neighbours, as onnxruntime takes it.
    values = torch.stack(parts).amax(0).reshape(rois.shape[0], size[0], samples, size[1], samples, x.shape[1])
    pooled = values.amax((2, 4))
    return pooled.permute(0, 3, 1, 2)


def _samples(
    start: torch.Tensor, length: torch.Tensor, bins: int, samples: int, size: Any
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Elements and weights (regions, bins * samples) below and above each sample along one axis: 0 beyond the edges."""
    steps = (torch.arange(bins * samples, dtype=start.dtype) + 0.5) / samples
    places = start[:, None] + length[:, None] / bins * steps
    inside = ((places >= -1) & (places <= size)).to(start.dtype)
    places = torch.minimum(places.clamp(min=0), torch.scalar_tensor(size - 1, dtype=start.dtype))
    low = torch.floor(places)
    upper = places - low
    index = low.to(torch.int64)
    above = torch.minimum(index + 1, torch.scalar_tensor(size - 1, dtype=torch.int64))
    return [(index, (1 - upper) * inside), (above, upper * inside)]


@operator("MaxRoiPool")
def _max_roi_pool(call: Call) -> torch.Tensor:
    x, rois = call.tensor(0), call.tensor(1)
    heights, widths = call.attribute("pooled_shape")
    # Rounded half away from zero.
    places = rois[:, 1:] * call.attribute("spatial_scale", 1.0)
    places = torch.sign(places) * torch.floor(places.abs() + 0.5)
    images = x[rois[:, 0].to(torch.int64)]
    lows = torch.finfo(x.dtype).min
    rows = _bins(places[:, 1], places[:, 3], heights, x.shape[2])
    columns = _bins(places[:, 0], places[:, 2], widths, x.shape[3])
    # One row and one column of bins at a time: all at once would hold the image for each bin.
    bands = [torch.where(rows[:, None, row, :, None], images, lows).amax(2) for row in range(heights)]
    pooled = torch.stack(
        [
            torch.stack([torch.where(columns[:, None, column], band, lows).amax(2) for column in range(widths)], -1)
            for band in bands
        ],
        -2,
    )
    empty = ~rows.any(2)[:, None, :, None] | ~columns.any(2)[:, None, None, :]
    return torch.where(empty, 0.0, pooled).to(x.dtype)


def _bins(start: torch.Tensor, end: torch.Tensor, bins: int, size: Any) -> torch.Tensor:
    """(regions, bins, size): which elements along an axis belong to which bin."""
    length = (end - start + 1).clamp(min=1)[:, None] / bins
    index = torch.arange(bins, dtype=start.dtype)
    first = torch.floor(index * length) + start[:, None]
    behind = torch.ceil((index + 1) * length) + start[:, None]
    elements = torch.arange(size, dtype=start.dtype)
    return (elements >= first[..., None]) & (elements < behind[..., None])
