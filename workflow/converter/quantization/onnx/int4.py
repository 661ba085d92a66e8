"""Weights of matrix products in 4 bits: DequantizeLinear with a scale for each block, ONNX's own since opset 21.

Everything else stays as it is: inputs, outputs and arithmetic are float32. Runtimes with a kernel for such products, as
onnxruntime has one, take the pair of operators for it (MatMulNBits); the others unfold the weights.
"""

from __future__ import annotations

from collections.abc import Collection

from onnx import ModelProto, NodeProto, helper, numpy_helper

from converter.onnx.core.graphs import FreshNames, Scope, replace_fields
from converter.onnx.simplify import remove_unused
from converter.quantization.onnx.graph import scopes, weight
from converter.quantization.onnx.weights import BLOCK, blocks_of, int4_tensor

__all__ = ["to_int4"]


def to_int4(model: ModelProto, keep_float: Collection[str] = ()) -> int:
    """Store the constant matrices of MatMul and Gemm in 4 bits, in place; how many. `keep_float`: names of nodes."""
    names, converted = FreshNames(model), 0
    for graph, scope in reversed(list(scopes(model.graph))):  # inner ones first: the nodes around them are copied
        nodes: list[NodeProto] = []
        made: dict[tuple[str, int], str] = {}
        for node in list(graph.node):
            axis = _summed_axis(node) if node.name not in keep_float else None
            if axis is not None and weight(scope, node.input[1], rank=2) is not None:
                key = node.input[1], axis
                if key not in made:
                    made[key] = _unfold(nodes, model, scope, node.input[1], axis, names)
                    converted += 1
                node.input[1] = made[key]
            nodes.append(node)
        if made:
            replace_fields(graph.node, nodes)
    remove_unused(model)
    return converted


def _summed_axis(node: NodeProto) -> int | None:
    """The axis of the second operand that a product sums over; None for what is no product of matrices."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in ("MatMul", "Gemm"):
        return None
    return int(any(attribute.name == "transB" and attribute.i for attribute in node.attribute))


def _unfold(nodes: list[NodeProto], model: ModelProto, scope: Scope, name: str, axis: int, names: FreshNames) -> str:
    """Store the matrix anew, with the operator that unfolds it at the end of `nodes`; the name of its result."""
    matrix = scope.constant(name)
    assert matrix is not None  # the caller asked
    integers, scales = blocks_of(matrix, axis)
    stored, scale, result = names(f"{name}_int4"), names(f"{name}_scale"), names(f"{name}_dequantized")
    model.graph.initializer.append(int4_tensor(integers, stored))
    model.graph.initializer.append(numpy_helper.from_array(scales, scale))
    nodes.append(
        helper.make_node(
            "DequantizeLinear",
            [stored, scale],
            [result],
            name=names(f"{name}_DequantizeLinear"),
            axis=axis,
            block_size=BLOCK,
        )
    )
    return result
