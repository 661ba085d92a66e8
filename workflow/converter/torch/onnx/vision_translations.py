"""torchvision's operators in ONNX, by the dynamo exporter.

onnxscript 0.7.2 has translations of its own: its NonMaxSuppression differs from nms where corners are exchanged, where a
score is NaN, and at an overlap that rounding makes equal to the threshold.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from onnxscript import opset18, opset19

from converter.errors import UnsupportedError
from converter.torch.extensions.box_suppression import float32_threshold
from converter.torch.extensions.vision_operators import are_defined

__all__ = ["translations"]

# Typed for tensors alone, they take plain numbers and lists too.
op: Any = opset18
op19: Any = opset19
# Numbers of ONNX's types, which its operators' attributes take.
_FLOAT, _INT64, _DOUBLE = 1, 7, 11
LARGEST = torch.finfo(torch.float32).max
# More boxes than any model has; larger numbers become negative in runtimes that count in 32 bits.
ALL_BOXES = 2**31 - 1


def translations(program: torch.export.ExportedProgram) -> dict[Any, Callable]:
    """By operator, what torch.onnx.export takes as custom_translation_table; empty where the operators are not defined.

    Raises UnsupportedError where the program reads the second result of a pooling: where the largest values stand, or the
    channels of bins. No function of torchvision gives that away.
    """
    if not are_defined():
        return {}
    operators = torch.ops.torchvision
    poolings = (operators.roi_pool.default, operators.ps_roi_align.default)
    for node in program.graph.nodes:
        if node.target is operator.getitem and node.args[1] == 1 and node.users and node.args[0].target in poolings:
            raise UnsupportedError(
                f"the model reads the second result of {node.args[0].target}, which ONNX does not give"
            )
    names = {
        "nms": _nms,
        "roi_align": _roi_align,
        "roi_pool": _roi_pool,
        "ps_roi_align": _ps_roi_align,
        "deform_conv2d": _deform_conv2d,
    }
    return {getattr(torch.ops.torchvision, name).default: function for name, function in names.items()}


def checked_threshold(iou_threshold: float) -> float:
    """The threshold for NonMaxSuppression, which takes 0 to 1; no overlap is above 1. Raises UnsupportedError below 0."""
    if iou_threshold < 0:
        raise UnsupportedError(
            f"nms has the iou_threshold {iou_threshold:g}, and ONNX's NonMaxSuppression takes none below 0: boxes that do not "
            "touch have the overlap 0, give 0 or more"
        )
    return min(float32_threshold(iou_threshold), 1.0)


def double_refusal() -> UnsupportedError:
    """The error for boxes of float64."""
    return UnsupportedError(
        "nms is given float64, and ONNX's NonMaxSuppression computes in float32: give it boxes.float() and scores.float()"
    )


def _nms(dets: Any, scores: Any, iou_threshold: float) -> Any:
    if dets.dtype is not None and int(dets.dtype) == _DOUBLE:
        raise double_refusal()
    first = op.Slice(dets, [0], [2], [1])
    # A box whose second corner lies before the first overlaps none; ONNX exchanges them. An empty one overlaps none in both.
    boxes = op.Concat(first, op.Max(first, op.Slice(dets, [2], [4], [1])), axis=1)
    scores = op.Cast(scores, to=_FLOAT)
    # NaN comes first.
    ordered = op.Where(op.IsNaN(scores), float("inf"), op.Min(scores, LARGEST))
    found = op.NonMaxSuppression(
        op.Unsqueeze(op.Cast(boxes, to=_FLOAT), [0]),
        op.Unsqueeze(ordered, [0, 1]),
        [ALL_BOXES],
        [checked_threshold(iou_threshold)],
    )
    return op.Squeeze(op.Slice(found, [2], [3], [1]), [1])


def _roi_align(
    features: Any,
    rois: Any,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Any:
    corners = op.Slice(rois, [1], [5], [1])
    if aligned and sampling_ratio <= 0:
        # No samples of a region that ends before it starts, as of an empty one: onnxruntime 1.32 fails at such.
        first = op.Slice(rois, [1], [3], [1])
        corners = op.Concat(first, op.Max(first, op.Slice(rois, [3], [5], [1])), axis=1)
    return op.RoiAlign(
        features,
        corners,
        op.Cast(op.Squeeze(op.Slice(rois, [0], [1], [1]), [1]), to=_INT64),
        coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
        spatial_scale=spatial_scale,
        output_height=pooled_height,
        output_width=pooled_width,
        sampling_ratio=max(sampling_ratio, 0),
    )


def _roi_pool(features: Any, rois: Any, spatial_scale: float, pooled_height: int, pooled_width: int) -> tuple[Any, Any]:
    pooled = op.MaxRoiPool(features, rois, pooled_shape=[pooled_height, pooled_width], spatial_scale=spatial_scale)
    return pooled, op.CastLike(pooled, pooled)  # in the place of the positions, which nothing reads (`translations`)


def _ps_roi_align(
    features: Any, rois: Any, spatial_scale: float, pooled_height: int, pooled_width: int, sampling_ratio: int
) -> tuple[Any, Any]:
    pooled = _roi_align(features, rois, spatial_scale, pooled_height, pooled_width, sampling_ratio, True)
    # Of the channels (out, bin) of each bin those of its own.
    bins = pooled_height * pooled_width
    by_bin = op.Reshape(pooled, [0, int(features.shape[1]) // bins, bins, bins])
    own = op.Constant(value=onnx.numpy_helper.from_array(np.eye(bins, dtype=bool)))
    result = op.ReduceSum(op.Where(own, by_bin, op.CastLike(0.0, by_bin)), [2], keepdims=0)
    if sampling_ratio <= 0:
        # A mean of no samples, where RoiAlign gives 0.
        scale, half = op.CastLike(spatial_scale, rois), op.CastLike(0.5, rois)
        first = op.Sub(op.Mul(op.Slice(rois, [1], [3], [1]), scale), half)
        length = op.Sub(op.Sub(op.Mul(op.Slice(rois, [3], [5], [1]), scale), half), first)
        count = op.Ceil(op.Div(length, op.CastLike([float(pooled_width), float(pooled_height)], rois)))
        counts = op.ReduceProd(count, [1], keepdims=1)
        result = op.Where(op.Unsqueeze(op.Equal(counts, op.CastLike(0.0, rois)), [2]), float("nan"), result)
    result = op.Reshape(result, [0, 0, pooled_height, pooled_width])
    return result, op.CastLike(result, result)  # in the place of the channels, which nothing reads


def _deform_conv2d(
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
    return op19.DeformConv(
        features,
        weight,
        offset,
        bias,
        mask if use_mask else None,
        strides=[stride_h, stride_w],
        pads=[pad_h, pad_w, pad_h, pad_w],
        dilations=[dilation_h, dilation_w],
        group=groups,
        offset_group=offset_groups,
    )
