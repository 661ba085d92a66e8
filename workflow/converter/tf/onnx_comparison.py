"""Handlers for tf2onnx of comparisons in the operands' own type.

tf2onnx 1.17 compares integers as float32, to which 16777217 and 16777216 are the same number, and below opset 11 it tests
floats for equality as int32, to which 0.3 and 0 are. Registered when imported, in the place of tf2onnx's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import tf2onnx.tfonnx  # noqa: F401  (registers its own handlers, which these replace)
from onnx import TensorProto
from tf2onnx.handler import tf_op
from tf2onnx.onnx_opset import logical

if TYPE_CHECKING:
    from tf2onnx.graph import Graph, Node

_FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE}
_NARROW = {TensorProto.INT8, TensorProto.INT16, TensorProto.UINT8, TensorProto.UINT16}
_WIDE = {TensorProto.INT32, TensorProto.INT64}


def _replace(ctx: Graph, node: Node, operator: str, inputs: list[str], negated: bool = False) -> None:
    """An operator of ONNX in the place of the node, and its negation where that is asked for."""
    shapes, dtypes, outputs, name = node.output_shapes, node.output_dtypes, list(node.output), node.name
    ctx.remove_node(name)
    if negated:
        inputs, operator = [ctx.make_node(operator, inputs, op_name_scope=name).output[0]], "Not"
    ctx.make_node(operator, inputs, name=name, outputs=outputs, shapes=shapes, dtypes=dtypes)


def _as_integers(ctx: Graph, node: Node) -> list[str] | None:
    """The operands where they are integers that onnxruntime 1.32 compares, narrow ones as int32; else None."""
    dtype = ctx.get_dtype(node.input[0])
    if dtype in _NARROW:
        return [
            ctx.make_node("Cast", [source], attr={"to": TensorProto.INT32}, op_name_scope=node.name).output[0]
            for source in node.input
        ]
    return list(node.input) if dtype in _WIDE else None


@tf_op(["Greater", "Less"])
class _Order:
    @classmethod
    def version_9(cls, ctx: Graph, node: Node, **kwargs: object) -> None:
        operands = _as_integers(ctx, node)
        if operands is None:
            logical.GreaterLess.version_7(ctx, node, **kwargs)
        else:
            _replace(ctx, node, node.type, operands)


@tf_op(["GreaterEqual", "LessEqual"])
class _OrderOrEqual:
    @classmethod
    def version_9(cls, ctx: Graph, node: Node, **kwargs: object) -> None:
        operands = _as_integers(ctx, node)
        if operands is None:
            logical.GreaterLessEqual.version_7(ctx, node, **kwargs)
        else:
            _replace(ctx, node, "Less" if node.type == "GreaterEqual" else "Greater", operands, negated=True)


@tf_op(["Equal", "NotEqual"])
class _Equality:
    @classmethod
    def version_7(cls, ctx: Graph, node: Node, **kwargs: object) -> None:
        a, b = node.input[:2]
        if ctx.get_dtype(a) not in _FLOATS or a == b:
            logical.Equal.version_7(ctx, node, **kwargs)
            return
        # Neither less nor greater, nor a NaN, which is neither; opsets 7 and 8 have nothing that knows a NaN.
        different = [
            ctx.make_node(operator, [a, b], op_name_scope=node.name).output[0] for operator in ("Less", "Greater")
        ]
        for tensor, source in zip((a, b), node.inputs, strict=False):
            is_number = source.is_const() and not np.isnan(source.get_tensor_value(as_list=False)).any()
            if ctx.opset >= 9 and not is_number:
                different.append(ctx.make_node("IsNaN", [tensor], op_name_scope=node.name).output[0])
        while len(different) > 2:
            different[:2] = [ctx.make_node("Or", different[:2], op_name_scope=node.name).output[0]]
        _replace(ctx, node, "Or", different, negated=node.type == "Equal")
