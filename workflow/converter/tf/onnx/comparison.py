"""Handlers for tf2onnx of comparisons in the operands' own type.

tf2onnx 1.17 compares integers as float32, to which 16777217 and 16777216 are the same number, and below opset 11 it tests
floats for equality as int32, to which 0.3 and 0 are. Registered when imported, in the place of tf2onnx's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import tf2onnx.tfonnx  # noqa: F401  (registers its own handlers, which these replace)
from onnx import TensorProto
from tf2onnx import utils
from tf2onnx.handler import tf_op
from tf2onnx.onnx_opset import logical

if TYPE_CHECKING:
    from tf2onnx.graph import Graph, Node

_FLOATS = [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE]


def _replace(ctx: Graph, node: Node, operator: str, inputs: list[str], negated: bool = False) -> None:
    """An operator of ONNX in the place of the node, and its negation where that is asked for."""
    shapes, dtypes, outputs, name = node.output_shapes, node.output_dtypes, list(node.output), node.name
    ctx.remove_node(name)
    if negated:
        inputs, operator = [ctx.make_node(operator, inputs, op_name_scope=name).output[0]], "Not"
    ctx.make_node(operator, inputs, name=name, outputs=outputs, shapes=shapes, dtypes=dtypes)


def _widen(ctx: Graph, node: Node, wide: int) -> None:
    """Casts what is no float to `wide`, which holds all values: int64 too, since tf2onnx makes such of loops' counters later."""
    dtype = ctx.get_dtype(node.input[0])
    utils.make_sure(dtype != TensorProto.UINT64, "uint64 cannot be compared in ONNX (node %s)", node.name)
    logical._add_cast_to_inputs(ctx, node, _FLOATS, wide)


def _negate_opposite(ctx: Graph, node: Node) -> None:
    """a <= b as not a > b, since ONNX has no such operator below opset 12; with a NaN, of which neither holds, false."""
    a, b = node.input
    opposite, name = "Less" if node.type == "GreaterEqual" else "Greater", node.name
    unlike = [ctx.make_node(opposite, [a, b], op_name_scope=name).output[0], *_not_numbers(ctx, node)]
    while len(unlike) > 2:
        unlike[:2] = [ctx.make_node("Or", unlike[:2], op_name_scope=name).output[0]]
    if len(unlike) == 1:
        shapes, dtypes, outputs = node.output_shapes, node.output_dtypes, list(node.output)
        ctx.remove_node(name)
        ctx.make_node("Not", unlike, name=name, outputs=outputs, shapes=shapes, dtypes=dtypes)
    else:
        _replace(ctx, node, "Or", unlike, negated=True)


def _not_numbers(ctx: Graph, node: Node) -> list[str]:
    """For each operand that may hold a NaN, where it does; opsets 7 and 8 have nothing that knows a NaN."""
    found = []
    for tensor, source in zip(node.input, node.inputs, strict=False):
        is_number = source.is_const() and not np.isnan(source.get_tensor_value(as_list=False)).any()
        if ctx.opset >= 9 and ctx.get_dtype(tensor) in _FLOATS and not is_number:
            found.append(ctx.make_node("IsNaN", [tensor], op_name_scope=node.name).output[0])
    return found


@tf_op(["Greater", "Less"])
class _Order:
    @classmethod
    def version_7(cls, ctx: Graph, node: Node, **kwargs: object) -> None:
        _widen(ctx, node, TensorProto.DOUBLE)

    @classmethod
    def version_9(cls, ctx: Graph, node: Node, **kwargs: object) -> None:
        _widen(ctx, node, TensorProto.INT64)


@tf_op(["GreaterEqual", "LessEqual"])
class _OrderOrEqual:
    @classmethod
    def version_7(cls, ctx: Graph, node: Node, **kwargs: object) -> None:
        _widen(ctx, node, TensorProto.DOUBLE)
        _negate_opposite(ctx, node)

    @classmethod
    def version_9(cls, ctx: Graph, node: Node, **kwargs: object) -> None:
        _widen(ctx, node, TensorProto.INT64)
        _negate_opposite(ctx, node)


@tf_op(["Equal", "NotEqual"])
class _Equality:
    @classmethod
    def version_7(cls, ctx: Graph, node: Node, **kwargs: object) -> None:
        a, b = node.input[:2]
        if ctx.get_dtype(a) not in _FLOATS or a == b:
            logical.Equal.version_7(ctx, node, **kwargs)
            return
        # Neither less nor greater, nor a NaN, which is neither.
        different = [
            ctx.make_node(operator, [a, b], op_name_scope=node.name).output[0] for operator in ("Less", "Greater")
        ]
        different += _not_numbers(ctx, node)
        while len(different) > 2:
            different[:2] = [ctx.make_node("Or", different[:2], op_name_scope=node.name).output[0]]
        _replace(ctx, node, "Or", different, negated=node.type == "Equal")
