"""Samples of images at places that a grid gives."""

from __future__ import annotations

import torch
from torch.nn import functional

from converter.onnx_to_torch.core.registry import Call, operator

__all__: list[str] = []

# By the names of opset 16 and those of opset 20.
_MODES = {"bilinear": "bilinear", "linear": "bilinear", "nearest": "nearest", "bicubic": "bicubic", "cubic": "bicubic"}


@operator("GridSample")
def _grid_sample(call: Call) -> torch.Tensor:
    x, grid = call.tensor(0), call.tensor(1)
    mode = _MODES[call.attribute("mode", "linear")]
    if x.dim() not in (4, 5) or (x.dim() == 5 and mode == "bicubic"):
        raise call.refusal(f"has {x.dim() - 2} spatial axes in the mode {mode}, which torch does not sample")
    padding, corners = call.attribute("padding_mode", "zeros"), bool(call.attribute("align_corners", 0))
    if x.is_floating_point():
        return functional.grid_sample(x, grid.to(x.dtype), mode, padding, corners)
    wide = x.to(torch.float64)
    return functional.grid_sample(wide, grid.to(wide.dtype), mode, padding, corners).to(x.dtype)


@operator("AffineGrid")
def _affine_grid(call: Call) -> torch.Tensor:
    size = call.ints(1) or []
    if len(size) not in (4, 5):
        raise call.refusal(f"needs two or three spatial axes, and has {len(size) - 2}")
    return torch.affine_grid_generator(call.tensor(0), size, bool(call.attribute("align_corners", 0)))
