"""Dynamic range quantization of a TensorFlow Lite model: int8 weights, float inputs and outputs, ranges taken at run time."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from converter.tflite.flatbuffer import constant, dequantize_code, is_constant, operator_name, read, schema

__all__ = ["quantize_weights"]

_SMALL = 1024  # elements of a table that is not worth an operator more


def quantize_weights(path: Path, keep_float: Sequence[str] = ()) -> schema.ModelT:
    """The float model at `path` with int8 weights, per channel where the kernels take that.

    By ai-edge-quantizer (0.10), on the file: TensorFlow's converter does it on the graph, with all weights inside. It
    knows no GATHER, so embedding tables are done here.
    `keep_float`: names of the (first) outputs of operators that keep float weights.
    """
    import re

    from ai_edge_quantizer import qtyping, quantizer, recipe

    quantizing = quantizer.Quantizer(str(path))
    quantizing.load_quantization_recipe(recipe.dynamic_wi8_afp32())
    for name in keep_float:
        quantizing.update_quantization_recipe(
            regex=f"^{re.escape(name)};",  # it searches the outputs' names, each with a semicolon behind it
            operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
            algorithm_key=quantizer.AlgorithmName.NO_QUANTIZE,
        )
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):  # progress bars
        content = quantizing.quantize().quantized_model
    assert content is not None  # it raises where it makes none
    model = read(bytes(content))
    for subgraph in model.subgraphs:
        _quantize_tables(model, subgraph, set(keep_float))
    return model


def _quantize_tables(model: schema.ModelT, subgraph: schema.SubGraphT, kept: set[str]) -> None:
    """Store the tables of GATHER as int8, symmetric, with one scale; what is gathered is dequantized behind it."""
    for operator in list(subgraph.operators or []):
        if operator_name(model, operator) != "GATHER":
            continue
        table = subgraph.tensors[operator.inputs[0]]
        users = [other for other in subgraph.operators if operator.inputs[0] in other.inputs]
        if (
            table.type != schema.TensorType.FLOAT32
            or not is_constant(model, table)
            or np.prod(table.shape) < _SMALL
            or len(users) > 1
            or subgraph.tensors[operator.outputs[0]].name.decode() in kept
        ):
            continue
        value = constant(model, table)
        scale = float(np.abs(value).max()) / 127 or 1.0
        buffer = schema.BufferT()
        buffer.data = np.clip(np.rint(value / np.float32(scale)), -127, 127).astype(np.int8)
        table.buffer = len(model.buffers)
        model.buffers.append(buffer)
        table.type, table.quantization = schema.TensorType.INT8, _symmetric(scale)
        _dequantize_result(model, subgraph, operator, scale)


def _dequantize_result(
    model: schema.ModelT, subgraph: schema.SubGraphT, operator: schema.OperatorT, scale: float
) -> None:
    result = int(operator.outputs[0])
    original = subgraph.tensors[result]
    gathered = schema.TensorT()
    gathered.name, gathered.hasRank = original.name + b"_int8", original.hasRank
    gathered.shape, gathered.shapeSignature = original.shape, original.shapeSignature
    gathered.type, gathered.quantization, gathered.buffer = schema.TensorType.INT8, _symmetric(scale), 0
    subgraph.tensors.append(gathered)
    operator.outputs = [len(subgraph.tensors) - 1]
    back = schema.OperatorT()
    back.opcodeIndex, back.inputs, back.outputs = dequantize_code(model, 2), operator.outputs, [result]
    back.builtinOptionsType = schema.BuiltinOptions.DequantizeOptions
    back.builtinOptions = schema.DequantizeOptionsT()
    subgraph.operators.insert(subgraph.operators.index(operator) + 1, back)


def _symmetric(scale: float) -> schema.QuantizationParametersT:
    parameters = schema.QuantizationParametersT()
    parameters.scale, parameters.zeroPoint = [scale], [0]
    return parameters
