"""Activation functions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from converter.onnx_to_torch.core.integers import UNSIGNED, in_order
from converter.onnx_to_torch.core.registry import Call, operator
from converter.onnx_to_torch.core.values import Known

__all__: list[str] = []

_SIXTH = float(np.float32(1 / 6))
_MICROSOFT = "com.microsoft"


@operator("Relu")
def _relu(call: Call) -> torch.Tensor:
    return F.relu(call.tensor(0))


@operator("LeakyRelu")
def _leaky_relu(call: Call) -> torch.Tensor:
    return F.leaky_relu(call.tensor(0), call.attribute("alpha", 0.01))


@operator("PRelu")
def _prelu(call: Call) -> torch.Tensor:
    """torch has slopes for the channels, ONNX of any shape."""
    x, slope = call.tensor(0), call.tensor(1)
    shape = [1] * (x.dim() - slope.dim()) + list(slope.shape)
    of_channels = all(isinstance(n, int) and n == 1 for place, n in enumerate(shape) if place != 1)
    if x.is_floating_point() and x.dim() > 1 and of_channels:
        return F.prelu(x, slope.reshape(-1))
    return torch.where(x < 0, slope * x, x)


@operator("Elu")
def _elu(call: Call) -> torch.Tensor:
    return F.elu(call.tensor(0), call.attribute("alpha", 1.0))


@operator("Celu")
def _celu(call: Call) -> torch.Tensor:
    return F.celu(call.tensor(0), call.attribute("alpha", 1.0))


@operator("Selu")
def _selu(call: Call) -> torch.Tensor:
    x, alpha, gamma = call.tensor(0), call.attribute("alpha"), call.attribute("gamma")
    usual = (1.67326319217681884765625, 1.05070102214813232421875)
    alpha, gamma = usual[0] if alpha is None else alpha, usual[1] if gamma is None else gamma
    if np.allclose((alpha, gamma), usual, rtol=1e-7, atol=0):
        return F.selu(x)
    return F.elu(x, alpha) * gamma


@operator("Gelu")
def _gelu(call: Call) -> torch.Tensor:
    return F.gelu(call.tensor(0), approximate=call.attribute("approximate", "none"))


@operator("Gelu", domain=_MICROSOFT)
def _gelu_exact(call: Call) -> torch.Tensor:
    return F.gelu(call.tensor(0))


@operator("BiasGelu", domain=_MICROSOFT)
def _bias_gelu(call: Call) -> torch.Tensor:
    return F.gelu(call.tensor(0) + call.tensor(1))


@operator("FastGelu", domain=_MICROSOFT)
def _fast_gelu(call: Call) -> torch.Tensor:
    x, bias = call.tensor(0), call.optional(1)
    return F.gelu(x if bias is None else x + bias, approximate="tanh")


@operator("QuickGelu", domain=_MICROSOFT)
def _quick_gelu(call: Call) -> torch.Tensor:
    return _swished(call.tensor(0), call.attribute("alpha", 1.702))


@operator("Swish")
def _swish(call: Call) -> torch.Tensor:
    return _swished(call.tensor(0), call.attribute("alpha", 1.0))


@operator("SwiGLU")
def _swiglu(call: Call) -> torch.Tensor:
    return _swished(call.tensor(0), call.attribute("alpha", 1.0)) * call.tensor(1)


def _swished(x: torch.Tensor, alpha: float) -> torch.Tensor:
    return F.silu(x) if alpha == 1 else x * torch.sigmoid(alpha * x)


@operator("HardSigmoid")
def _hard_sigmoid(call: Call) -> torch.Tensor:
    x, alpha, beta = call.tensor(0), call.attribute("alpha", 0.2), call.attribute("beta", 0.5)
    # Writers round 1 / 6 to float32, and some to fewer digits.
    if abs(alpha - _SIXTH) < 1e-7 and beta == 0.5:
        return F.hardsigmoid(x)
    return (x * alpha + beta).clamp(0, 1)


@operator("HardSwish")
def _hard_swish(call: Call) -> torch.Tensor:
    return F.hardswish(call.tensor(0))


@operator("Mish")
def _mish(call: Call) -> torch.Tensor:
    return F.mish(call.tensor(0))


@operator("Softplus")
def _softplus(call: Call) -> torch.Tensor:
    return F.softplus(call.tensor(0))


@operator("Softsign")
def _softsign(call: Call) -> torch.Tensor:
    return F.softsign(call.tensor(0))


@operator("ThresholdedRelu")
def _thresholded_relu(call: Call) -> torch.Tensor:
    return F.threshold(call.tensor(0), call.attribute("alpha", 1.0), 0.0)


@operator("Shrink")
def _shrink(call: Call) -> torch.Tensor:
    """The elements near 0 become 0, the others come closer to it by the bias."""
    x, bias, lambd = call.tensor(0), call.attribute("bias", 0.0), call.attribute("lambd", 0.5)
    wide = x.to(torch.float32) if not x.is_floating_point() else x
    near = torch.where(wide > lambd, wide - bias, torch.zeros_like(wide))
    return torch.where(wide < -lambd, wide + bias, near).to(x.dtype)


@operator("Clip")
def _clip(call: Call) -> torch.Tensor:
    x = call.tensor(0)
    if call.opset < 11:
        low, high = call.attribute("min"), call.attribute("max")
        return x if low is None and high is None else x.clamp(low, high)
    if not call.has(1) and not call.has(2):
        return x
    numbers = [_limit(call, position) for position in (1, 2)]
    known = all(number is not None or not call.has(place) for place, number in enumerate(numbers, 1))
    if known and x.dtype not in UNSIGNED:
        return x.clamp(*numbers)
    for function, limit in ((torch.maximum, call.optional(1)), (torch.minimum, call.optional(2))):
        if limit is not None:
            x = in_order(function, x, limit.reshape(()))
    return x


def _limit(call: Call, position: int) -> int | float | None:
    """As a number; None where that is not known before the model runs."""
    value = call.inputs[position] if call.has(position) else None
    return value.array.reshape(()).item() if isinstance(value, Known) else None


@operator("Softmax")
def _softmax(call: Call) -> torch.Tensor:
    return _over_axis(call, F.softmax)


@operator("LogSoftmax")
def _log_softmax(call: Call) -> torch.Tensor:
    return _over_axis(call, F.log_softmax)


@operator("Hardmax")
def _hardmax(call: Call) -> torch.Tensor:
    return _over_axis(call, _one_hot_of_largest)


def _one_hot_of_largest(x: torch.Tensor, axis: int) -> torch.Tensor:
    """1 at the first of the largest elements."""
    places = torch.arange(x.shape[axis]).reshape([-1 if place == axis % x.dim() else 1 for place in range(x.dim())])
    return (places == x.argmax(axis, keepdim=True)).to(x.dtype)


def _over_axis(call: Call, function: Callable[[torch.Tensor, int], torch.Tensor]) -> torch.Tensor:
    """Over one axis; before opset 13 over that axis and all behind it."""
    x = call.tensor(0)
    axis = call.attribute("axis", -1 if call.opset >= 13 else 1)
    if call.opset >= 13:
        return function(x, axis)
    return _over_axes_from(x, axis, function)


def _over_axes_from(x: torch.Tensor, axis: int, function: Callable[[torch.Tensor, int], torch.Tensor]) -> torch.Tensor:
    axis = axis + x.dim() if axis < 0 else axis
    if all(isinstance(n, int) and n == 1 for n in x.shape[axis + 1 :]) and axis < x.dim():
        return function(x, axis)
    return function(x.flatten(axis), -1).reshape(x.shape)


@operator("BiasSoftmax", domain=_MICROSOFT)
def _bias_softmax(call: Call) -> torch.Tensor:
    """The bias lacks axes: those before `axis` (broadcast within), or some of those behind the first."""
    x, bias, axis = call.tensor(0), call.tensor(1), call.attribute("axis", 1)
    if not call.attribute("is_inner_broadcast", 0) and bias.dim() < x.dim():
        bias = bias.reshape([*bias.shape[:1], *[1] * (x.dim() - bias.dim()), *bias.shape[1:]])
    return _over_axes_from(x + bias, axis, F.softmax)
