"""Non-maximum suppression of torchvision, as its CPU operator computes it."""

from __future__ import annotations

import numpy as np
import torch

__all__ = ["float32_threshold", "nms"]


def nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Positions (int64) of the boxes (N, 4) that are kept, best score (N,) first, the earlier one of equal scores.

    A box is left out where its intersection over union with a kept one is above the threshold. Corners are (x1, y1, x2, y2);
    a box whose second corner lies before the first overlaps none, and neither does one with a NaN. Half precision is
    computed in float32, as on a GPU. Raises RuntimeError for other shapes.
    """
    if boxes.dim() != 2 or boxes.shape[1] != 4:
        raise RuntimeError(f"boxes should have shape (N, 4), got {tuple(boxes.shape)}")
    if scores.dim() != 1 or scores.shape[0] != boxes.shape[0]:
        raise RuntimeError(f"scores should have shape ({boxes.shape[0]},), got {tuple(scores.shape)}")
    if not boxes.is_floating_point():
        raise RuntimeError(f"nms is not implemented for boxes of {boxes.dtype}")
    order = scores.detach().sort(stable=True, dim=0, descending=True)[1].numpy()
    if boxes.dtype in (torch.float16, torch.bfloat16):
        boxes = boxes.float()
    corners = boxes.detach().numpy()[order]
    kept = []
    with np.errstate(all="ignore"):
        areas = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
        while len(order):
            kept.append(order[0])
            width = np.minimum(corners[0, 2], corners[1:, 2]) - np.maximum(corners[0, 0], corners[1:, 0])
            height = np.minimum(corners[0, 3], corners[1:, 3]) - np.maximum(corners[0, 1], corners[1:, 1])
            # fmax: a NaN side makes the intersection 0, as std::max(0, NaN) does.
            shared = np.fmax(width, 0) * np.fmax(height, 0)
            overlap = shared / (areas[0] + areas[1:] - shared)
            rest = np.flatnonzero(~(overlap.astype(np.float64) > iou_threshold)) + 1
            order, corners, areas = order[rest], corners[rest], areas[rest]
    return torch.tensor(np.array(kept, np.int64))


def float32_threshold(iou_threshold: float) -> float:
    """The number of float32 that an overlap of float32 is above where it is above the threshold, which is a double.

    0.1 lies below the nearest number of float32, which an overlap of exactly that is above: the number before it is right.
    """
    nearest = np.float32(iou_threshold)
    return float(np.nextafter(nearest, np.float32(-np.inf)) if float(nearest) > iou_threshold else nearest)
