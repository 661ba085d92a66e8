"""Activation functions."""

from __future__ import annotations

import math

import keras
import numpy as np
from keras import layers

from converter.torch_to_keras.call import Call
from converter.torch_to_keras.layout import axis_last, channels_last_tensor
from converter.torch_to_keras.registry import converts
from converter.torch_to_keras.slicing import slice_axis
from converter.torch_to_keras.values import Constant, Value, channels_last, static

__all__ = ["rescale"]

_NONNEGATIVE = {"relu", "sigmoid", "hard_sigmoid", "exponential"}


def rescale(call: Call, value: Value, scale: float = 1.0, offset: float = 0.0) -> Value:
    """scale * x + offset for floats."""
    if scale == 1.0 and offset == 0.0:
        return value
    tensor = call.layer(layers.Rescaling, value.tensor, scale=float(scale), offset=float(offset))
    return value.like(tensor, nonnegative=value.nonnegative and scale >= 0 and offset >= 0)


def _activation(name: str) -> None:
    def convert(call: Call, value: Value) -> Value:
        tensor = call.layer(layers.Activation, value.tensor, activation=name, name=call.name(name))
        return value.like(tensor, nonnegative=name in _NONNEGATIVE)

    torch_name = {
        "hard_sigmoid": "hardsigmoid",
        "hard_silu": "hardswish",
        "log_sigmoid": "log_sigmoid",
        "exponential": "exp",
    }.get(name, name)
    converts(f"{torch_name}.default")(convert)


for _name in ["sigmoid", "tanh", "silu", "mish", "selu", "hard_sigmoid", "hard_silu", "log_sigmoid", "exponential"]:
    _activation(_name)


@converts("relu.default")
def relu(call: Call, value: Value) -> Value:
    return value.like(call.layer(layers.ReLU, value.tensor), nonnegative=True)


@converts("leaky_relu.default")
def leaky_relu(call: Call, value: Value, slope: float) -> Value:
    return value.like(call.layer(layers.LeakyReLU, value.tensor, negative_slope=float(slope)))


@converts("rrelu.default")
def rrelu(call: Call, value: Value, lower: float, upper: float, *_: object) -> Value:
    return leaky_relu(call, value, (lower + upper) / 2)


@converts("elu.default")
def elu(call: Call, value: Value, alpha: float, scale: float, input_scale: float) -> Value:
    value = rescale(call, value, input_scale)
    return rescale(call, value.like(call.layer(layers.ELU, value.tensor, alpha=float(alpha))), scale)


@converts("celu.default")
def celu(call: Call, value: Value, alpha: float) -> Value:
    value = rescale(call, value, 1 / alpha)
    return rescale(call, value.like(call.layer(layers.ELU, value.tensor)), alpha)


@converts("softplus.default")
def softplus(call: Call, value: Value, beta: float, threshold: float) -> Value:
    """Above `threshold` PyTorch takes x itself; at the default of 20 that is the same float32 number."""
    if threshold < 20:
        raise call.unsupported(f"its threshold of {threshold} below 20 has no Keras counterpart")
    value = rescale(call, value, beta)
    tensor = call.layer(layers.Activation, value.tensor, activation="softplus")
    return rescale(call, value.like(tensor, nonnegative=True), 1 / beta)


@converts("gelu.default")
def gelu(call: Call, value: Value) -> Value:
    if call.option("approximate", "none") == "none":
        return value.like(call.layer(layers.Activation, value.tensor, activation="gelu"))
    if not call.layers_only:
        return value.like(call.op(keras.ops.gelu, value.tensor, approximate=True))
    # x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))), in layers
    x, root = value.tensor, math.sqrt(2 / math.pi)
    cubic = rescale(call, value.like(call.layer(layers.Multiply, [x, x, x])), root * 0.044715)
    inner = call.layer(layers.Add, [rescale(call, value, root).tensor, cubic.tensor])
    gate = rescale(call, value.like(call.layer(layers.Activation, inner, activation="tanh")), 0.5, 0.5)
    return value.like(call.layer(layers.Multiply, [x, gate.tensor]))


@converts("hardtanh.default")
def hardtanh(call: Call, value: Value, low: float, high: float) -> Value:
    return clip(call, value, low, high)


@converts("clamp.default")
def clip(call: Call, value: Value, low: float | None, high: float | None) -> Value:
    """ReLU layers where they say the same: relu6 is ReLU(max_value=6)."""
    nonnegative = value.nonnegative or (low is not None and low >= 0)
    if value.is_float and low == 0 and (high is None or high > 0):
        tensor = call.layer(layers.ReLU, value.tensor, max_value=None if high is None else float(high))
    elif value.is_float and (low, high) == (-1, 1):
        tensor = call.layer(layers.Activation, value.tensor, activation="hard_tanh")
    elif not call.layers_only:
        tensor = value.tensor
        if low is not None:
            tensor = call.op(keras.ops.maximum, tensor, low)
        if high is not None:
            tensor = call.op(keras.ops.minimum, tensor, high)
    elif low is None:
        return rescale(call, clip(call, rescale(call, value, -1.0), -high, None), -1.0)
    else:
        width = None if high is None else float(high) - low
        shifted = rescale(call, value, 1.0, -low)
        return rescale(call, shifted.like(call.layer(layers.ReLU, shifted.tensor, max_value=width)), 1.0, low)
    return value.like(tensor, nonnegative=nonnegative)


@converts("abs.default")
def absolute(call: Call, value: Value) -> Value:
    if call.layers_only and value.is_float:
        opposite = rescale(call, value, -1.0)
        return value.like(call.layer(layers.Maximum, [value.tensor, opposite.tensor]), nonnegative=True)
    return value.like(call.op(keras.ops.absolute, value.tensor), nonnegative=True)


@converts("prelu.default", "_prelu_kernel.default")
def prelu(call: Call, value: Value, slope: Constant) -> Value:
    """PReLU with one slope per channel (PyTorch's axis 1), or one for all."""
    rank = len(value.shape)
    if not isinstance(slope, Constant):
        raise call.unsupported("its slopes depend on the inputs")
    slopes = slope.numpy.reshape(-1)
    shared = list(range(1, rank - 1) if rank > 2 else ())
    if slopes.size == 1:
        if any(static(dim) is None for dim in value.shape[1:]):
            slopes = np.repeat(slopes, static(value.shape[1]))
        else:
            shared = list(range(1, rank))
    shape = tuple(1 if axis + 1 in shared else slopes.size for axis in range(rank - 1))
    tensor = call.layer(
        layers.PReLU,
        channels_last_tensor(call, value),
        shared_axes=shared or None,
        weights=[slopes.reshape(shape)],
        parameters=[slope.name],
    )
    return call.value(tensor, channels_last(rank))


@converts("softmax.int", "_softmax.default")
def softmax(call: Call, value: Value, dim: int, *_: object) -> Value:
    return value.like(call.layer(layers.Softmax, value.tensor, axis=value.axis(dim)), nonnegative=True)


@converts("log_softmax.int", "_log_softmax.default")
def log_softmax(call: Call, value: Value, dim: int, *_: object) -> Value:
    value = axis_last(call, value, dim)
    return value.like(call.layer(layers.Activation, value.tensor, activation="log_softmax"))


@converts("glu.default")
def glu(call: Call, value: Value, dim: int) -> Value:
    half = static(value.shape[dim]) // 2
    linear, gate = (slice_axis(call, value, dim, start, start + half) for start in (0, half))
    gated = call.layer(layers.Activation, gate.tensor, activation="sigmoid")
    return linear.like(call.layer(layers.Multiply, [linear.tensor, gated]))
