"""Boxes and regions that are likely to tell implementations apart, seeded."""

import torch

KINDS = ("proper", "exchanged", "grid", "nan", "nan scores", "infinite")


def boxes_and_scores(kind, count, seed=0):
    """(N, 4) and (N,). grid: whole numbers, so that scores and overlaps are often equal."""
    make = torch.Generator().manual_seed(seed + 1000 * KINDS.index(kind))
    boxes = torch.rand(count, 4, generator=make) * 6
    scores = torch.rand(count, generator=make)
    if kind == "grid":
        boxes, scores = torch.randint(0, 4, (count, 4), generator=make).float(), (scores * 3).floor()
    if kind in ("proper", "grid", "nan scores"):
        boxes[:, 2:] += boxes[:, :2]
    some = torch.randint(0, max(count, 1), (count // 3,), generator=make)
    if kind in ("nan", "infinite"):
        boxes[some, some % 4] = float("nan" if kind == "nan" else "inf")
    if kind == "nan scores":
        scores[some] = float("nan")
    if kind == "infinite":
        scores[: count // 4] = float("inf")
        scores[count // 2 : count // 2 + 2] = -float("inf")
    return boxes, scores


def regions(kind, count, images=2, seed=0):
    """Rows (image, x1, y1, x2, y2) for images of about 10 x 10."""
    make = torch.Generator().manual_seed(seed)
    rois = torch.rand(count, 5, generator=make) * 24 - 4
    if kind != "exchanged":
        rois[:, 3:] = rois[:, 1:3] + torch.rand(count, 2, generator=make) * 18
    if kind == "whole":
        rois = rois.round()
    if kind == "empty":
        rois[:, 3:] = rois[:, 1:3]
    if kind == "large":
        rois = rois * 4
    rois[:, 0] = torch.randint(0, images, (count,), generator=make)
    return rois


REGIONS = ("proper", "whole", "empty", "large", "exchanged")
