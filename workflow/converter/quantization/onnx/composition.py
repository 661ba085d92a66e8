"""Is a quantized ONNX file what its name says? Read from the file, not from what was asked for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from converter.errors import UnsupportedError
from converter.onnx.core.graphs import STANDARD, Scope, inner_graphs
from converter.quantization.onnx.graph import SMALL, add_types, is_float, scopes
from converter.wording import counted, listed

__all__ = ["Composition", "check", "composition", "integer_nodes"]

# They convert, read no values, or hold operators: not arithmetic in float.
_NO_ARITHMETIC = {
    *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast", "CastLike", "Constant", "Shape", "Size"),
    *("ConstantOfShape", "Range", "If", "Loop", "Scan"),
}
# They move values, or pick some, and compute nothing.
_MOVING = {
    *("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Gather", "GatherND", "GatherElements"),
    *(
        "Identity",
        "Split",
        "Expand",
        "Tile",
        "DepthToSpace",
        "SpaceToDepth",
        "Concat",
        "Compress",
        "ReverseSequence",
        "Pad",
    ),
}
_LEAST_IN_BLOCKS = 0.1  # of the weights, for a file to be one of 4 bits
_INTEGER = {"MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv"}
# onnxruntime and others compute them within the operator in front.
_FUSED = {"Relu", "Clip"}


@dataclass
class Composition:
    """What a file is made of. `constants`: bytes by dtype; operators: how many compute on float values, and on integers."""

    inputs: list[int]
    outputs: list[int]
    constants: Counter[str] = field(default_factory=Counter)
    large_float_constants: list[str] = field(default_factory=list)
    float_operators: Counter[str] = field(default_factory=Counter)
    integer_operators: Counter[str] = field(default_factory=Counter)


def composition(model: ModelProto) -> Composition:
    """What an ONNX file is made of, over all its graphs; the types of its values are noted in it.

    Operators of integers are those that multiply integers, and those whose first operand is a dequantized value.
    """
    add_types(model)
    found = Composition(
        [value.type.tensor_type.elem_type for value in model.graph.input],
        [value.type.tensor_type.elem_type for value in model.graph.output],
    )
    for graph, scope in scopes(model.graph):
        _constants(graph, found)
        _operators(graph, scope, found)
    return found


def _constants(graph: GraphProto, found: Composition) -> None:
    quantizers = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    scales = {name for node in quantizers for name in node.input[1:]}
    held = [(tensor.name, tensor) for tensor in graph.initializer if tensor.name not in scales]
    for node in graph.node:
        if node.op_type == "Constant":
            held += [(node.output[0], attribute.t) for attribute in node.attribute if attribute.name == "value"]
    for name, tensor in held:
        size = int(np.prod(tensor.dims, dtype=np.int64))
        if not tensor.dims:
            continue
        dtype = TensorProto.DataType.Name(tensor.data_type).lower()
        dtype = {"float": "float32", "double": "float64"}.get(dtype, dtype)
        bits = 4 if dtype in ("int4", "uint4") else 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        found.constants[dtype] += size * bits // 8
        if dtype == "float32" and len(tensor.dims) > 1 and size >= SMALL:  # biases aside
            found.large_float_constants.append(name)


def _operators(graph: GraphProto, scope: Scope, found: Composition) -> None:
    integers = integer_nodes(graph)
    for node in graph.node:
        if node.op_type in _NO_ARITHMETIC or inner_graphs(node):
            continue
        if node.name in integers:
            found.integer_operators[_name(node)] += 1
        elif node.op_type not in _MOVING and any(is_float(scope, name) for name in (*node.input, *node.output)):
            found.float_operators[_name(node)] += 1


def integer_nodes(graph: GraphProto) -> dict[str, NodeProto]:
    """By name, the nodes of a graph that multiply integers, that take dequantized values and weights and whose result is
    quantized, or that are an activation behind such a one. Runtimes compute these in integers where they have a kernel.
    """
    makers = {name: node for node in graph.node for name in node.output if name}
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    weights = {tensor.name for tensor in graph.initializer if np.prod(tensor.dims) >= SMALL and len(tensor.dims) > 1}
    found: dict[str, NodeProto] = {}
    for node in graph.node:
        first = makers.get(node.input[0]) if node.input else None
        if (
            node.op_type in _INTEGER
            or (node.op_type in _FUSED and first is not None and first.name in found)
            or (
                node.op_type not in _NO_ARITHMETIC
                and first is not None
                and first.op_type == "DequantizeLinear"
                and not weights.intersection(node.input)
                and _is_quantized(node.output[0], readers)
            )
        ):
            found[node.name] = node
    return found


def _is_quantized(name: str, readers: dict[str, list[NodeProto]]) -> bool:
    """Whether integers are made of a value, directly or behind an activation."""
    behind = readers.get(name, [])
    return any(reader.op_type == "QuantizeLinear" for reader in behind) or any(
        reader.op_type in _FUSED and _is_quantized(reader.output[0], readers) for reader in behind
    )


def _name(node: NodeProto) -> str:
    return node.op_type if node.domain in STANDARD else f"{node.domain}.{node.op_type}"


def check(model: ModelProto, kind: str, float_model: Composition) -> list[str]:
    """Notes for the report; raises UnsupportedError where the file is not of its kind.

    kind: float16, dynamic, integer or blocks. float_model: what the float file is made of, whose inputs and outputs it keeps.
    """
    found = composition(model)
    if (found.inputs, found.outputs) != (float_model.inputs, float_model.outputs):
        raise UnsupportedError(
            "the quantizer changed the types of inputs or outputs: ask for a .float16.onnx or .dynamic.onnx file"
        )
    if kind == "integer":
        return _check_integer(found, float_model)
    if not float_model.constants["float32"]:
        return ["the model has no float weights: the file is as without quantization"]
    return {"float16": _check_float16, "dynamic": _check_dynamic, "blocks": _check_blocks}[kind](found)


def _check_float16(found: Composition) -> list[str]:
    if not found.constants["float16"]:
        raise UnsupportedError(
            "no weight of the model can be kept in float16 (values beyond 65504, or operators that need float32): ask for "
            "a .onnx file without a suffix"
        )
    names = listed(found.large_float_constants)
    return [f"weights that stay float32, as float16 or its operators cannot hold them: {names}"] if names else []


def _check_dynamic(found: Composition) -> list[str]:
    names = listed(found.large_float_constants)
    if not found.constants["int8"]:
        raise UnsupportedError(
            "no weight of the model belongs to an operator that int8 weights are made for"
            f"{f' ({names})' if names else ''}: ask for a .float16.onnx file"
        )
    reason = "as no int8 weights are made for their operators or they are in keep_float"
    return [f"weights that stay float32, {reason}: {names}"] if names else []


def _check_blocks(found: Composition) -> list[str]:
    names = listed(found.large_float_constants)
    if not found.constants["int4"]:
        raise UnsupportedError(
            "the model has no product with a matrix of constants (MatMul, Gemm), whose weights 4 bits are made for"
            f"{f' ({names})' if names else ''}: ask for a .float16.onnx file"
        )
    in_blocks, in_float = 2 * found.constants["int4"], found.constants["float32"] // 4
    if in_blocks < _LEAST_IN_BLOCKS * (in_blocks + in_float):
        raise UnsupportedError(
            f"of the model's weights {in_blocks / (in_blocks + in_float):.1%} belong to products with matrices, which 4 bits "
            f"are for (others are {names}): ask for a .dynamic.onnx or .int8.onnx file"
        )
    return [f"weights that stay float32, as 4 bits are for products with matrices: {names}"] if names else []


def _check_integer(found: Composition, float_model: Composition) -> list[str]:
    left = counted(found.float_operators)
    if not found.integer_operators or (float_model.large_float_constants and not found.constants["int8"]):
        raise UnsupportedError(
            f"no operator of the model can be computed in integers ({left}): ask for a .float16.onnx or "
            ".dynamic.onnx file"
        )
    return [f"operators left in float: {left}"] if found.float_operators else []
