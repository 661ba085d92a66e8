"""The deformable convolution of torchvision (Dai et al. 2017; with a mask Zhu et al. 2019), in operators of torch alone."""

from __future__ import annotations

import torch

__all__ = ["deform_conv2d"]


def deform_conv2d(
    features: torch.Tensor,
    weight: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor,
    bias: torch.Tensor,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    groups: int,
    offset_groups: int,
    use_mask: bool,
) -> torch.Tensor:
    """A convolution whose every tap reads from a place of its own: (N, C, H, W) to (N, out, rows, columns).

    weight: (out, C / groups, kh, kw). offset: (N, offset_groups * kh * kw * 2, rows, columns), of each tap the step down and
    the step to the right. mask: a factor for each tap, (N, offset_groups * kh * kw, rows, columns). Between pixels values
    are interpolated; beyond the image they are 0.
    """
    images, channels = features.shape[:2]
    taps_h, taps_w = weight.shape[2:]
    taps = taps_h * taps_w
    rows, columns = offset.shape[2:]
    steps = offset.reshape(images, offset_groups, taps, 2, rows, columns)
    kind = {"dtype": offset.dtype, "device": offset.device}
    down = torch.arange(taps_h, **kind).repeat_interleave(taps_w)[:, None, None] * dilation_h
    right = torch.arange(taps_w, **kind).repeat(taps_h)[:, None, None] * dilation_w
    y = (torch.arange(rows, **kind)[:, None] * stride_h - pad_h) + down + steps[:, :, :, 0]
    x = (torch.arange(columns, **kind) * stride_w - pad_w) + right + steps[:, :, :, 1]
    values = features.reshape(images, offset_groups, channels // offset_groups, -1)
    read = _interpolated(values, features.shape[2], features.shape[3], y, x)
    if use_mask:
        read = read * mask.reshape(images, offset_groups, 1, taps, rows, columns)
    # One matrix product for each group of channels.
    read = read.reshape(images, groups, channels // groups * taps, rows * columns)
    kernels = weight.reshape(groups, weight.shape[0] // groups, channels // groups * taps)
    result = torch.matmul(kernels, read).reshape(images, weight.shape[0], rows, columns)
    return result + bias[:, None, None]


def _interpolated(values: torch.Tensor, height: int, width: int, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """values (N, G, C, height * width) at places y, x (N, G, taps, rows, columns): (N, G, C, taps, rows, columns)."""
    inside = (y > -1) & (y < height) & (x > -1) & (x < width)
    y, x = torch.where(inside, y, 0), torch.where(inside, x, 0)
    top, left = torch.floor(y), torch.floor(x)
    total = None
    for row, row_weight in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, column_weight in ((left, 1 - (x - left)), (left + 1, x - left)):
            present = inside & (row >= 0) & (row <= height - 1) & (column >= 0) & (column <= width - 1)
            flat = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).to(torch.int64)
            shape = (*values.shape[:3], *flat.shape[2:])
            index = flat.reshape(*flat.shape[:2], 1, -1).expand(*values.shape[:3], -1)
            pixels = torch.gather(values, 3, index).reshape(shape)
            # A pixel that is not there counts as 0, whatever stands in the one that was read in its place.
            part = torch.where(present[:, :, None], pixels, 0) * (row_weight * column_weight)[:, :, None]
            total = part if total is None else total + part
    return total
