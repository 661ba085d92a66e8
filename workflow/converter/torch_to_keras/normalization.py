"""Normalization layers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import numpy as np
from keras import layers

from converter.torch_to_keras.call import Call
from converter.torch_to_keras.layout import axis_last, channels_last_tensor, torch_tensor, view
from converter.torch_to_keras.parameter_layers import affine
from converter.torch_to_keras.registry import converts
from converter.torch_to_keras.values import Constant, Value, channels_last, static

_Parameter = Constant | None


@converts("_native_batch_norm_legit_no_training.default")
def batch_norm(
    call: Call,
    value: Value,
    weight: _Parameter,
    bias: _Parameter,
    mean: Constant,
    variance: Constant,
    momentum: float,
    epsilon: float,
) -> tuple[Value, None, None]:
    """Keras's momentum is the share of the old average, PyTorch's that of the new one."""
    if not all(isinstance(p, Constant | None) for p in (weight, bias, mean, variance)):
        raise call.unsupported("its parameters depend on the inputs")
    rank = len(value.shape)
    tensor = call.layer(
        layers.BatchNormalization,
        channels_last_tensor(call, value),
        momentum=1.0 - momentum,
        epsilon=epsilon,
        center=bias is not None,
        scale=weight is not None,
        weights=[p.numpy for p in (weight, bias, mean, variance) if p is not None],
        parameters=[p.name for p in (mean, weight, bias, variance) if p is not None],
    )
    return call.value(tensor, channels_last(rank)), None, None


@converts("batch_norm.default")
def batch_norm_whole(
    call: Call,
    value: Value,
    weight: _Parameter,
    bias: _Parameter,
    mean: _Parameter,
    variance: _Parameter,
    training: bool,
    momentum: float,
    epsilon: float,
    cudnn: bool,
) -> Value:
    """Batch normalization by running averages, or by those of the batch where there are none."""
    if training or mean is None:
        return batch_statistics(call, value, weight, bias, training, momentum, epsilon)[0]
    return batch_norm(call, value, weight, bias, mean, variance, momentum, epsilon)[0]


@converts("_native_batch_norm_legit.no_stats")
def batch_statistics(
    call: Call, value: Value, weight: _Parameter, bias: _Parameter, training: bool, momentum: float, epsilon: float
) -> tuple[Value, None, None]:
    """BatchNorm without running averages normalizes by those of the batch at hand, also in inference."""
    tensor, rank = channels_last_tensor(call, value), len(value.shape)
    axes = tuple(range(rank - 1))
    mean = call.op(keras.ops.mean, tensor, axis=axes, keepdims=True)
    variance = call.op(keras.ops.var, tensor, axis=axes, keepdims=True)
    deviation = call.op(keras.ops.sqrt, call.op(keras.ops.add, variance, epsilon))
    centred = call.op(keras.ops.subtract, tensor, mean)
    result = call.value(call.op(keras.ops.true_divide, centred, deviation), channels_last(rank))
    for key, parameter in (("scale", weight), ("shift", bias)):
        if parameter is not None:
            array = parameter.array.reshape(1, -1, *(1,) * (rank - 2))
            column = Constant(array, tuple(array.shape), parameter.name, parameter.trainable)
            result = affine(call, result, **{key: column})
    return result, None, None


@converts("instance_norm.default")
def instance_norm(
    call: Call,
    value: Value,
    weight: _Parameter,
    bias: _Parameter,
    mean: _Parameter,
    variance: _Parameter,
    use_input_statistics: bool,
    momentum: float,
    epsilon: float,
    cudnn: bool,
) -> Value:
    """GroupNormalization with a group per channel, unless running averages are used: then a BatchNormalization."""
    if not use_input_statistics:
        return batch_norm(call, value, weight, bias, mean, variance, momentum, epsilon)[0]
    return group_norm(call, value, static(value.shape[1]), weight, bias, epsilon, False)


@converts("group_norm.default")
def group_norm(
    call: Call, value: Value, groups: int, weight: _Parameter, bias: _Parameter, epsilon: float, cudnn: bool
) -> Value:
    """Group normalization over (N, C, *sizes), in `groups` groups of channels."""
    tensor = call.layer(
        layers.GroupNormalization,
        channels_last_tensor(call, value),
        groups=groups,
        epsilon=epsilon,
        center=bias is not None,
        scale=weight is not None,
        weights=[p.numpy for p in (weight, bias) if p is not None],
        parameters=[p.name for p in (weight, bias) if p is not None],
    )
    return call.value(tensor, channels_last(len(value.shape)))


@converts("native_group_norm.default")
def native_group_norm(
    call: Call, value: Value, weight: _Parameter, bias: _Parameter, n: int, c: int, hw: int, groups: int, epsilon: float
) -> tuple[Value, None, None]:
    """Group normalization; mean and reciprocal deviation, its further results, are not made."""
    return group_norm(call, value, groups, weight, bias, epsilon, False), None, None


@converts("layer_norm.default")
def layer_norm(
    call: Call,
    value: Value,
    shape: Sequence[int],
    weight: _Parameter,
    bias: _Parameter,
    epsilon: float,
    cudnn: bool = False,
) -> Value:
    """Over the last axes of PyTorch's order, wherever they are stored; weights are permuted to the stored order."""
    rank = len(value.shape)
    if call.layers_only and len(shape) > 1:
        # From HDF5, Keras 3.15 takes a list of axes for the last one alone: make them one.
        weight, bias = (p and Constant(p.array.reshape(-1), (), p.name, p.trainable) for p in (weight, bias))
        whole = view(call, Value(torch_tensor(call, value), value.shape, tuple(range(rank))),
                     (*value.shape[: -len(shape)], math.prod(shape)))  # fmt: skip
        return view(call, layer_norm(call, whole, [math.prod(shape)], weight, bias, epsilon), value.shape)
    torch_axes = range(rank - len(shape), rank)
    stored = [axis for axis in value.order if axis in torch_axes]
    axes = [value.order.index(axis) for axis in stored]
    permutation = [axis - (rank - len(shape)) for axis in stored]
    weights = [_array(p, shape).transpose(permutation) for p in (weight, bias) if p is not None]
    tensor = call.layer(
        layers.LayerNormalization,
        value.tensor,
        axis=axes[0] if len(axes) == 1 else axes,
        epsilon=epsilon,
        center=bias is not None,
        scale=weight is not None,
        weights=weights,
        parameters=[p.name for p in (weight, bias) if p is not None],
    )
    return value.like(tensor)


