"""Non-maximum suppression for the TFLite converter, whose kernel pads its indices to max_output_size.

The converter (TensorFlow 2.21) turns NonMaxSuppressionV3, which hands out as many as it chose, into that kernel and drops
the count: behind the chosen ones come zeros, so that box 0 is found again and again. Written as NonMaxSuppressionV4, padded,
and a slice of the chosen ones, it comes out right.
"""

from __future__ import annotations

import tensorflow as tf

from converter.tf.graph.dense_steps import NodeWriter, become
from converter.tf.graph.graph import GraphDef, tensor_name

__all__ = ["pad_non_max_suppressions"]


def pad_non_max_suppressions(graph_def: GraphDef) -> None:
    """Rewrite, in place, every NonMaxSuppressionV3 of the graph; its functions, which TF1 does not have, stay as they are."""
    writer = NodeWriter(graph_def.node)
    for node in [node for node in graph_def.node if node.op == "NonMaxSuppressionV3"]:
        data = [source for source in node.input if not source.startswith("^")]
        writer.after = data[0].partition(":")[0]
        padded = writer.add(f"{node.name}/padded", "NonMaxSuppressionV4", data, **_types(node))
        writer.by_name[padded].attr["pad_to_max_output_size"].b = True
        first = writer.constant(f"{node.name}/first", [0])
        axis = writer.constant(f"{node.name}/axis", 0)
        count = writer.add(
            f"{node.name}/count", "ExpandDims", [tensor_name(padded, 1), axis], T=tf.int32, Tdim=tf.int32
        )
        become(node, "Slice", [padded, first, count], T=tf.int32, Index=tf.int32)


def _types(node: tf.compat.v1.NodeDef) -> dict[str, tf.DType]:
    return {key: tf.dtypes.as_dtype(node.attr[key].type) for key in ("T", "T_threshold")}
