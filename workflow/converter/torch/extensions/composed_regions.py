"""The poolings of regions of torchvision as products of matrices, for files whose formats have no such operators.

What a bin is made of lies on a grid, so that each axis has weights of its own: (rows x image) x columns. Shapes are those of
region_pooling.py, numbers of images, regions and pixels may vary, and infinite pixels reach beyond their bins.
"""

from __future__ import annotations

import torch

__all__ = ["ps_roi_align", "ps_roi_pool", "roi_align", "roi_pool"]

# Samples at most (of a bin, along an axis) that a pixel has a share in: they are more than half a pixel apart, if there are
# several, and less than a pixel away from it. One more at each end for what rounding makes of their numbers.
_NEAR = 6


def roi_align(
    features: torch.Tensor,
    rois: torch.Tensor,
    spatial_scale: float,
    height: int,
    width: int,
    sampling_ratio: int,
    aligned: bool,
) -> torch.Tensor:
    """The mean of bilinear samples in each bin: (N, C, H, W) and (K, 5) to (K, C, height, width)."""
    offset, least = (0.5, None) if aligned else (0.0, 1.0)
    rows, columns, counts = _samples(features, rois, spatial_scale, (height, width), sampling_ratio, offset, least)
    sums = _weighted(features, rows, columns)
    return sums / counts.clamp(min=1)[:, None, None, None]


