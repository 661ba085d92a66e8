"""Comparisons that tf2onnx 1.17 writes wrong: it casts whole numbers to float32, and, below opset 11, floats to int32.

2**24 and 2**24 + 1 then are equal, and so are 0.2 and 0.7. Importing this module replaces its handlers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import TensorProto
from tf2onnx import tfonnx, utils  # noqa: F401  (tfonnx registers the handlers that are replaced here)
from tf2onnx.handler import tf_op
from tf2onnx.onnx_opset.logical import _add_cast_to_inputs

if TYPE_CHECKING:
    from tf2onnx.graph import Graph, Node

_FLOATS = [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE]
_INTEGERS = [TensorProto.INT32, TensorProto.INT64]


def _comparable(context: Graph, node: Node, wide: int) -> None:
    """Casts what is no float to `wide`, which holds all values: int64 too, since tf2onnx makes such of loops' counters later."""
    dtype = context.get_dtype(node.input[0])
    utils.make_sure(dtype != TensorProto.UINT64, "uint64 cannot be compared in ONNX (node %s)", node.name)
    _add_cast_to_inputs(context, node, _FLOATS, wide)


def _negated(context: Graph, node: Node) -> None:
    """a <= b as not a > b, which ONNX has below opset 12; NaN, of which neither holds, is looked for in floats."""
    a, b = node.input
    output, node_type = node.output[0], "Less" if node.type == "GreaterEqual" else "Greater"
    is_float = context.get_dtype(a) in _FLOATS
    shapes, dtypes = node.output_shapes, node.output_dtypes
    context.remove_node(node.name)
    compared = context.make_node(node_type, [a, b])
    result = context.make_node("Not", compared.output)
    for side in (a, b) if is_float else ():
        number = context.make_node("Not", context.make_node("IsNaN", [side]).output)
        result = context.make_node("And", [result.output[0], number.output[0]])
    context.make_node("Identity", result.output, name=node.name, outputs=[output], shapes=shapes, dtypes=dtypes)


@tf_op(["Greater", "Less"])
class _Strict:
    @classmethod
    def version_7(cls, ctx: Graph, node: Node, **kwargs: object) -> None:
        _comparable(ctx, node, TensorProto.DOUBLE)

    @classmethod
    def version_9(cls, ctx: Graph, node: Node, **kwargs: object) -> None:
        _comparable(ctx, node, TensorProto.INT64)


@tf_op(["GreaterEqual", "LessEqual"])
class _WithEqual:
    @classmethod
    def version_7(cls, ctx: Graph, node: Node, **kwargs: object) -> None:
        _comparable(ctx, node, TensorProto.DOUBLE)
        _negated(ctx, node)

    @classmethod
    def version_9(cls, ctx: Graph, node: Node, **kwargs: object) -> None:
        _comparable(ctx, node, TensorProto.INT64)
        _negated(ctx, node)


@tf_op(["Equal", "NotEqual"])
class _Equality:
    @classmethod
    def version_7(cls, ctx: Graph, node: Node, **kwargs: object) -> None:
        if node.type == "NotEqual" and node.input[0] == node.input[1]:
            node.type = "IsNaN"
            ctx.replace_inputs(node, [node.input[0]])
            return
        is_float = ctx.get_dtype(node.input[0]) in _FLOATS
        utils.make_sure(not is_float, "floats cannot be compared for equality below opset 11 (node %s)", node.name)
        _add_cast_to_inputs(ctx, node, [TensorProto.BOOL, *_INTEGERS], TensorProto.INT64)
        if node.type == "NotEqual":
            node.type = "Equal"
            result = ctx.insert_new_node_on_output("Not", node.output[0], name=utils.make_name(node.name))
            ctx.copy_shape(node.output[0], result.output[0])
            ctx.copy_dtype(node.output[0], result.output[0])
