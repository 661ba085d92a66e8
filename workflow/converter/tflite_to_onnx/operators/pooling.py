"""Pooling: the largest, the mean or the root of the mean square of a window; what is padded does not count."""

from __future__ import annotations

from converter.errors import SourceError
from converter.tflite.flatbuffer import schema
from converter.tflite_to_onnx.core.registry import Call, operator
from converter.tflite_to_onnx.operators.convolution import channels_first, channels_last, padding


@operator("AVERAGE_POOL_2D", "L2_POOL_2D")
def _mean(call: Call) -> str:
    return _pooled(call, "AveragePool")


@operator("MAX_POOL_2D", moves=True)
def _largest(call: Call) -> str:
    return _pooled(call, "MaxPool")


def _pooled(call: Call, kind: str) -> str:
    options = call.options(schema.Pool2DOptionsT)
    if call.rank() != 4:
        raise SourceError(f"its operator {call.name} has an input of {call.rank()} axes, not 4")
    kernel, strides = [options.filterHeight, options.filterWidth], [options.strideH, options.strideW]
    pads = padding(call, options.padding, call.shape()[1:3], kernel, strides)
    if any(pad >= width for pad, width in zip(pads.get("pads", []), kernel * 2, strict=False)):
        raise call.refusal("has a window that is all padding")
    x = channels_first(call, call.real(), 2)
    if call.name == "L2_POOL_2D":
        x = call.node("Mul", x, x)
    y = call.node(kind, x, kernel_shape=kernel, strides=strides, **pads)
    if call.name == "L2_POOL_2D":
        y = call.node("Sqrt", y)
    return channels_last(call, call.activated(y, options.fusedActivationFunction), 2)
