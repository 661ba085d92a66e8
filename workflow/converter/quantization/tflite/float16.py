"""Weights of a TensorFlow Lite model as float16: half the size, float inputs, outputs and arithmetic."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from converter.tflite.flatbuffer import TENSOR_DTYPES, constant, dequantize_code, is_constant, schema

__all__ = ["to_float16"]

_VERSION = 3  # of DEQUANTIZE, the first that takes float16
_LARGEST = float(np.finfo(np.float16).max)


def to_float16(model: schema.ModelT, keep_float: Collection[str] = ()) -> int:
    """Store the float32 constants as float16, each with a DEQUANTIZE before its users, in place. Returns how many.

    `keep_float`: names of the (first) outputs of operators whose constants stay as they are.

    This is the form that TensorFlow's converter writes, and that LiteRT and its delegates unfold when they load it.
    Scalars stay (an epsilon of 1e-12 would become 0), and so do arrays with values beyond float16's range.
    """
    opcode = None
    converted = 0
    for subgraph in model.subgraphs:
        operators = []
        for index in _constants_in_use(model, subgraph, keep_float):
            tensor = subgraph.tensors[index]
            value = constant(model, tensor)
            if value.size < 2 or np.abs(value).max() > _LARGEST:
                continue
            opcode = dequantize_code(model, _VERSION) if opcode is None else opcode
            operators.append(_stored_as_half(model, subgraph, index, value, opcode))
            converted += 1
        subgraph.operators = [*operators, *(subgraph.operators or [])]
    return converted


def _constants_in_use(model: schema.ModelT, subgraph: schema.SubGraphT, keep_float: Collection[str]) -> list[int]:
    used, kept = {int(index) for index in subgraph.outputs}, set()
    for operator in subgraph.operators or []:
        is_kept = subgraph.tensors[operator.outputs[0]].name.decode() in keep_float if len(operator.outputs) else False
        (kept if is_kept else used).update(int(index) for index in operator.inputs if index >= 0)
    used -= kept
    tensors = subgraph.tensors
    return [
        index
        for index in sorted(used)
        if TENSOR_DTYPES[tensors[index].type] == "float32"
        and is_constant(model, tensors[index])
        and not tensors[index].isVariable
    ]


def _stored_as_half(
    model: schema.ModelT, subgraph: schema.SubGraphT, index: int, value: np.ndarray, opcode: int
) -> schema.OperatorT:
    """Move the constant to a new float16 tensor; the old one becomes the result of the operator returned."""
    tensor = subgraph.tensors[index]
    buffer = schema.BufferT()
    buffer.data = value.astype(np.float16)
    half = schema.TensorT()
    half.name, half.shape, half.hasRank = tensor.name + b"_float16", tensor.shape, tensor.hasRank
    half.type, half.buffer = schema.TensorType.FLOAT16, len(model.buffers)
    model.buffers.append(buffer)
    subgraph.tensors.append(half)
    tensor.buffer = 0
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = opcode, [len(subgraph.tensors) - 1], [index]
    operator.builtinOptionsType = schema.BuiltinOptions.DequantizeOptions
    operator.builtinOptions = schema.DequantizeOptionsT()
    return operator
