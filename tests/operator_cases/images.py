"""Operators of images: sampling, windows, resizing, pooling, padding."""

import torch
from torch.nn import functional as F

from operator_cases.case import case, floats

IMAGE = floats(2, 3, 7, 6)
SEQUENCE = floats(2, 3, 11)
VOLUME = floats(2, 2, 4, 5, 6)
GRID = floats(2, 4, 5, 2) * 0.8
GRID_3D = floats(2, 3, 4, 5, 3) * 0.8


def _grid(mode, padding, corners):
    return case(lambda x, g: F.grid_sample(x, g, mode=mode, padding_mode=padding, align_corners=corners), IMAGE, GRID)


def _grid_3d(mode, padding, corners):
    return case(
        lambda x, g: F.grid_sample(x, g, mode=mode, padding_mode=padding, align_corners=corners), VOLUME, GRID_3D
    )


def _resized(x, **options):
    return case(lambda x: F.interpolate(x, **options), x)


CASES = {
    **{
        f"grid_sample_{mode}_{padding}_{corners}": _grid(mode, padding, corners)
        for mode in ("bilinear", "nearest", "bicubic")
        for padding in ("zeros", "border", "reflection")
        for corners in (False, True)
    },
    **{
        f"grid_sample_3d_{mode}_{padding}_{corners}": _grid_3d(mode, padding, corners)
        for mode in ("bilinear", "nearest")
        for padding in ("zeros", "border", "reflection")
        for corners in (False, True)
    },
    "affine_grid": case(
        lambda x, t: F.grid_sample(
            x, F.affine_grid(t, [x.shape[0], 3, 5, 4], align_corners=False), align_corners=False
        ),
        IMAGE,
        floats(2, 2, 3),
    ),
    "unfold": case(lambda x: (F.unfold(x, 3), F.unfold(x, (2, 3), dilation=2, padding=(2, 1), stride=(1, 2))), IMAGE),
    "fold": case(lambda x: F.fold(x, (5, 6), (2, 3), padding=1, stride=(1, 2)), floats(2, 3 * 6, 6 * 3)),
    "fold_dilated": case(lambda x: F.fold(x, (6, 6), 3, dilation=2, padding=1, stride=2), floats(2, 2 * 9, 4)),
    "tensor_unfold": case(lambda x: (x.unfold(2, 3, 2), x.unfold(3, 2, 1).unfold(2, 3, 3), x.unfold(1, 2, 3)), IMAGE),
    "pixel_shuffle": case(
        lambda x: (F.pixel_shuffle(x, 2), F.pixel_unshuffle(F.pad(x[:, :, :6], (0, 0)), 2)), floats(2, 8, 7, 6)
    ),
    "adaptive_avg_pool": case(
        lambda x: (F.adaptive_avg_pool2d(x, (3, 4)), F.adaptive_avg_pool2d(x, (None, 4)), F.adaptive_avg_pool2d(x, 9)),
        IMAGE,
    ),
    "adaptive_max_pool": case(lambda x: (F.adaptive_max_pool2d(x, (3, 4)), F.adaptive_max_pool2d(x, 9)), IMAGE),
    "adaptive_max_pool_places": case(lambda x: F.adaptive_max_pool2d(x, (3, 4), return_indices=True), IMAGE),
    "adaptive_pool_1d": case(lambda x: (F.adaptive_avg_pool1d(x, 4), F.adaptive_max_pool1d(x, 4)), SEQUENCE),
    "adaptive_pool_3d": case(
        lambda x: (F.adaptive_avg_pool3d(x, (3, 2, 5)), F.adaptive_max_pool3d(x, (3, 2, 5))), VOLUME
    ),
    "avg_pool": case(
        lambda x: (F.avg_pool2d(x, 3, 2, 1), F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)), IMAGE
    ),
    "avg_pool_1d": case(lambda x: F.avg_pool1d(x, 3, 2, 1), SEQUENCE),
    "avg_pool_3d": case(lambda x: F.avg_pool3d(x, 2, 1, 1), VOLUME),
    "max_pool": case(lambda x: (F.max_pool2d(x, 3, 2, 1), F.max_pool2d(x, 2, ceil_mode=True)), IMAGE),
    "max_pool_dilated": case(lambda x: F.max_pool2d(x, 2, 1, 1, dilation=2), IMAGE),
    "max_pool_places": case(lambda x: F.max_pool2d(x, 3, 2, 1, return_indices=True), IMAGE),
    "max_pool_3d": case(lambda x: F.max_pool3d(x, 2, 1, 1), VOLUME),
    "max_unpool": case(lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, 2, return_indices=True), 2, 2), floats(2, 3, 8, 6)),
    "lp_pool": case(lambda x: F.lp_pool2d(x.abs(), 2, 2), IMAGE),
    "resize_nearest": _resized(IMAGE, size=(9, 5), mode="nearest"),
    "resize_nearest_exact": _resized(IMAGE, scale_factor=(1.6, 0.7), mode="nearest-exact"),
    "resize_bilinear": _resized(IMAGE, size=(9, 5), mode="bilinear"),
    "resize_bilinear_corners": _resized(IMAGE, scale_factor=(1.7, 2.0), mode="bilinear", align_corners=True),
    "resize_bilinear_by_factor": _resized(IMAGE, scale_factor=1.7, mode="bilinear"),
    "resize_bilinear_recomputed": _resized(IMAGE, scale_factor=1.7, mode="bilinear", recompute_scale_factor=True),
    "resize_bilinear_antialias": _resized(IMAGE, size=(3, 4), mode="bilinear", antialias=True),
    "resize_bicubic": _resized(IMAGE, size=(9, 5), mode="bicubic"),
    "resize_bicubic_corners": _resized(IMAGE, scale_factor=1.7, mode="bicubic", align_corners=True),
    "resize_bicubic_antialias": _resized(IMAGE, size=(3, 4), mode="bicubic", antialias=True),
    "resize_linear": _resized(SEQUENCE, scale_factor=1.3, mode="linear"),
    "resize_linear_corners": _resized(SEQUENCE, size=17, mode="linear", align_corners=True),
    "resize_nearest_1d": _resized(SEQUENCE, scale_factor=1.3),
    "resize_trilinear": _resized(VOLUME, size=(5, 3, 8), mode="trilinear"),
    "resize_trilinear_corners": _resized(VOLUME, scale_factor=1.5, mode="trilinear", align_corners=True),
    "resize_nearest_3d": _resized(VOLUME, scale_factor=1.5),
    "pad_modes_1d": case(lambda x: tuple(F.pad(x, (2, 1), m) for m in ("reflect", "replicate", "circular")), SEQUENCE),
    "pad_modes_2d": case(
        lambda x: tuple(F.pad(x, (2, 1, 0, 3), m) for m in ("reflect", "replicate", "circular")), IMAGE
    ),
    "pad_modes_3d": case(lambda x: tuple(F.pad(x, (2, 1, 0, 3, 1, 1), m) for m in ("reflect", "replicate")), VOLUME),
    "pad_number": case(lambda x: (F.pad(x, (1, 2, -1, 0), value=2.5), F.pad(x, (0, 1, 0, 0, 1, 1))), IMAGE),
    "convolution": case(lambda x: F.conv2d(x, torch.linspace(-1, 1, 54).view(2, 3, 3, 3), torch.ones(2), 2, 1), IMAGE),
    "convolution_transposed": case(
        lambda x: F.conv_transpose2d(x, torch.linspace(-1, 1, 54).view(3, 2, 3, 3), None, 2, 1, 1), IMAGE
    ),
}
