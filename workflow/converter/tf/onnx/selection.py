"""Handlers for tf2onnx of selections by integers that would count from the end, or pass through floats.

In TensorFlow an index of one_hot below zero selects nothing; in ONNX it counts from the end. tf2onnx 1.17 looks for the
largest integers among float32 numbers, and adds what is chosen to zero times what is not, which is NaN for an infinity.
Registered when imported, in the place of tf2onnx's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import tf2onnx.tfonnx  # noqa: F401  (registers its own handlers, which these replace)
from onnx import TensorProto
from onnx.helper import tensor_dtype_to_np_dtype
from tf2onnx import utils
from tf2onnx.graph_builder import GraphBuilder
from tf2onnx.handler import tf_op
from tf2onnx.onnx_opset import controlflow, tensor

if TYPE_CHECKING:
    from tf2onnx.graph import Graph, Node

_INTEGERS = {TensorProto.INT32, TensorProto.INT64}


def _one_hot(ctx: Graph, node: Node) -> None:
    """Indices below zero become one that is too large, which selects nothing in ONNX either."""
    dtype = ctx.get_dtype(node.input[0])
    if dtype not in _INTEGERS or ctx.get_dtype(node.input[2]) != TensorProto.FLOAT:
        return

    def constant(value: int) -> str:
        array = np.array(value, tensor_dtype_to_np_dtype(dtype))
        return ctx.make_const(utils.make_name(f"{node.name}/constant"), array).output[0]

    negative = ctx.make_node("Less", [node.input[0], constant(0)], op_name_scope=node.name).output[0]
    nothing = constant(np.iinfo(np.int32).max)
    indices = ctx.make_node("Where", [negative, nothing, node.input[0]], op_name_scope=node.name).output[0]
    ctx.replace_input(node, node.input[0], indices, 0)


@tf_op("OneHot")
class _OneHot:
    @classmethod
    def version_9(cls, ctx: Graph, node: Node, **kwargs: object) -> None:
        _one_hot(ctx, node)
        tensor.OneHot.version_9(ctx, node, **kwargs)

    @classmethod
    def version_11(cls, ctx: Graph, node: Node, **kwargs: object) -> None:
        _one_hot(ctx, node)
        tensor.OneHot.version_11(ctx, node, **kwargs)

    @classmethod
    def version_13(cls, ctx: Graph, node: Node, **kwargs: object) -> None:
        _one_hot(ctx, node)
        tensor.OneHot.version_13(ctx, node, **kwargs)


def _top_k(ctx: Graph, node: Node, **kwargs: object) -> None:
    if node.output_dtypes[0] not in _INTEGERS:
        tensor.TopKV2.version_11(ctx, node, **kwargs)
        return
    count = ctx.make_node("Cast", [node.input[1]], attr={"to": TensorProto.INT64}, op_name_scope=node.name)
    count = GraphBuilder(ctx).make_unsqueeze({"data": count.output[0], "axes": [0]})
    ctx.replace_input(node, node.input[1], count, 1)
    dtype = node.output_dtypes[1]
    narrowed = ctx.insert_new_node_on_output("Cast", node.output[1], name=utils.make_name(node.name), to=dtype)
    ctx.set_dtype(narrowed.output[0], dtype)
    ctx.copy_shape(node.output[1], narrowed.output[0])
    ctx.set_dtype(node.output[1], TensorProto.INT64)


@tf_op("TopKV2", onnx_op="TopK")
class _TopK:
    @classmethod
    def version_10(cls, ctx: Graph, node: Node, **kwargs: object) -> None:
        utils.make_sure(node.output_dtypes[0] not in _INTEGERS, "the largest integers need opset 11")
        tensor.TopKV2.version_10(ctx, node, **kwargs)

    @classmethod
    def version_11(cls, ctx: Graph, node: Node, **kwargs: object) -> None:
        _top_k(ctx, node, **kwargs)

    @classmethod
    def version_13(cls, ctx: Graph, node: Node, **kwargs: object) -> None:
        _top_k(ctx, node, **kwargs)


@tf_op(["Select", "SelectV2"])
class _Select:
    @classmethod
    def version_7(cls, ctx: Graph, node: Node, **kwargs: object) -> None:
        controlflow.Select.version_7(ctx, node, **kwargs)

    @classmethod
    def version_9(cls, ctx: Graph, node: Node, **kwargs: object) -> None:
        if ctx.get_dtype(node.output[0]) in (TensorProto.FLOAT, TensorProto.DOUBLE):
            node.set_attr("handles_nan", True)  # by Where
        controlflow.Select.version_9(ctx, node, **kwargs)
