"""Convolutions: Conv1D/2D/3D, or DepthwiseConv where each channel has its own filters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from keras import layers

from converter.torch_to_keras.call import Call
from converter.torch_to_keras.convolution_transposed import transposed_convolution
from converter.torch_to_keras.layout import channels_last_tensor, view
from converter.torch_to_keras.padding import zero_pad
from converter.torch_to_keras.registry import converts
from converter.torch_to_keras.values import Constant, KerasTensor, Value, channels_last

__all__ = ["each_axis"]

_CONV = {1: layers.Conv1D, 2: layers.Conv2D, 3: layers.Conv3D}
_DEPTHWISE = {1: layers.DepthwiseConv1D, 2: layers.DepthwiseConv2D}
_EVERY_NTH = {1: layers.MaxPooling1D, 2: layers.MaxPooling2D, 3: layers.MaxPooling3D}


def each_axis(numbers: int | Sequence[int], rank: int) -> tuple[int, ...]:
    """One number per spatial axis; PyTorch lets a single one stand for all."""
    numbers = [numbers] if isinstance(numbers, int) else list(numbers)
    return tuple(numbers * rank if len(numbers) == 1 else numbers)


@converts("conv1d.default", "conv2d.default", "conv3d.default", "conv1d.padding", "conv2d.padding", "conv3d.padding")
def convolution(
    call: Call,
    value: Value,
    weight: Constant,
    bias: Constant | None,
    stride: Sequence[int],
    padding: Sequence[int] | str,
    dilation: Sequence[int],
    groups: int,
) -> Value:
    if not isinstance(weight, Constant) or isinstance(bias, Value):
        raise call.unsupported("its weights depend on the inputs")
    rank = weight.array.dim() - 2
    stride, dilation = each_axis(stride, rank), each_axis(dilation, rank)
    spans = [d * (size - 1) for d, size in zip(dilation, weight.array.shape[2:], strict=True)]
    if padding == "same":
        margins = [(span // 2, span - span // 2) for span in spans]
    else:
        margins = [(p, p) for p in each_axis(0 if padding == "valid" else padding, rank)]
    batched = len(value.shape) == rank + 2
    if not batched:
        value = view(call, value, (1, *value.shape))
    tensor = channels_last_tensor(call, value)
    # Keras's "same" pads as PyTorch does only where it need not know the input's size.
    same = all(s == 1 for s in stride) and margins == [(span // 2, span - span // 2) for span in spans]
    if not same:
        tensor = zero_pad(call, tensor, margins)
    tensor = _layer(call, tensor, weight, bias, stride, dilation, groups, "same" if same and any(spans) else "valid")
    if batched:
        return call.value(tensor, channels_last(rank + 2))
    result = Value(tensor, (1, *call.shape), channels_last(rank + 2))
    return view(call, result, call.shape)


def _layer(
    call: Call,
    tensor: KerasTensor,
    weight: Constant,
    bias: Constant | None,
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    padding: str,
) -> KerasTensor:
    """weight: (out, in / groups, *size) as PyTorch has it; Keras has (*size, in / groups, out)."""
    rank, out = len(stride), weight.array.shape[0]
    channels = weight.array.shape[1] * groups
    kernel = np.moveaxis(weight.numpy, (0, 1), (-1, -2))
    # Keras refuses strides together with dilation, and its depthwise kernels want equal strides: every n-th result of
    # the convolution without strides is the same.
    every_nth = max(stride) > 1 and max(dilation) > 1
    if every_nth:
        stride, every = (1,) * rank, stride
    config = {
        "kernel_size": tuple(weight.array.shape[2:]),
        "strides": stride,
        "padding": padding,
        "dilation_rate": dilation,
        "use_bias": bias is not None,
        "parameters": [weight.name, bias and bias.name],
    }
    biases = [] if bias is None else [bias.numpy]
    depthwise = groups == channels > 1 and rank in _DEPTHWISE and len(set(stride)) == 1
    if depthwise:
        # (*size, 1, in * m) to (*size, in, m): PyTorch numbers results by channel first, as Keras does.
        kernel = kernel.reshape(*kernel.shape[:-2], channels, out // channels)
        if rank == 1:
            config |= {key: config[key][0] for key in ("kernel_size", "strides", "dilation_rate")}
        cls, config = _DEPTHWISE[rank], config | {"depth_multiplier": out // channels}
    else:
        cls, config = _CONV[rank], config | {"filters": out, "groups": groups}
    tensor = call.layer(cls, tensor, weights=[kernel, *biases], **config)
    if every_nth:
        tensor = call.layer(_EVERY_NTH[rank], tensor, pool_size=1, strides=every)
    return tensor


@converts("convolution.default")
def general_convolution(
    call: Call,
    value: Value,
    weight: Constant,
    bias: Constant | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Value:
    """What every convolution is in a program that was decomposed before."""
    if transposed:
        return transposed_convolution(call, value, weight, bias, stride, padding, output_padding, groups, dilation)
    return convolution(call, value, weight, bias, stride, padding, dilation, groups)
