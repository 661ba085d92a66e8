"""onnxruntime's own layers (com.microsoft): convolutions with an activation, and normalization of sums."""

from __future__ import annotations

import torch
from torch.nn import functional

from converter.onnx_to_torch.core.registry import Call, operator
from converter.onnx_to_torch.operators.convolutions import convolved
from converter.onnx_to_torch.operators.normalization import layer_normalized, rms_normalized
from converter.onnx_to_torch.operators.pooling import max_pooled

__all__: list[str] = []

_DOMAIN = "com.microsoft"


@operator("FusedConv", domain=_DOMAIN)
def _fused_convolution(call: Call) -> torch.Tensor:
    y = convolved(call, call.tensor(0), call.tensor(1), call.optional(2))
    return _activated(call, y if call.optional(3) is None else y + call.tensor(3))


@operator("NhwcConv", "NhwcFusedConv", domain=_DOMAIN)
def _channels_last_convolution(call: Call) -> torch.Tensor:
    """The weights are laid out as those of Conv."""
    y = convolved(call, torch.movedim(call.tensor(0), -1, 1), call.tensor(1), call.optional(2))
    y = torch.movedim(y, 1, -1)
    return _activated(call, y if call.optional(3) is None else y + call.tensor(3))


@operator("NhwcMaxPool", domain=_DOMAIN)
def _channels_last_max_pool(call: Call) -> torch.Tensor:
    return torch.movedim(max_pooled(call, torch.movedim(call.tensor(0), -1, 1))[0], 1, -1)


def _activated(call: Call, x: torch.Tensor) -> torch.Tensor:
    name, numbers = call.attribute("activation", ""), call.attribute("activation_params") or []
    if not name:
        return x
    if name in ("Relu", "Tanh", "Sigmoid"):
        return {"Relu": torch.relu, "Tanh": torch.tanh, "Sigmoid": torch.sigmoid}[name](x)
    if name == "LeakyRelu" and numbers:
        return functional.leaky_relu(x, numbers[0])
    if name == "Clip" and len(numbers) == 2:
        return x.clamp(numbers[0], numbers[1])
    if name == "HardSigmoid" and len(numbers) == 2:
        return (x * numbers[0] + numbers[1]).clamp(0, 1)
    raise call.refusal(f"has the activation {name}, which is not known here")


@operator("SkipLayerNormalization", domain=_DOMAIN)
def _skip_layer_normalization(call: Call) -> tuple[torch.Tensor | None, ...]:
    total = _with_skip(call, 4)
    y = layer_normalized(total, -1, call.tensor(2), call.optional(3), call.attribute("epsilon", 1e-12))
    return y, *_no_statistics(call), total


@operator("SkipSimplifiedLayerNormalization", domain=_DOMAIN)
def _skip_simplified_layer_normalization(call: Call) -> tuple[torch.Tensor | None, ...]:
    total = _with_skip(call, 3)
    return rms_normalized(total, -1, call.tensor(2), call.attribute("epsilon", 1e-12)), *_no_statistics(call), total


def _with_skip(call: Call, bias: int) -> torch.Tensor:
    total = call.tensor(0) + call.tensor(1)
    return total if call.optional(bias) is None else total + call.tensor(bias)


def _no_statistics(call: Call) -> tuple[None, None]:
    if call.wants(1) or call.wants(2):
        raise call.refusal("needs the mean and deviation, which onnxruntime does not give on a CPU")
    return None, None


@operator("EmbedLayerNormalization", domain=_DOMAIN)
def _embed_layer_normalization(call: Call) -> tuple[torch.Tensor, ...]:
    words = call.tensor(0)
    places = call.optional(8)
    places = torch.arange(words.shape[1])[None] if places is None else places
    total = functional.embedding(words, call.tensor(2)) + functional.embedding(places, call.tensor(3))
    if call.has(1) and call.has(4):
        total = total + functional.embedding(call.tensor(1), call.tensor(4))
    y = layer_normalized(total, -1, call.tensor(5), call.optional(6), call.attribute("epsilon", 1e-12))
    mask = call.optional(7)
    counts = torch.zeros(words.shape[0], dtype=torch.int32) if mask is None else (mask == 1).sum(1).to(torch.int32)
    return y, counts, total
