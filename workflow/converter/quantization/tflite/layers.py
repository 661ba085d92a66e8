"""Layers of a TensorFlow Lite model: its operators with a float result."""

from __future__ import annotations

import re
from collections.abc import Sequence

from converter.quantization.layers import Layer
from converter.tflite.flatbuffer import TENSOR_DTYPES, operators, schema

__all__ = ["layers", "still_quantized"]

# They convert, or choose and move values: nothing that could stay in float.
_NO_ARITHMETIC = ("QUANTIZE", "DEQUANTIZE", "SHAPE", "RANK", "CALL_ONCE")


def layers(model: schema.ModelT) -> list[Layer]:
    """The operators with a float result, by the names of their first outputs, in order of execution."""
    found = []
    for subgraph, operator, name in operators(model):
        results = [subgraph.tensors[index] for index in operator.outputs]
        if name not in _NO_ARITHMETIC and any(TENSOR_DTYPES[tensor.type] == "float32" for tensor in results):
            found.append(Layer(results[0].name.decode(), name))
    return found


def still_quantized(model: schema.ModelT, kept: Sequence[Layer]) -> list[Layer]:
    """Those of `kept` that a quantized model computes, or whose weights it holds, in integers all the same."""
    found = []
    for layer in kept:
        same = [
            (subgraph, operator)
            for subgraph, operator, name in operators(model)
            # The quantizer numbers the result where a QUANTIZE behind it takes the layer's name.
            if name == layer.type
            and re.fullmatch(rf"{re.escape(layer.name)}\d*", subgraph.tensors[operator.outputs[0]].name.decode())
        ]
        if same and not any(_is_float(subgraph, operator) for subgraph, operator in same):
            found.append(layer)
    return found


def _is_float(subgraph: schema.SubGraphT, operator: schema.OperatorT) -> bool:
    used = [subgraph.tensors[index] for index in [*operator.inputs, *operator.outputs] if index >= 0]
    dtypes = {TENSOR_DTYPES[tensor.type] for tensor in used}
    return "float32" in dtypes and not dtypes & {"int8", "uint8", "int16"}
