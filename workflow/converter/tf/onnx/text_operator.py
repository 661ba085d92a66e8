"""tf2onnx's handler for lookups of texts. Importing this module registers it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import TensorProto
from tf2onnx import constants, tfonnx  # noqa: F401  (tfonnx registers the handlers that this one joins)
from tf2onnx.handler import tf_op

from converter.tf.onnx.text import STAND_IN, TextTables

if TYPE_CHECKING:
    from tf2onnx.graph import Graph, Node


@tf_op(STAND_IN)
class _TextLookup:
    @classmethod
    def version_8(cls, ctx: Graph, node: Node, initialized_tables: TextTables, **kwargs: object) -> None:
        """CategoryMapper, of opset 1 of ai.onnx.ml."""
        texts, numbers = initialized_tables[node.get_attr_value("num_buckets")]
        shapes = node.output_shapes
        ctx.remove_node(node.name)
        ctx.make_node(
            "CategoryMapper",
            [node.input[0]],
            name=node.name,
            outputs=node.output,
            attr={"cats_strings": list(texts), "cats_int64s": [int(n) for n in numbers], "default_int64": 0},
            domain=constants.AI_ONNX_ML_DOMAIN,
            shapes=shapes,
            dtypes=[TensorProto.INT64],
        )
