"""Weights behind a QuantizeLinear of their own, as the integers that it makes of them: a quarter of the bytes."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

__all__ = ["store_quantized_weights"]


def store_quantized_weights(model: onnx.ModelProto) -> None:
    """In place, where weight, scale and zero point are all values of the file's own graph."""
    graph = model.graph
    values = {tensor.name: tensor for tensor in graph.initializer}
    values |= {
        node.output[0]: node.attribute[0].t
        for node in graph.node
        if node.op_type == "Constant" and node.attribute[0].type == onnx.AttributeProto.TENSOR
    }
    done = []
    for node in graph.node:
        if node.op_type != "QuantizeLinear" or len(node.input) < 3 or not all(name in values for name in node.input):
            continue
        x, scale, zero = (numpy_helper.to_array(values[name]) for name in node.input)
        axis = next((entry.i for entry in node.attribute if entry.name == "axis"), 1)
        if scale.ndim:
            sizes = [-1 if place == axis % x.ndim else 1 for place in range(x.ndim)]
            scale, offset = scale.reshape(sizes), zero.reshape(sizes)
        else:
            offset = zero
        limits = np.iinfo(zero.dtype)
        # As ONNX defines it: halves to even, then within the range of the zero point's type.
        steps = np.clip(np.rint(x / scale) + offset.astype(np.float32), limits.min, limits.max)
        graph.initializer.append(numpy_helper.from_array(steps.astype(zero.dtype), node.output[0]))
        done.append(node)
    for node in done:
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    if done:
        for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
            graph.initializer.remove(tensor)
        for node in [node for node in graph.node if node.op_type == "Constant" and node.output[0] not in used]:
            graph.node.remove(node)
