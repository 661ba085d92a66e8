"""Transposed convolutions: the whole result without padding, cropped as PyTorch's padding says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from keras import layers

from converter.torch_to_keras.call import Call
from converter.torch_to_keras.layout import channels_last_tensor
from converter.torch_to_keras.padding import crop, zero_pad
from converter.torch_to_keras.parameter_layers import affine
from converter.torch_to_keras.registry import converts
from converter.torch_to_keras.slicing import slice_axis
from converter.torch_to_keras.values import Constant, KerasTensor, Value, channels_last

__all__ = ["transposed_convolution"]

_TRANSPOSE = {1: layers.Conv1DTranspose, 2: layers.Conv2DTranspose, 3: layers.Conv3DTranspose}


@converts("conv_transpose1d.default", "conv_transpose2d.input", "conv_transpose3d.input")
def transposed_convolution(
    call: Call,
    value: Value,
    weight: Constant,
    bias: Constant | None,
    stride: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    groups: int,
    dilation: Sequence[int],
) -> Value:
    """Transposed convolution of (N, C, *sizes); weight (C, O / groups, *kernel), PyTorch's order."""
    if not isinstance(weight, Constant) or isinstance(bias, Value):
        raise call.unsupported("its weights depend on the inputs")
    rank = weight.array.dim() - 2
    if len(value.shape) != rank + 2:
        raise call.unsupported("its input has no batch")
    stride, padding, output_padding, dilation = (
        tuple(numbers) * rank if len(numbers) == 1 else tuple(numbers)
        for numbers in (stride, padding, output_padding, dilation)
    )
    # (in, out / groups, *size) as PyTorch has it; Keras has (*size, out / groups, in).
    kernel = np.moveaxis(weight.numpy, (0, 1), (-1, -2))
    if max(dilation) > 1 and max(stride) > 1:
        kernel, dilation = _dilated(kernel, dilation), (1,) * rank
    # More output padding than padding adds results that only the bias reaches: it is added after them.
    late_bias = any(extra > p for extra, p in zip(output_padding, padding, strict=True))
    config = {
        "kernel_size": kernel.shape[:rank],
        "strides": stride,
        "dilation_rate": dilation,
        "use_bias": bias is not None and not late_bias,
    }
    if groups == 1:
        biases = [bias.numpy] if config["use_bias"] else []
        tensor = call.layer(
            _TRANSPOSE[rank],
            channels_last_tensor(call, value),
            filters=kernel.shape[-2],
            weights=[kernel, *biases],
            parameters=[weight.name, bias and bias.name],
            **config,
        )
    else:
        tensor = _grouped(call, value, kernel, bias, groups, rank, config, weight.name)
    margins = [(p, p - extra) for p, extra in zip(padding, output_padding, strict=True)]
    tensor = crop(call, tensor, [(max(a, 0), max(b, 0)) for a, b in margins])
    tensor = zero_pad(call, tensor, [(0, max(-b, 0)) for _, b in margins])
    result = call.value(tensor, channels_last(rank + 2))
    if bias is not None and late_bias:
        shape = (1, -1, *(1,) * rank)
        result = affine(call, result, shift=Constant(bias.array.reshape(shape), (), bias.name, bias.trainable))
    return result


def _dilated(kernel: np.ndarray, dilation: Sequence[int]) -> np.ndarray:
    """The kernel with zeros between: Keras refuses dilation together with strides."""
    sizes = [d * (size - 1) + 1 for d, size in zip(dilation, kernel.shape, strict=False)]
    wide = np.zeros((*sizes, *kernel.shape[-2:]), kernel.dtype)
    wide[tuple(slice(None, None, d) for d in dilation)] = kernel
    return wide


def _grouped(
    call: Call,
    value: Value,
    kernel: np.ndarray,
    bias: Constant | None,
    groups: int,
    rank: int,
    config: dict,
    name: str | None,
) -> KerasTensor:
    """One layer per group: Keras's transposed convolutions have no groups."""
    ordered = Value(channels_last_tensor(call, value), value.shape, channels_last(rank + 2))
    each, out = kernel.shape[-1] // groups, kernel.shape[-2]
    tensors = []
    for group in range(groups):
        part = slice_axis(call, ordered, 1, group * each, (group + 1) * each)
        biases = [bias.numpy[group * out : (group + 1) * out]] if config["use_bias"] else []
        weights = [kernel[..., group * each : (group + 1) * each], *biases]
        unique = call.name(f"group{group}", name)
        tensors.append(call.layer(_TRANSPOSE[rank], part.tensor, filters=out, weights=weights, name=unique, **config))
    return call.layer(layers.Concatenate, tensors, axis=-1)
