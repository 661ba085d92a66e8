"""Padding and cropping."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from converter.onnx_to_torch.core.registry import Call, on_sizes, operator
from converter.onnx_to_torch.operators.slicing import picked

__all__: list[str] = []

_TORCH_MODES = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def _widths(call: Call, rank: int) -> dict[int, tuple[Any, Any]]:
    """What is added before and after each axis; less than nothing crops it."""
    pads = call.attribute("pads") if call.opset < 11 else call.ints(1)
    axes = call.ints(3) if call.has(3) else list(range(rank))
    assert pads is not None and axes is not None
    if not all(isinstance(axis, int) for axis in axes):
        raise call.refusal("needs axes that are known before the model runs, which this model computes")
    half = len(pads) // 2
    return {
        axis % rank: (before, after)
        for axis, before, after in zip(axes, pads[:half], pads[half:], strict=True)
        if not (isinstance(before, int) and isinstance(after, int) and before == after == 0)
    }


def _in_torch_order(widths: dict[int, tuple[Any, Any]], rank: int) -> list[Any]:
    """From the last axis on to the first that has any."""
    pads = [width for axis in range(rank - 1, -1, -1) for width in widths.get(axis, (0, 0))]
    return pads[: 2 * (rank - min(widths, default=rank))]


@operator("Pad")
def _pad(call: Call) -> torch.Tensor:
    x, mode = call.tensor(0), call.attribute("mode", "constant")
    widths = _widths(call, x.ndim)
    if not widths:
        return x
    if mode == "constant":
        return _filled(call, x, _in_torch_order(widths, x.ndim))
    if not all(isinstance(width, int) for pair in widths.values() for width in pair):
        raise call.refusal(f"needs widths in mode {mode} that are the same for all inputs, which this model computes")
    for axis, (before, after) in widths.items():
        if before < 0 or after < 0:
            x = x[(*(slice(None),) * axis, slice(max(-before, 0), min(after, 0) or None))]
    widths = {axis: (max(before, 0), max(after, 0)) for axis, (before, after) in widths.items()}
    if _is_torchs(x, mode, widths):
        spatial = {axis: widths.get(axis, (0, 0)) for axis in range(2, x.ndim)}
        return functional.pad(x, _in_torch_order(spatial, x.ndim), _TORCH_MODES[mode])
    for axis, (before, after) in widths.items():
        x = picked(x, _places(mode, x.shape[axis], before, after), axis)
    return x


def _filled(call: Call, x: torch.Tensor, pads: list[Any]) -> torch.Tensor:
    if call.opset < 11:
        return functional.pad(x, pads, value=call.attribute("value", 0.0))
    value = call.known(2)
    if not call.has(2) or (value is not None and value.size == 0):
        return functional.pad(x, pads)
    if value is not None:
        return functional.pad(x, pads, value=value.item())
    inside = functional.pad(torch.ones_like(x, dtype=torch.bool), pads)
    return torch.where(inside, functional.pad(x, pads), call.tensor(2).reshape(()))


def _is_torchs(x: torch.Tensor, mode: str, widths: dict[int, tuple[int, int]]) -> bool:
    """Whether torch pads so: floats, along the one to three last axes of images and their like, by less than there is."""
    spatial = x.ndim - 2
    most = {"reflect": -1, "wrap": 0}.get(mode)
    return (
        x.is_floating_point()
        and 1 <= spatial <= 3
        and min(widths, default=2) >= 2
        and all(
            most is None or (isinstance(x.shape[axis], int) and max(pair) <= x.shape[axis] + most)
            for axis, pair in widths.items()
        )
    )


def _places(mode: str, size: Any, before: int, after: int) -> torch.Tensor:
    """Where the elements of a padded axis come from."""
    if isinstance(size, int):
        return torch.from_numpy(np.pad(np.arange(size), (before, after), mode))  # type: ignore[call-overload]
    places = torch.arange(-before, size + after)
    if mode == "edge":
        return places.clamp(min=0).minimum(torch.scalar_tensor(size - 1, dtype=torch.int64))
    if mode == "wrap":
        return places % size
    places = places % (2 * size - 2)
    return torch.where(places < size, places, 2 * size - 2 - places)


@on_sizes("Pad")
def _pad_sizes(call: Call, arrays: list[np.ndarray]) -> np.ndarray | None:
    widths = _widths(call, arrays[0].ndim)
    pairs = [widths.get(axis, (0, 0)) for axis in range(arrays[0].ndim)]
    if call.attribute("mode", "constant") != "constant" or any(
        not isinstance(width, int) or width < 0 for pair in pairs for width in pair
    ):
        return None
    value = call.int(2) if call.has(2) else call.attribute("value", 0)
    return np.pad(arrays[0].astype(object), pairs, constant_values=value)


@operator("CenterCropPad")
def _center_crop_pad(call: Call) -> torch.Tensor:
    x, sizes = call.tensor(0), call.ints(1) or []
    for axis, wanted in zip(call.attribute("axes") or range(x.ndim), sizes, strict=True):
        axis = axis % x.ndim
        size = x.shape[axis]
        cut, added = _positive(size - wanted), _positive(wanted - size)
        if not isinstance(cut, int) or cut > 0:
            x = x.narrow(axis, cut // 2, size - cut)
        if not isinstance(added, int) or added > 0:
            x = functional.pad(x, [0, 0] * (x.ndim - axis - 1) + [added // 2, added - added // 2])
    return x


def _positive(size: Any) -> Any:
    return max(size, 0) if isinstance(size, int) else torch.sym_max(size, 0)


@operator("DepthToSpace")
def _depth_to_space(call: Call) -> torch.Tensor:
    x, block = call.tensor(0), call.attribute("blocksize")
    number, channels, height, width = x.shape
    depth = channels // block**2
    if call.attribute("mode", "DCR") == "CRD" or (isinstance(depth, int) and depth == 1):
        return functional.pixel_shuffle(x, block)
    x = x.reshape(number, block, block, depth, height, width)
    return x.permute(0, 3, 4, 1, 5, 2).reshape(number, depth, height * block, width * block)


@operator("SpaceToDepth")
def _space_to_depth(call: Call) -> torch.Tensor:
    x, block = call.tensor(0), call.attribute("blocksize")
    number, channels, height, width = x.shape
    if call.attribute("mode", "DCR") == "CRD" or (isinstance(channels, int) and channels == 1):
        return functional.pixel_unshuffle(x, block)
    x = x.reshape(number, channels, height // block, block, width // block, block)
    return x.permute(0, 3, 5, 1, 2, 4).reshape(number, channels * block**2, height // block, width // block)
