"""Functions of torchvision that look at their data in Python, as operators that torch.export can follow.

Each computes what torchvision's own does. It has other ways for torch.jit.trace already; torch.export (2.13) raises where
code asks how many boxes there are, or makes a loop over them.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch

from converter.library_patches.replacing import replaced
from converter.library_patches.torchvision import FOLLOWED

__all__ = [
    "batched_nms",
    "decode",
    "followable_detection",
    "heatmaps_to_keypoints",
    "multiscale_roi_align",
    "paste_masks_in_image",
]


@contextlib.contextmanager
def followable_detection() -> Iterator[None]:
    """Inside, torchvision's detection models can be exported. Nothing happens where they are not imported.

    The code of its functions is replaced, not their names, which scripts may have imported: so that code may use no other
    name of this module than `torch`, which torchvision's modules have too.
    """
    if "torchvision.models.detection" not in sys.modules:
        yield
        return
    functions = (batched_nms, decode, multiscale_roi_align, paste_masks_in_image, heatmaps_to_keypoints)
    with replaced(*((FOLLOWED[function.__name__], function.__code__) for function in functions)):
        yield


def batched_nms(boxes: torch.Tensor, scores: torch.Tensor, idxs: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Suppression within each class: the boxes of a class are moved to where no other class has any.

    torchvision (0.28) does so up to 1000 boxes, and for any number in a trace; above, it goes from class to class.
    """
    # The largest coordinate, also where there is none; -inf written as a number is one that not every exporter takes.
    largest = torch.cat([boxes.new_zeros(1, 4).log(), boxes]).max()
    moved = boxes + (idxs.to(boxes) * (largest + 1))[:, None]
    return torch.ops.torchvision.nms(moved, scores, iou_threshold)


def decode(self: Any, rel_codes: torch.Tensor, boxes: list[torch.Tensor]) -> torch.Tensor:
    """BoxCoder.decode: codes (K, 4 * classes) relative to K boxes, as boxes (K, classes, 4); it asks whether K is 0."""
    decoded = self.decode_single(rel_codes, torch.cat(boxes, dim=0))
    return decoded.reshape(decoded.shape[0], decoded.shape[1] // 4, 4)


def multiscale_roi_align(
    x_filtered: list[torch.Tensor],
    boxes: list[torch.Tensor],
    output_size: list[int],
    sampling_ratio: int,
    scales: list[float],
    mapper: Callable[[list[torch.Tensor]], torch.Tensor],
) -> torch.Tensor:
    """The regions of each level of a pyramid from its features: (K, C, *output_size); it makes a number of K."""
    images = torch.cat([torch.full_like(of_image[:, :1], index) for index, of_image in enumerate(boxes)])
    rois = torch.cat([images, torch.cat(boxes)], dim=1)
    sizes = (*output_size, sampling_ratio, False)
    if len(x_filtered) == 1:
        return torch.ops.torchvision.roi_align(x_filtered[0], rois, scales[0], *sizes)
    levels = mapper(boxes)
    pooled = x_filtered[0].new_zeros((rois.shape[0], x_filtered[0].shape[1], *output_size))
    for level, (features, scale) in enumerate(zip(x_filtered, scales)):  # noqa: B905 (as torchvision does)
        of_level = torch.where(levels == level)[0]
        found = torch.ops.torchvision.roi_align(features, rois[of_level], scale, *sizes)
        pooled = pooled.index_put((of_level,), found.to(pooled.dtype))
    return pooled


def paste_masks_in_image(
    masks: torch.Tensor, boxes: torch.Tensor, img_shape: tuple[int, int], padding: int = 1
) -> torch.Tensor:
    """Masks (K, 1, M, M) resized to their boxes (K, 4), in images of zeros: (K, 1, *img_shape); it loops over K.

    Bilinear resizing is a product with the weights of rows and of columns: a pixel's weights are its distances from the two
    nearest, below 1.
    """
    size = masks.shape[-1] + 2 * padding
    padded = torch.nn.functional.pad(masks[:, 0], (padding,) * 4)
    half = (boxes[:, 2:] - boxes[:, :2]) * 0.5 * (size / masks.shape[-1])
    centre = (boxes[:, 2:] + boxes[:, :2]) * 0.5
    low, high = (centre - half).to(torch.int64), (centre + half).to(torch.int64)
    weights = []
    for axis, length in ((1, img_shape[0]), (0, img_shape[1])):
        start, count = low[:, axis, None], (high[:, axis, None] - low[:, axis, None] + 1).clamp(min=1)
        place = torch.arange(length, device=masks.device) - start
        source = (place.to(masks.dtype) + 0.5) * (size / count.to(masks.dtype)) - 0.5
        source = source.clamp(min=0, max=size - 1)[:, :, None]
        near = 1 - (source - torch.arange(size, device=masks.device, dtype=masks.dtype)).abs()
        inside = (place >= 0) & (place < count)
        weights.append(torch.where(inside[:, :, None], near.clamp(min=0), 0))
    return torch.matmul(torch.matmul(weights[0], padded), weights[1].transpose(1, 2))[:, None]


def heatmaps_to_keypoints(maps: torch.Tensor, rois: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where each of N heatmaps (K, N, M, M) of K boxes (K, 4) is largest: (K, N, 3) and the values (K, N); it loops over K.

    Bicubic resizing to the box's whole pixels is a product with the weights of rows and of columns.
    """
    size = maps.shape[-1]
    lengths = (rois[:, 2:] - rois[:, :2]).clamp(min=1)
    pixels = lengths.ceil()
    weights, insides = [], []
    for axis in (1, 0):
        # As many as the largest box needs; there may be no box at all.
        count = torch.cat([pixels.new_ones(1), pixels[:, axis]]).max().to(torch.int64).item()
        place = torch.arange(count, device=maps.device)
        insides.append(place < pixels[:, axis, None])
        source = (place.to(maps.dtype) + 0.5) * (size / pixels[:, axis, None]) - 0.5
        first = source.floor()
        part = source - first
        taps = []
        for tap in range(-1, 3):
            away = (part - tap).abs()
            inner = (1.25 * away - 2.25) * away * away + 1
            outer = ((-0.75 * away + 3.75) * away - 6) * away + 3
            index = (first + tap).clamp(0, size - 1)[:, :, None]
            chosen = index == torch.arange(size, device=maps.device, dtype=maps.dtype)
            taps.append(torch.where(chosen, torch.where(away <= 1, inner, outer)[:, :, None], 0))
        weights.append(taps[0] + taps[1] + taps[2] + taps[3])
    inside = insides[0][:, :, None] & insides[1][:, None, :]
    found, best = [], []
    for keypoint in range(maps.shape[1]):  # one by one: all at once takes the memory of as many images for each box
        resized = torch.matmul(torch.matmul(weights[0], maps[:, keypoint]), weights[1].transpose(1, 2))
        flat = torch.where(inside, resized, -float("inf")).flatten(1)
        found.append(flat.amax(dim=1))
        best.append(flat.argmax(dim=1))
    places = torch.stack(best, dim=1)
    column = places % inside.shape[2]
    row = torch.div(places - column, inside.shape[2], rounding_mode="floor")
    step = lengths / pixels
    x = (column.to(maps.dtype) + 0.5) * step[:, 0, None] + rois[:, 0, None]
    y = (row.to(maps.dtype) + 0.5) * step[:, 1, None] + rois[:, 1, None]
    return torch.stack([x, y, torch.ones_like(x)], dim=2), torch.stack(found, dim=1)
