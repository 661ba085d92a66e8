"""Convolutions: channels-last with weights (O, H, W, I) in TensorFlow Lite, channels-first with (O, I, H, W) in ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from converter.errors import SourceError
from converter.tflite.flatbuffer import schema
from converter.tflite_to_onnx.core.registry import Call, operator

__all__ = ["channels_first", "channels_last", "padding"]


def channels_first(call: Call, name: str, axes: int) -> str:
    """(N, ..., C) as (N, C, ...); axes: how many there are in space."""
    return call.graph.transpose(name, (0, axes + 1, *range(1, axes + 1)))


def channels_last(call: Call, name: str, axes: int) -> str:
    """(N, C, ...) as (N, ..., C)."""
    return call.graph.transpose(name, (0, *range(2, axes + 2), 1))


def padding(
    call: Call,
    code: int,
    sizes: Sequence[int | None],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Attributes for SAME or VALID padding of axes of these sizes; SAME pads the end more where the sides differ."""
    dilations = [1] * len(kernel) if dilations is None else dilations
    if min(*kernel, *strides, *dilations) < 1:
        raise SourceError(f"its operator {call.name} has a kernel, stride or dilation below 1")
    if code == schema.Padding.VALID:
        return {}
    if code != schema.Padding.SAME:
        raise SourceError(f"its operator {call.name} has the unknown padding {code}")
    totals = []
    for size, width, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        reach = (width - 1) * dilation + 1
        if stride == 1:
            totals.append(reach - 1)  # whatever the size
        elif size is not None:
            totals.append(max((-(-size // stride) - 1) * stride + reach - size, 0))
        elif dilation == 1:
            return {"auto_pad": "SAME_UPPER"}
        else:
            raise call.refusal("pads an axis of free size with stride and dilation, which ONNX cannot")
    begins = [total // 2 for total in totals]
    pads = [*begins, *(total - before for total, before in zip(totals, begins, strict=True))]
    return {"pads": pads} if any(pads) else {}


def _check_axes(call: Call, position: int, axes: int) -> None:
    if call.rank(position) != axes + 2:
        raise SourceError(f"its operator {call.name} has an input of {call.rank(position)} axes, not {axes + 2}")


def _known(call: Call, dims: Sequence[int | None]) -> list[int]:
    found = [dim for dim in dims if dim is not None]
    if len(found) != len(dims) or 0 in found:
        raise call.refusal("has channels or weights of a free or empty size")
    return found


@operator("CONV_2D", "CONV_3D")
def _conv(call: Call) -> str:
    if call.name == "CONV_2D":
        options, axes, perm = call.options(schema.Conv2DOptionsT), 2, (0, 3, 1, 2)
    else:
        options, axes, perm = call.options(schema.Conv3DOptionsT), 3, (4, 3, 0, 1, 2)  # weights (D, H, W, I, O)
    _check_axes(call, 0, axes)
    _check_axes(call, 1, axes)
    weights = _known(call, call.shape(1))
    _, inner, *kernel = (weights[place] for place in perm)
    (channels,) = _known(call, call.hint(0)[-1:])
    if channels % inner:
        raise SourceError(f"its operator {call.name} has {channels} channels, and weights for {inner}")
    return _convolved(call, options, axes, call.weights(1, perm), kernel, channels // inner)


@operator("DEPTHWISE_CONV_2D")
def _depthwise(call: Call) -> str:
    _check_axes(call, 0, 2)
    _check_axes(call, 1, 2)
    one, *kernel, outer = _known(call, call.shape(1))
    (channels,) = _known(call, call.hint(0)[-1:])
    if one != 1 or outer % channels:
        raise SourceError(f"its operator DEPTHWISE_CONV_2D has {channels} channels, and weights for {outer}")
    options = call.options(schema.DepthwiseConv2DOptionsT)
    return _convolved(call, options, 2, call.weights(1, (3, 0, 1, 2)), kernel, channels)


def _convolved(call: Call, options: Any, axes: int, weights: str, kernel: Sequence[int], group: int) -> str:
    strides, dilations = _of_axes(options, "stride", axes), _of_axes(options, "dilation", axes)
    bias = call.bias(2)
    y = call.node(
        "Conv",
        channels_first(call, call.real(0), axes),
        weights,
        *([] if bias is None else [bias]),
        kernel_shape=list(kernel),
        strides=strides,
        dilations=dilations if max(dilations) > 1 else None,
        group=group,
        **padding(call, options.padding, call.shape(0)[1:-1], kernel, strides, dilations),
    )
    return channels_last(call, call.activated(y, options.fusedActivationFunction), axes)


def _of_axes(options: Any, name: str, axes: int) -> list[int]:
    suffix = "Factor" if name == "dilation" else ""
    return [int(getattr(options, f"{name}{axis}{suffix}")) for axis in "DHW"[-axes:]]


@operator("TRANSPOSE_CONV", "CONV_3D_TRANSPOSE")
def _transposed(call: Call) -> str:
    if call.name == "TRANSPOSE_CONV":
        options, axes, perm = call.options(schema.TransposeConvOptionsT), 2, (3, 0, 1, 2)
    else:
        options, axes, perm = call.options(schema.Conv3DOptionsT), 3, (4, 3, 0, 1, 2)  # weights (D, H, W, O, I)
        if max(_of_axes(options, "dilation", axes)) > 1:
            raise call.refusal("has dilations")
    _check_axes(call, 1, axes)
    _check_axes(call, 2, axes)
    weights = _known(call, call.shape(1))
    kernel, strides = [weights[place] for place in perm[2:]], _of_axes(options, "stride", axes)
    valid = padding(call, options.padding, [None] * axes, kernel, [1] * axes) == {} and options.padding != 0
    begins, ends, extra = [], [], []
    sizes = zip(call.shape(2)[1:-1], _output_sizes(call, axes), kernel, strides, strict=True)
    for size, out, width, stride in sizes:
        if stride < 1:
            raise SourceError(f"its operator {call.name} has a stride below 1")
        if size is None or out is None:
            # What every writer of such files asks for: the sizes that the forward convolution halves, or reaches.
            total = 0 if valid and width >= stride else width - stride
        else:
            total = (size - 1) * stride + width - out
        begin = 0 if valid else max(total, 0) // 2
        begins.append(begin)
        ends.append(max(total, 0) - begin)
        extra.append(max(-total, 0))
        if extra[-1] >= stride:
            raise call.refusal("asks for an output larger than its kernel reaches")
    bias = call.bias(3)
    y = call.node(
        "ConvTranspose",
        channels_first(call, call.real(2), axes),
        call.weights(1, perm),
        *([] if bias is None else [bias]),
        kernel_shape=kernel,
        strides=strides,
        pads=[*begins, *ends],
        output_padding=extra if any(extra) else None,
    )
    return channels_last(call, call.activated(y, options.fusedActivationFunction), axes)


def _output_sizes(call: Call, axes: int) -> list[int | None]:
    array = call.input(0).array
    if array is None:
        return list(call.output().shape[1:-1]) if len(call.output().shape) == axes + 2 else [None] * axes
    if array.size != axes + 2:
        raise SourceError(f"its operator {call.name} asks for {array.size} sizes, not {axes + 2}")
    return [int(size) for size in array[1:-1]]
