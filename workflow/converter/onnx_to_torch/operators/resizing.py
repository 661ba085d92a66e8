"""Resize and Upsample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.nn import functional

from converter.onnx_to_torch.core.registry import Call, operator
from converter.onnx_to_torch.core.values import Known, to_torch
from converter.onnx_to_torch.operators.interpolation import ResizedAxis, interpolated, nearest_index, positions

__all__: list[str] = []

_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}
# Any size: whether torch's positions are those of ONNX for a whole factor is tried on it.
_TRIAL = 977


@operator("Resize", "Upsample")
def _resize(call: Call) -> torch.Tensor:
    x = call.tensor(0)
    early = call.node.op_type == "Upsample" or call.opset < 11
    coordinates = "asymmetric" if early else call.attribute("coordinate_transformation_mode", "half_pixel")
    nearest = "simple" if early else call.attribute("nearest_mode", "round_prefer_floor")
    mode = call.attribute("mode", "nearest")
    mode = "linear" if mode == "bilinear" else mode
    crop = coordinates == "tf_crop_and_resize"
    # Where the factor is 1, onnxruntime takes no account of a region either.
    axes = [axis for axis in _axes(call, x) if not _unchanged(axis)]
    if not axes:
        return x
    direct = None if crop else _by_torch(call, x, axes, mode, coordinates, nearest)
    if direct is not None:
        return direct
    dtype = x.dtype
    if mode != "nearest" and not dtype.is_floating_point:
        if call.attribute("antialias", 0):
            raise call.refusal("needs integers to be rounded between the axes of an antialiased resizing")
        x = x.float()
    outside: torch.Tensor | None = None
    for axis in axes:
        places = positions(axis, coordinates)
        if mode == "nearest":
            smaller = isinstance(axis.scale, int | float | np.floating) and bool(axis.scale < 1)
            x = torch.index_select(x, axis.axis, _tensor(nearest_index(places, axis.old, nearest, smaller=smaller)))
        else:
            x = interpolated(x, axis, places, **_interpolation(call, axis, mode))
        if crop:
            beyond = _tensor((places < 0) | (places > axis.old - 1)).reshape(-1, *[1] * (x.dim() - 1 - axis.axis))
            outside = beyond if outside is None else outside | beyond
    x = x.to(dtype)
    return x if outside is None else torch.where(outside, call.attribute("extrapolation_value", 0.0), x).to(dtype)


def _interpolation(call: Call, axis: ResizedAxis, mode: str) -> dict[str, Any]:
    antialias = bool(call.attribute("antialias", 0))
    if antialias and not isinstance(axis.scale, int | float | np.floating):
        raise call.refusal("needs the factors of an antialiased resizing, which only the inputs' sizes tell")
    cubic = call.attribute("cubic_coeff_a", -0.75) if mode == "cubic" else None
    # Without antialiasing, two linear weights at an edge are those of the same element.
    exclude = bool(call.attribute("exclude_outside", 0)) and (mode == "cubic" or antialias)
    return {"cubic": cubic, "exclude_outside": exclude, "antialias": antialias}


def _tensor(array: Any) -> torch.Tensor:
    return to_torch(array) if isinstance(array, np.ndarray) else array


def _unchanged(axis: ResizedAxis) -> bool:
    if isinstance(axis.scale, int | float | np.floating) and axis.scale != 1:
        return False
    return statically_known_true(axis.new == axis.old)


def _axes(call: Call, x: torch.Tensor) -> list[ResizedAxis]:
    """Every axis that the node names, with sizes and factors."""
    rank = x.dim()
    axes = [axis % rank for axis in call.attribute("axes") or range(rank)]
    old = [x.shape[axis] for axis in axes]
    later = call.node.op_type == "Resize" and call.opset >= 11
    scales, sizes = _scales(call, 2 if later else 1), call.ints(3) if later else None
    starts, ends = _region(call, len(axes))
    policy = call.attribute("keep_aspect_ratio_policy", "stretch")
    if sizes:
        scales = [_quotient(new, size) for new, size in zip(sizes, old, strict=True)]
        if policy != "stretch":
            if not all(isinstance(size, int) for size in (*sizes, *old)):
                raise call.refusal("needs sizes that do not vary, to keep the proportions")
            scale = (min if policy == "not_larger" else max)(scales)
            scales = [scale] * len(axes)
            sizes = [math.floor(float(scale) * size + 0.5) for size in old]
    elif scales:
        # onnxruntime takes no account of the region there.
        sizes = [_scaled(size, scale) for size, scale in zip(old, scales, strict=True)]
    else:
        raise call.refusal("needs factors or sizes, and has neither")
    return [ResizedAxis(*entry) for entry in zip(axes, old, sizes, scales, starts, ends, strict=True)]


def _scales(call: Call, position: int) -> list[Any] | None:
    if call.node.op_type == "Upsample" and call.opset < 9:
        return [np.float32(scale) for scale in call.attribute("scales")]
    if not call.has(position):
        return None
    value = call.inputs[position]
    if not isinstance(value, Known):
        raise call.refusal("needs factors that are known before the model runs")
    return list(value.array.reshape(-1)) or None


def _region(call: Call, count: int) -> tuple[list[Any], list[Any]]:
    if call.attribute("coordinate_transformation_mode") != "tf_crop_and_resize" or not call.has(1):
        return [0.0] * count, [1.0] * count
    known = call.known(1)
    numbers = list(call.tensor(1).float().unbind()) if known is None else [np.float32(x) for x in known]
    return numbers[:count], numbers[count:]


def _quotient(new: Any, old: Any) -> Any:
    """Whole where the sizes tell it though they vary."""
    if isinstance(new, int) and isinstance(old, int):
        return np.float32(new) / np.float32(old)
    for factor in (1, 2, 3, 4, 5, 6, 8, 16):
        if statically_known_true(new == old * factor):
            return np.float32(factor)
        if statically_known_true(new * factor == old):
            return np.float32(1 / factor)
    return new / old


def _scaled(size: Any, scale: Any) -> Any:
    """size * scale, rounded down, as in float32."""
    if not isinstance(size, torch.SymInt):
        return (
            math.floor(np.float32(size) * scale)
            if not isinstance(scale, torch.SymFloat)
            else torch.sym_int(size * scale)
        )
    if isinstance(scale, torch.SymFloat):
        return torch.sym_int(size * scale)
    ratio = Fraction(float(scale)).limit_denominator(1000)
    if np.float32(float(ratio)) == np.float32(scale):
        return size * ratio.numerator // ratio.denominator
    return torch.sym_int(size * float(scale))


def _by_torch(
    call: Call, x: torch.Tensor, axes: Sequence[ResizedAxis], mode: str, coordinates: str, nearest: str
) -> torch.Tensor | None:
    """By torch.nn.functional.interpolate where it means the same; else None."""
    if x.dim() not in _LINEAR or min(axis.axis for axis in axes) < 2 or call.attribute("antialias", 0):
        return None
    if coordinates != "align_corners" and any(a.known and math.floor(a.old * float(a.scale)) != a.new for a in axes):
        return None
    if mode == "nearest":
        names = ("nearest", "nearest-exact")
        name = next((name for name in names if all(_same_nearest(a, coordinates, nearest, name) for a in axes)), None)
        if name is None or not (x.is_floating_point() or x.dtype == torch.uint8):
            return None
        return functional.interpolate(x, mode=name, **_target(x, axes))
    if not x.is_floating_point():
        return None
    if mode == "cubic" and (
        x.dim() != 4 or call.attribute("cubic_coeff_a", -0.75) != -0.75 or call.attribute("exclude_outside", 0)
    ):
        return None
    half = coordinates == "half_pixel" or (
        coordinates == "pytorch_half_pixel"
        and all((isinstance(a.new, int) and a.new > 1) or _at_least_one(a.scale) for a in axes)
    )
    if not half and coordinates != "align_corners":
        return None
    corners = coordinates == "align_corners"
    target: dict[str, Any] = {"size": _sizes(x, axes)} if corners else _target(x, axes)
    return functional.interpolate(
        x, mode="bicubic" if mode == "cubic" else _LINEAR[x.dim()], align_corners=corners, **target
    )


def _at_least_one(scale: Any) -> bool:
    return isinstance(scale, int | float | np.floating) and bool(scale >= 1)


def _sizes(x: torch.Tensor, axes: Sequence[ResizedAxis]) -> list[Any]:
    new = {axis.axis: axis.new for axis in axes}
    return [new.get(axis, x.shape[axis]) for axis in range(2, x.dim())]


def _target(x: torch.Tensor, axes: Sequence[ResizedAxis]) -> dict[str, Any]:
    """Sizes where they tell the factors, which torch computes positions by; else factors."""
    plain = [isinstance(axis.scale, int | float | np.floating) for axis in axes]
    told = all(
        np.float32(axis.new) / np.float32(axis.old) == axis.scale if axis.known else not number
        for axis, number in zip(axes, plain, strict=True)
    )
    if told or not all(plain):
        return {"size": _sizes(x, axes)}
    scales = {axis.axis: float(axis.scale) for axis in axes}
    return {"scale_factor": tuple(scales.get(axis, 1.0) for axis in range(2, x.dim()))}


def _same_nearest(axis: ResizedAxis, coordinates: str, nearest: str, name: str) -> bool:
    """Whether torch takes the same elements. Where sizes vary, for whole factors alone."""
    if not axis.known:
        if not isinstance(axis.scale, int | float | np.floating) or axis.scale != math.floor(axis.scale):
            return False
        axis = ResizedAxis(axis.axis, _TRIAL, _TRIAL * int(axis.scale), axis.scale)
    own = nearest_index(positions(axis, coordinates), axis.old, nearest, smaller=float(axis.scale) < 1)
    told = np.float32(axis.new) / np.float32(axis.old) == axis.scale
    factor = np.float32(axis.old) / np.float32(axis.new) if told else np.float32(1) / np.float32(axis.scale)
    index = np.arange(axis.new, dtype=np.float32)
    torchs = np.floor((index + 0.5) * factor) if name == "nearest-exact" else np.floor(index * factor)
    return np.array_equal(own, np.minimum(torchs, axis.old - 1).astype(np.int64))