def ps_roi_align(
    features: torch.Tensor, rois: torch.Tensor, spatial_scale: float, height: int, width: int, sampling_ratio: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """roi_align in which each bin has channels of its own, and the channel that each result is made of."""
    rows, columns, counts = _samples(features, rois, spatial_scale, (height, width), sampling_ratio, 0.5, None)
    sums = _own_weighted(features, rows, columns)
    return sums / counts[:, None, None, None], _bin_channels(sums, features.shape[1])


def roi_pool(
    features: torch.Tensor, rois: torch.Tensor, spatial_scale: float, height: int, width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest value in each bin, 0 where a bin is empty. The places, which no function of torchvision gives, are -1."""
    corners = _rounded(rois[:, 1:] * spatial_scale)
    rows = _bins(corners[:, 1], corners[:, 3], height, features.shape[2], last=1, end=0)
    columns = _bins(corners[:, 0], corners[:, 2], width, features.shape[3], last=1, end=0)
    lowest = torch.finfo(torch.float32).min  # in float64 too
    images = torch.where(features > lowest, features, lowest)[rois[:, 0].to(torch.int64)]
    # One row and one column of bins at a time: all at once would hold the image for each bin.
    bands = [torch.where(rows[:, None, row, :, None], images, lowest).amax(2) for row in range(height)]
    pooled = torch.stack(
        [
            torch.stack([torch.where(columns[:, None, column], band, lowest).amax(2) for column in range(width)], -1)
            for band in bands
        ],
        -2,
    )
    held = rows.any(2)[:, None, :, None] & columns.any(2)[:, None, None, :]
    pooled = torch.where(held, pooled, 0.0)
    return pooled, torch.full_like(pooled, -1, dtype=torch.int32)


def ps_roi_pool(
    features: torch.Tensor, rois: torch.Tensor, spatial_scale: float, height: int, width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean of the pixels of each bin, which has channels of its own; 0 where a bin is empty."""
    corners = _rounded(rois[:, 1:] * spatial_scale)
    rows = _bins(corners[:, 1], corners[:, 3], height, features.shape[2], last=0, end=1).to(features.dtype)
    columns = _bins(corners[:, 0], corners[:, 2], width, features.shape[3], last=0, end=1).to(features.dtype)
    counts = rows.sum(2)[:, None, :, None] * columns.sum(2)[:, None, None, :]
    sums = _own_weighted(features, _of_images(rows, rois, features.shape[0]), columns)
    return sums / counts.clamp(min=1), _bin_channels(sums, features.shape[1])


def _samples(
    features: torch.Tensor,
    rois: torch.Tensor,
    spatial_scale: float,
    size: tuple[int, int],
    sampling_ratio: int,
    offset: float,
    least: float | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights of all rows (K, height, N * H) and columns (K, width, W), and how many samples a bin has (K,)."""
    starts, ends = rois[:, 1:3] * spatial_scale - offset, rois[:, 3:5] * spatial_scale - offset
    lengths = ends - starts if least is None else (ends - starts).clamp(min=least)
    weights, counts = [], []
    for axis, bins, pixels in ((1, size[0], features.shape[2]), (0, size[1], features.shape[3])):
        bin_size = lengths[:, axis] / bins
        count = torch.full_like(bin_size, sampling_ratio) if sampling_ratio > 0 else torch.ceil(bin_size)
        counts.append(count)
        edges = starts[:, axis, None] + torch.arange(bins, dtype=rois.dtype) * bin_size[:, None]
        if sampling_ratio > 0:
            weights.append(_of_all(edges, bin_size, sampling_ratio, pixels))
        else:
            weights.append(_of_near(edges, bin_size, count, pixels))
    return _of_images(weights[0], rois, features.shape[0]), weights[1], counts[0] * counts[1]


def _of_all(edges: torch.Tensor, bin_size: torch.Tensor, count: int, pixels: int) -> torch.Tensor:
    """Weights (K, bins, pixels) of as many samples in each bin."""
    steps = (torch.arange(count, dtype=edges.dtype) + 0.5) * bin_size[:, None] / count
    return _shares((edges[:, :, None] + steps[:, None, :])[..., None], pixels).sum(2)


def _of_near(edges: torch.Tensor, bin_size: torch.Tensor, count: torch.Tensor, pixels: int) -> torch.Tensor:
    """Weights (K, bins, pixels) of a number of samples (K,) for each region: of each pixel, those that lie around it."""
    bin_size, count = bin_size[:, None, None], count[:, None, None]
    step = bin_size / count.clamp(min=1)
    first = torch.floor((torch.arange(pixels, dtype=edges.dtype) - 1 - edges[:, :, None]) / step - 0.5).clamp(min=0)
    total = None
    for near in range(_NEAR):
        number = first + near
        share = _shares(edges[:, :, None] + (number + 0.5) * bin_size / count.clamp(min=1), pixels)
        share = torch.where(number < count, share, 0.0)
        total = share if total is None else total + share
    assert total is not None
    return total


def _shares(places: torch.Tensor, pixels: int) -> torch.Tensor:
    """The share of each pixel, along the last axis, in samples at places that broadcast with it; 0 beyond the edges."""
    inside = (places >= -1) & (places <= pixels)
    held = torch.minimum(places.clamp(min=0), torch.ones_like(places) * (pixels - 1))
    away = (held - torch.arange(pixels, dtype=places.dtype)).abs()
    return torch.where(inside, (1 - away).clamp(min=0), 0.0)


def _of_images(rows: torch.Tensor, rois: torch.Tensor, images: int) -> torch.Tensor:
    """(K, bins, H) to (K, bins, N * H): 0 in all images but the region's own."""
    if isinstance(images, int) and images == 1:
        return rows
    own = rois[:, :1].to(torch.int64) == torch.arange(images)
    return torch.where(own[:, None, :, None], rows[:, :, None], 0.0).flatten(2)


def _weighted(features: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """(K, C, height, width)."""
    channels, pixels = features.shape[1], features.shape[3]
    lines = features.permute(0, 2, 1, 3).flatten(2).flatten(0, 1)
    bands = torch.matmul(rows, lines).unflatten(2, (channels, pixels)).flatten(1, 2)
    return torch.matmul(bands, columns.transpose(1, 2)).unflatten(1, (-1, channels)).transpose(1, 2)


def _own_weighted(features: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """(K, C / (height * width), height, width)."""
    height, width, pixels = rows.shape[1], columns.shape[1], features.shape[3]
    channels = features.shape[1] // (height * width)
    # By bins: (height, width, N * H, channels * W).
    lines = features.unflatten(1, (channels, height * width)).permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)
    bands = torch.matmul(rows.transpose(0, 1).repeat_interleave(width, 0), lines)
    parts = bands.unflatten(2, (channels, pixels)) * columns.transpose(0, 1).repeat(height, 1, 1)[:, :, None]
    return parts.sum(3).permute(1, 2, 0).unflatten(2, (height, width))


def _bin_channels(pooled: torch.Tensor, channels: int) -> torch.Tensor:
    return torch.arange(channels, dtype=torch.int32).reshape(pooled.shape[1:]).expand(pooled.shape)


def _bins(start: torch.Tensor, stop: torch.Tensor, bins: int, pixels: int, *, last: int, end: int) -> torch.Tensor:
    """(K, bins, pixels): which pixels belong to which bin; none of the image's `end` last.

    last: 1 where the pixel of the second corner belongs to the region.
    """
    length = ((stop - start + last).clamp(min=1) / bins)[:, None]
    index = torch.arange(bins, dtype=start.dtype)
    first = torch.floor(index * length) + start[:, None]
    behind = torch.ceil((index + 1) * length) + start[:, None]
    places = torch.arange(pixels, dtype=start.dtype)
    return (places >= first[..., None]) & (places < behind[..., None]) & (places < pixels - end)


def _rounded(values: torch.Tensor) -> torch.Tensor:
    """To the nearest whole number, halves away from zero."""
    whole = torch.trunc(values)
    return torch.where((values - whole).abs() >= 0.5, whole + torch.sign(values), whole)
