"""Normalization over batches, channels, groups, the last axes, and neighbouring channels."""

from __future__ import annotations

import torch
from torch.nn import functional

from converter.onnx_to_torch.core.registry import Call, operator
from converter.onnx_to_torch.core.values import torch_dtype

__all__ = ["layer_normalized", "rms_normalized"]


@operator("BatchNormalization")
def _batch_normalization(call: Call) -> tuple[torch.Tensor, ...]:
    x, scale, bias, mean, variance = (call.tensor(position) for position in range(5))
    epsilon = call.attribute("epsilon", 1e-5)
    if call.opset < 14 and any(call.wants(position) for position in range(1, 5)):
        raise call.refusal("needs the statistics of training, which operators before opset 14 leave to the runtime")
    if call.opset < 9 and not call.attribute("spatial", 1):
        return ((x - mean) / torch.sqrt(variance + epsilon) * scale + bias,)
    # Of half precision only the statistics may be wider: then it is computed as they are.
    dtype = x.dtype
    scale, bias, x = (tensor.to(mean.dtype) for tensor in (scale, bias, x))
    if not call.attribute("training_mode", 0):
        return (functional.batch_norm(x, mean, variance, scale, bias, eps=epsilon).to(dtype),)
    axes = [0, *range(2, x.dim())]
    own_mean, own_variance = x.mean(axes), x.var(axes, unbiased=False)
    y = functional.batch_norm(x, own_mean, own_variance, scale, bias, eps=epsilon).to(dtype)
    momentum = call.attribute("momentum", 0.9)
    return (
        y,
        mean * momentum + own_mean * (1 - momentum),
        variance * momentum + own_variance * (1 - momentum),
    )


@operator("InstanceNormalization")
def _instance_normalization(call: Call) -> torch.Tensor:
    x, scale, bias = call.tensor(0), call.tensor(1), call.tensor(2)
    # torch.nn.functional's would ask for the sizes, which may vary.
    return torch.instance_norm(x, scale, bias, None, None, True, 0.1, call.attribute("epsilon", 1e-5), False)


@operator("GroupNormalization")
def _group_normalization(call: Call) -> torch.Tensor:
    x, scale, bias = call.tensor(0), call.tensor(1), call.tensor(2)
    groups = call.attribute("num_groups")
    if call.opset < 21:
        # One number for each group.
        scale, bias = (tensor.repeat_interleave(x.shape[1] // groups) for tensor in (scale, bias))
    return torch.group_norm(x, groups, scale, bias, call.attribute("epsilon", 1e-5))


@operator("LayerNormalization")
def _layer_normalization(call: Call) -> tuple[torch.Tensor, ...]:
    x, axis, epsilon = call.tensor(0), call.attribute("axis", -1), call.attribute("epsilon", 1e-5)
    y = layer_normalized(x, axis, call.tensor(1), call.optional(2), epsilon)
    if not call.wants(1) and not call.wants(2):
        return (y,)
    axes = list(range(axis % x.dim(), x.dim()))
    wide = x.to(torch_dtype(call.attribute("stash_type", 1)))
    mean, variance = wide.mean(axes, keepdim=True), wide.var(axes, unbiased=False, keepdim=True)
    return y, mean, torch.rsqrt(variance + epsilon)


@operator("SimplifiedLayerNormalization")
def _simplified_layer_normalization(call: Call) -> tuple[torch.Tensor, ...]:
    x, axis, epsilon = call.tensor(0), call.attribute("axis", -1), call.attribute("epsilon", 1e-5)
    y = rms_normalized(x, axis, call.tensor(1), epsilon)
    if not call.wants(1):
        return (y,)
    wide = x.to(torch_dtype(call.attribute("stash_type", 1)))
    return y, torch.rsqrt((wide * wide).mean(list(range(axis % x.dim(), x.dim())), keepdim=True) + epsilon)


@operator("RMSNormalization")
def _rms_normalization(call: Call) -> torch.Tensor:
    return rms_normalized(call.tensor(0), call.attribute("axis", -1), call.tensor(1), call.attribute("epsilon", 1e-5))


def layer_normalized(
    x: torch.Tensor, axis: int, scale: torch.Tensor | None, bias: torch.Tensor | None, epsilon: float
) -> torch.Tensor:
    """Over the axes from that one on. scale, bias: broadcast to x, mostly of the shape that is normalized."""
    shape = list(x.shape[axis % x.dim() :])
    whole = _is_whole(shape, scale) and (bias is None or _is_whole(shape, bias))
    if whole:
        return functional.layer_norm(x, shape, scale, bias, epsilon)
    y = functional.layer_norm(x, shape, None, None, epsilon)
    y = y if scale is None else y * scale
    return y if bias is None else y + bias


def rms_normalized(x: torch.Tensor, axis: int, scale: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Over the axes from that one on, by the root of the mean of squares. scale: broadcast to x."""
    shape = list(x.shape[axis % x.dim() :])
    if _is_whole(shape, scale) and scale.dtype == x.dtype:
        return functional.rms_norm(x, shape, scale, epsilon)
    return functional.rms_norm(x, shape, None, epsilon).to(scale.dtype) * scale


def _is_whole(shape: list, parameter: torch.Tensor | None) -> bool:
    """Whether the parameter has an element for each that is normalized; sizes that may vary count as different."""
    if parameter is None or parameter.dim() != len(shape):
        return parameter is None
    return all(isinstance(size, int) and size == own for size, own in zip(shape, parameter.shape, strict=True))


@operator("MeanVarianceNormalization")
def _mean_variance_normalization(call: Call) -> torch.Tensor:
    """As onnxruntime (1.32) computes it: without the 1e-9 that ONNX adds to the root."""
    x, axes = call.tensor(0), call.attribute("axes") or [0, 2, 3]
    centred = x - x.mean(axes, keepdim=True)
    return centred / torch.sqrt((centred * centred).mean(axes, keepdim=True))


@operator("LpNormalization")
def _lp_normalization(call: Call) -> torch.Tensor:
    x, axis = call.tensor(0), call.attribute("axis", -1)
    one = call.attribute("p", 2) == 1
    norm = x.abs().sum(axis, keepdim=True) if one else torch.sqrt((x * x).sum(axis, keepdim=True))
    return x / torch.where(norm == 0, 1, norm)


@operator("LRN")
def _local_response_normalization(call: Call) -> torch.Tensor:
    x, size = call.tensor(0), call.attribute("size")
    alpha, beta, bias = call.attribute("alpha", 1e-4), call.attribute("beta", 0.75), call.attribute("bias", 1.0)
    before = (size - 1) // 2
    squares = (x * x).unsqueeze(1)
    # Channels are a spatial axis of one plane: means of `size` neighbours.
    if x.dim() not in (3, 4):
        squares = squares.reshape(x.shape[0], 1, x.shape[1], -1)
    pool = functional.avg_pool3d if squares.dim() == 5 else functional.avg_pool2d
    rest = squares.dim() - 3
    padded = functional.pad(squares, [0] * (2 * rest) + [before, size - 1 - before])
    means = pool(padded, [size, *[1] * rest], stride=1).reshape(x.shape)
    return x / (means * alpha + bias).pow(beta)
