"""torchvision's operators in ONNX, by the torchscript exporter; as vision_translations.py has them for the other one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.onnx import symbolic_helper as helper
from torch.onnx._internal.torchscript_exporter.utils import register_custom_op_symbolic

from converter.torch.onnx.vision_translations import ALL_BOXES, LARGEST, checked_threshold, double_refusal

__all__ = ["register_vision"]

_FLOAT, _INT64 = torch.onnx.TensorProtoDataType.FLOAT, torch.onnx.TensorProtoDataType.INT64


def register_vision(opsets: Iterable[int]) -> None:
    """Make the exporter use the functions below, in this process from now on; torchvision registers some of its own.

    RoiAlign takes shifted coordinates from opset 16 on, and there is DeformConv from opset 19 on. Poolings of regions by
    whole pixels are torchvision's.
    """
    for opset in opsets:
        found: list[tuple[str, Callable]] = []
        if opset >= 11:
            found.append(("nms", _nms))
        if opset >= 16:
            found.append(("roi_align", _roi_align))
        if opset >= 19:
            found.append(("deform_conv2d", _deform_conv2d))
        for name, function in found:
            register_custom_op_symbolic(f"torchvision::{name}", function, opset)


def _constant(g: Any, value: Any, dtype: torch.dtype) -> Any:
    return g.op("Constant", value_t=torch.tensor(value, dtype=dtype))


@helper.parse_args("v", "v", "f")
def _nms(g: Any, boxes: Any, scores: Any, iou_threshold: float) -> Any:
    if boxes.type().scalarType() == "Double":
        raise double_refusal()
    first = helper._slice_helper(g, boxes, axes=[1], starts=[0], ends=[2])
    second = helper._slice_helper(g, boxes, axes=[1], starts=[2], ends=[4])
    boxes = g.op("Cast", g.op("Concat", first, g.op("Max", first, second), axis_i=1), to_i=_FLOAT)
    scores = g.op("Cast", scores, to_i=_FLOAT)
    finite = g.op("Min", scores, _constant(g, LARGEST, torch.float32))
    ordered = g.op("Where", g.op("IsNaN", scores), _constant(g, float("inf"), torch.float32), finite)
    found = g.op(
        "NonMaxSuppression",
        helper._unsqueeze_helper(g, boxes, [0]),
        helper._unsqueeze_helper(g, ordered, [0, 1]),
        _constant(g, [ALL_BOXES], torch.int64),
        _constant(g, [checked_threshold(iou_threshold)], torch.float32),
    )
    return helper._squeeze_helper(g, helper._slice_helper(g, found, axes=[1], starts=[2], ends=[3]), [1])


@helper.parse_args("v", "v", "f", "i", "i", "i", "i")
def _roi_align(
    g: Any, features: Any, rois: Any, spatial_scale: float, height: int, width: int, sampling_ratio: int, aligned: int
) -> Any:
    images = helper._squeeze_helper(g, helper._slice_helper(g, rois, axes=[1], starts=[0], ends=[1]), [1])
    corners = helper._slice_helper(g, rois, axes=[1], starts=[1], ends=[5])
    if aligned and sampling_ratio <= 0:
        first = helper._slice_helper(g, rois, axes=[1], starts=[1], ends=[3])
        second = helper._slice_helper(g, rois, axes=[1], starts=[3], ends=[5])
        corners = g.op("Concat", first, g.op("Max", first, second), axis_i=1)
    return g.op(
        "RoiAlign",
        features,
        corners,
        g.op("Cast", images, to_i=_INT64),
        coordinate_transformation_mode_s="half_pixel" if aligned else "output_half_pixel",
        spatial_scale_f=spatial_scale,
        output_height_i=height,
        output_width_i=width,
        sampling_ratio_i=max(sampling_ratio, 0),
    )


@helper.parse_args("v", "v", "v", "v", "v", "i", "i", "i", "i", "i", "i", "i", "i", "b")
def _deform_conv2d(
    g: Any,
    features: Any,
    weight: Any,
    offset: Any,
    mask: Any,
    bias: Any,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    groups: int,
    offset_groups: int,
    use_mask: bool,
) -> Any:
    return g.op(
        "DeformConv",
        *(features, weight, offset, bias, *((mask,) if use_mask else ())),
        strides_i=[stride_h, stride_w],
        pads_i=[pad_h, pad_w, pad_h, pad_w],
        dilations_i=[dilation_h, dilation_w],
        group_i=groups,
        offset_group_i=offset_groups,
    )
