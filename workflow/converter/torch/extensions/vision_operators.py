"""torchvision's operators in plain torch, registered under their own names where its compiled ones do not load."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from converter.errors import UnsupportedError
from converter.torch.extensions import composed_regions
from converter.torch.extensions.box_suppression import nms
from converter.torch.extensions.deformable_convolution import deform_conv2d
from converter.torch.extensions.region_pooling import ps_roi_align, ps_roi_pool, roi_align, roi_pool

__all__ = ["are_defined", "compositions", "define_operators", "describe_operators", "describe_suppression"]

_REGION = "Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width"
_SIZES = "SymInt stride_h, SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w"
# By name: the schema as torchvision 0.28 declares it, and the function.
_OPERATORS: dict[str, tuple[str, Callable]] = {
    "nms": ("(Tensor dets, Tensor scores, float iou_threshold) -> Tensor", nms),
    "roi_align": (f"({_REGION}, int sampling_ratio, bool aligned) -> Tensor", roi_align),
    "roi_pool": (f"({_REGION}) -> (Tensor, Tensor)", roi_pool),
    "ps_roi_align": (f"({_REGION}, int sampling_ratio) -> (Tensor, Tensor)", ps_roi_align),
    "ps_roi_pool": (f"({_REGION}) -> (Tensor, Tensor)", ps_roi_pool),
    "deform_conv2d": (
        f"(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, {_SIZES}, SymInt groups, "
        "SymInt offset_groups, bool use_mask) -> Tensor",
        deform_conv2d,
    ),
}
# Of boxes that are turned, and of quantized tensors.
_REFUSED = {
    "qnms": _OPERATORS["nms"][0],
    "box_iou_rotated": "(Tensor boxes1, Tensor boxes2) -> Tensor",
    "qroi_align": "(Tensor input, Tensor rois, float input_scale, int input_zero_point, float rois_scale, int rois_zero_point, "
    "float spatial_scale, SymInt pooled_height, SymInt pooled_width, int sampling_ratio, bool aligned) -> Tensor",
}


def are_defined() -> bool:
    """Whether the operators are there: torchvision's own, or those of this module."""
    return hasattr(torch.ops.torchvision, "roi_align")


def compositions() -> dict[Any, Callable[..., Any]]:
    """By operator, a function that computes the same by others of torch; none where the operators are not defined.

    Of nms, which is a loop, there is none.
    """
    if not are_defined():
        return {}
    functions = {name: getattr(composed_regions, name) for name in composed_regions.__all__}
    functions["deform_conv2d"] = deform_conv2d
    return {getattr(torch.ops.torchvision, name).default: function for name, function in functions.items()}


def define_operators() -> None:
    """Define and implement all of them in this process. They must not be there yet (`are_defined`)."""
    for name, (schema, function) in _OPERATORS.items():
        torch.library.define(f"torchvision::{name}", schema)
        torch.library.impl(f"torchvision::{name}", "CPU", function)
    # Named as torchvision is imported, or where TorchScript compiles its functions.
    for name, schema in _REFUSED.items():
        torch.library.define(f"torchvision::{name}", schema)
        torch.library.impl(f"torchvision::{name}", "CPU", partial(_refuse, name))


def _refuse(name: str, *arguments: object) -> None:
    raise UnsupportedError(
        f"{name} of torchvision has no counterpart here, and its compiled operators do not load beside this build of torch"
    )


def describe_operators() -> None:
    """Register the shapes of their results, for torch.export, but of nms."""
    for name, describe in (("roi_align", _region), ("roi_pool", _region_and_place), ("deform_conv2d", _convolution)):
        torch.library.register_fake(f"torchvision::{name}", describe)
    for name in ("ps_roi_align", "ps_roi_pool"):
        torch.library.register_fake(f"torchvision::{name}", _bins_and_channels)


def describe_suppression() -> None:
    """Register the shape of nms's result. torchvision's own (0.28) says that at least two boxes are kept."""
    torch.library.register_fake("torchvision::nms", _some_boxes)


def _some_boxes(dets: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    most = dets.size(0) if isinstance(dets.size(0), int) else None
    return dets.new_empty(torch.library.get_ctx().new_dynamic_size(min=0, max=most), dtype=torch.int64)


def _region(features: torch.Tensor, rois: torch.Tensor, scale: float, height: int, width: int, *_: Any) -> torch.Tensor:
    torch._check(rois.size(1) == 5, lambda: "rois must have shape as Tensor[K, 5]")
    torch._check(features.dtype == rois.dtype, lambda: f"input is {features.dtype} and rois are {rois.dtype}")
    return features.new_empty((rois.size(0), features.size(1), height, width))


def _region_and_place(
    features: torch.Tensor, rois: torch.Tensor, scale: float, height: int, width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    pooled = _region(features, rois, scale, height, width)
    return pooled, pooled.new_empty(pooled.shape, dtype=torch.int32)


def _bins_and_channels(
    features: torch.Tensor, rois: torch.Tensor, scale: float, height: int, width: int, *_: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    torch._check(
        features.size(1) % (height * width) == 0,
        lambda: "input channels must be a multiple of pooling height * pooling width",
    )
    pooled = features.new_empty((rois.size(0), features.size(1) // (height * width), height, width))
    return pooled, pooled.new_empty(pooled.shape, dtype=torch.int32)


def _convolution(features: torch.Tensor, weight: torch.Tensor, offset: torch.Tensor, *_: Any) -> torch.Tensor:
    return features.new_empty((features.size(0), weight.size(0), offset.size(2), offset.size(3)))
