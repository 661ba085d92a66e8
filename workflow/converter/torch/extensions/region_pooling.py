"""The poolings of regions of torchvision, as its CPU operators compute them.

A region is a row (image, x1, y1, x2, y2) of `rois` (K, 5). Half precision is computed in float32.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.nn import functional

__all__ = ["ps_roi_align", "ps_roi_pool", "roi_align", "roi_pool"]

# Sampling points that are computed at once; a point has four positions and four weights.
_POINTS = 2_000_000


def _checked(features: torch.Tensor, rois: torch.Tensor) -> None:
    if features.dim() != 4:
        raise RuntimeError(f"input should have shape (N, C, H, W), got {tuple(features.shape)}")
    if rois.dim() != 2 or rois.shape[1] != 5:
        raise RuntimeError(f"rois should have shape (K, 5), got {tuple(rois.shape)}")
    if features.dtype != rois.dtype:
        raise RuntimeError(f"input is {features.dtype} and rois are {rois.dtype}: they should have the same type")


def _computable(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.detach()


def roi_align(
    features: torch.Tensor,
    rois: torch.Tensor,
    spatial_scale: float,
    height: int,
    width: int,
    sampling_ratio: int,
    aligned: bool,
) -> torch.Tensor:
    """The mean of bilinear samples in each bin: (N, C, H, W) to (K, C, height, width).

    sampling_ratio: samples by bin and axis; at 0 or below as many as the bin is long. aligned: coordinates half a pixel
    lower; else a region is one pixel long at least.
    """
    _checked(features, rois)
    offset, least = (0.5, None) if aligned else (0.0, 1.0)
    sums, counts = _samples(features, rois, spatial_scale, (height, width), sampling_ratio, offset, least)
    means = sums / counts.clamp(min=1)[:, None, None, None]
    return means.permute(0, 3, 1, 2).contiguous().to(features.dtype)


def ps_roi_align(
    features: torch.Tensor, rois: torch.Tensor, spatial_scale: float, height: int, width: int, sampling_ratio: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """roi_align in which each bin has channels of its own: (N, C, H, W) to (K, C / (height * width), height, width).

    Also the channel (int32) that each result is made of. A region without samples, which is empty, gives NaN.
    """
    _checked(features, rois)
    channels = _bin_channels(features, height, width)
    sums, counts = _samples(features, rois, spatial_scale, (height, width), sampling_ratio, 0.5, None)
    means = (sums / counts[:, None, None, None]).permute(0, 3, 1, 2)
    # In bin (i, j) of output channel c the input's channel is channels[c, i, j].
    bins = channels.expand(len(rois), *channels.shape)
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    return means[:, channels.long(), rows, columns].contiguous().to(features.dtype), bins.contiguous()


def _bin_channels(features: torch.Tensor, height: int, width: int) -> torch.Tensor:
    channels = features.shape[1]
    if channels % (height * width):
        raise RuntimeError(
            f"{channels} channels of input are not a multiple of pooling height * width {height * width}"
        )
    return torch.arange(channels, dtype=torch.int32).reshape(-1, height, width)


def _samples(
    features: torch.Tensor,
    rois: torch.Tensor,
    spatial_scale: float,
    size: tuple[int, int],
    sampling_ratio: int,
    offset: float,
    least: float | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums of the samples of each bin (K, height, width, C), and how many samples a bin of each region has (K,)."""
    table, places = _computable(features), _computable(rois)
    channels, (rows, columns) = table.shape[1], table.shape[2:]
    table = table.permute(0, 2, 3, 1).reshape(-1, channels)
    scale = torch.tensor(spatial_scale, dtype=places.dtype)
    starts, ends = places[:, 1:3] * scale - offset, places[:, 3:5] * scale - offset
    lengths = ends - starts if least is None else (ends - starts).clamp(min=least)
    bins = lengths / torch.tensor([size[1], size[0]], dtype=places.dtype)
    if sampling_ratio > 0:
        grids = torch.full((len(places), 2), sampling_ratio, dtype=torch.int64)
    else:
        grids = bins.ceil().nan_to_num(0.0).long()
    sums = table.new_zeros(len(places), *size, channels)
    for k, (image, grid) in enumerate(zip(places[:, 0].long().tolist(), grids.tolist(), strict=True)):
        if min(grid) <= 0:
            continue
        # At most _POINTS at once: a region far larger than the image has many.
        step = max(1, _POINTS // (size[1] * grid[0] * grid[1]))
        for top in range(0, size[0], step):
            bottom = min(size[0], top + step)
            y = _axis(rows, starts[k, 1], bins[k, 1], (top, bottom), grid[1])
            x = _axis(columns, starts[k, 0], bins[k, 0], (0, size[1]), grid[0])
            sums[k, top:bottom] = _weighted(table, image * rows * columns, columns, y, x)
    return sums, grids.prod(1)


def _axis(
    length: int, start: torch.Tensor, bin_size: torch.Tensor, bins: tuple[int, int], grid: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels and weights (bins, grid, 2) of the samples along one axis; weights are 0 for a sample beyond the edge."""
    dtype = bin_size.dtype
    index = torch.arange(*bins, dtype=dtype)[:, None]
    place = start + index * bin_size + (torch.arange(grid, dtype=dtype) + 0.5) * bin_size / grid
    inside = (place >= -1) & (place <= length)
    place = torch.where(inside, place, 0).clamp(min=0)
    low = place.long()
    last = low >= length - 1
    low = torch.where(last, length - 1, low)
    upper = torch.where(last, 0, place - low)
    weights = torch.stack([1 - upper, upper], -1) * inside[..., None]
    return torch.stack([low, torch.where(last, low, low + 1)], -1), weights


def _weighted(
    table: torch.Tensor,
    base: int,
    columns: int,
    y: tuple[torch.Tensor, torch.Tensor],
    x: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """Sums (rows of bins, columns of bins, C) of the pixels of all samples times their weights."""
    bins = len(y[0]), len(x[0])
    rows, row_weights = (part.reshape(bins[0], 1, -1, 1) for part in y)
    places, place_weights = (part.reshape(1, bins[1], 1, -1) for part in x)
    positions = (base + rows * columns + places).reshape(bins[0] * bins[1], -1)
    weights = (row_weights * place_weights).reshape(bins[0] * bins[1], -1)
    sums = functional.embedding_bag(positions, table, per_sample_weights=weights, mode="sum")
    return sums.reshape(*bins, -1)


def roi_pool(
    features: torch.Tensor, rois: torch.Tensor, spatial_scale: float, height: int, width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest value in each bin, (N, C, H, W) to (K, C, height, width); 0 where a bin is empty.

    Also where in the image it stands (int32), -1 where a bin is empty. Corners are rounded to pixels, and the last one
    belongs to the region.
    """
    _checked(features, rois)
    values = _computable(features).numpy()
    lowest = np.float32(-np.finfo(np.float32).max)  # in float64 too
    pooled = np.zeros((len(rois), values.shape[1], height, width), values.dtype)
    found = np.full(pooled.shape, -1, np.int32)
    for k, row, column, image, (top, bottom, left, right) in _bins(
        values.shape, rois, spatial_scale, (height, width), last=1, end=0
    ):
        region = values[image, :, top:bottom, left:right].reshape(values.shape[1], -1)
        if not region.shape[1]:
            continue
        # What is not above the lowest number, as NaN, never becomes the largest.
        region = np.where(region > lowest, region, lowest)
        best = region.argmax(1)
        pooled[k, :, row, column] = region[np.arange(len(region)), best]
        place = (top + best // (right - left)) * values.shape[3] + left + best % (right - left)
        found[k, :, row, column] = np.where(pooled[k, :, row, column] > lowest, place, -1)
    return torch.from_numpy(pooled).to(features.dtype), torch.from_numpy(found)


def ps_roi_pool(
    features: torch.Tensor, rois: torch.Tensor, spatial_scale: float, height: int, width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean of the pixels of each bin, which has channels of its own; 0 where a bin is empty.

    Shapes as of ps_roi_align. The image's last row and column belong to no bin.
    """
    _checked(features, rois)
    channels = _bin_channels(features, height, width)
    values = _computable(features).numpy()
    pooled = np.zeros((len(rois), *channels.shape), values.dtype)
    for k, row, column, image, (top, bottom, left, right) in _bins(
        values.shape, rois, spatial_scale, (height, width), last=0, end=1
    ):
        if bottom > top and right > left:
            own = values[image, channels[:, row, column].numpy(), top:bottom, left:right]
            pooled[k, :, row, column] = own.mean((1, 2))
    return torch.from_numpy(pooled).to(features.dtype), channels.expand(pooled.shape).contiguous()


def _bins(
    shape: tuple[int, ...], rois: torch.Tensor, spatial_scale: float, size: tuple[int, int], *, last: int, end: int
) -> Iterator[tuple[int, int, int, int, tuple[int, int, int, int]]]:
    """(region, row, column, image, (top, bottom, left, right)) of all bins, within the image without its `end` last pixels.

    last: 1 where the pixel of the second corner belongs to the region.
    """
    places = _computable(rois).numpy()
    corners = _rounded(places[:, 1:] * places.dtype.type(spatial_scale)).astype(np.int64)
    bounds = shape[2] - end, shape[3] - end
    for k, (x1, y1, x2, y2) in enumerate(corners):
        edges = []
        for start, stop, count, bound in ((y1, y2, size[0], bounds[0]), (x1, x2, size[1], bounds[1])):
            length = places.dtype.type(max(stop - start + last, 1)) / places.dtype.type(count)
            index = np.arange(count + 1).astype(places.dtype)
            first = np.clip(np.floor(index[:-1] * length).astype(np.int64) + start, 0, bound)
            behind = np.clip(np.ceil(index[1:] * length).astype(np.int64) + start, 0, bound)
            edges.append(list(zip(first.tolist(), np.maximum(first, behind).tolist(), strict=True)))
        for row, (top, bottom) in enumerate(edges[0]):
            for column, (left, right) in enumerate(edges[1]):
                yield k, row, column, int(places[k, 0]), (top, bottom, left, right)


def _rounded(values: np.ndarray) -> np.ndarray:
    """To the nearest whole number, halves away from zero; NaN, which is no place, to 0."""
    whole = np.trunc(values)
    rounded = whole + np.copysign(np.abs(values - whole) >= 0.5, values)
    return np.nan_to_num(rounded, nan=0.0, posinf=2**31 - 1, neginf=-(2**31))