def _array(parameter: Constant, shape: Sequence[int]) -> np.ndarray:
    return np.broadcast_to(parameter.numpy, tuple(shape))


@converts("native_layer_norm.default")
def native_layer_norm(
    call: Call, value: Value, shape: Sequence[int], weight: _Parameter, bias: _Parameter, epsilon: float
) -> tuple[Value, None, None]:
    """Layer normalization; mean and reciprocal deviation, its further results, are not made."""
    return layer_norm(call, value, shape, weight, bias, epsilon), None, None


@converts("rms_norm.default")
def rms_norm(call: Call, value: Value, shape: Sequence[int], weight: _Parameter, epsilon: float | None) -> Value:
    """`x / sqrt(mean(x ** 2) + epsilon) * weight` over the last axis."""
    if len(shape) != 1:
        raise call.unsupported("it normalizes over several axes")
    size = shape[0]
    value = axis_last(call, value, -1)  # Keras 3.15 scales along the last axis whatever it normalizes over
    tensor = call.layer(
        layers.RMSNormalization,
        value.tensor,
        epsilon=float(np.finfo(np.dtype(call.dtype)).eps) if epsilon is None else epsilon,
        weights=[np.ones(size, call.dtype) if weight is None else weight.numpy],
        parameters=[weight and weight.name],
        trainable=weight is not None,
    )
    return value.like(tensor)
