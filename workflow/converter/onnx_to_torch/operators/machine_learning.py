"""Operators of ai.onnx.ml that prepare numbers for a model."""

from __future__ import annotations

import torch

from converter.onnx_to_torch.core.registry import Call, operator

__all__: list[str] = []

_DOMAIN = "ai.onnx.ml"


@operator("ArrayFeatureExtractor", domain=_DOMAIN)
def _array_feature_extractor(call: Call) -> torch.Tensor:
    """Elements of the last axis; of a vector a row."""
    x = call.tensor(0)
    found = x.index_select(-1, call.tensor(1).reshape(-1).to(torch.int64))
    return found.unsqueeze(0) if found.dim() == 1 else found


@operator("Binarizer", domain=_DOMAIN)
def _binarizer(call: Call) -> torch.Tensor:
    x = call.tensor(0)
    return (x > call.attribute("threshold", 0.0)).to(x.dtype)


@operator("Scaler", domain=_DOMAIN)
def _scaler(call: Call) -> torch.Tensor:
    """(x - offset) * scale along the last axis, in float32."""
    offset, scale = (
        torch.tensor(call.attribute(name) or [default]) for name, default in (("offset", 0.0), ("scale", 1.0))
    )
    return (call.tensor(0).to(torch.float32) - offset) * scale
