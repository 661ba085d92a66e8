"""How large the numbers fed to an input may be: the rows of the tables it looks up."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from converter.hub.hub import TensorSpec
from converter.tf.graph.graph import GraphDef, NodeDef, canonical, node_name

__all__ = ["find_vocabulary", "inputs_behind"]

# What may stand between an input and the indices of a gather without making new numbers of them: changes of shape and
# type, and what Keras wraps around (negative indices counted from the end, masked entries).
_CARRIES = frozenset(
    {
        *(
            "Cast",
            "Identity",
            "Reshape",
            "ExpandDims",
            "Squeeze",
            "Transpose",
            "StridedSlice",
            "Slice",
            "Pack",
            "Unpack",
        ),
        *(
            "ConcatV2",
            "Tile",
            "SelectV2",
            "Select",
            "AddV2",
            "Add",
            "StopGradient",
            "BroadcastTo",
            "PlaceholderWithDefault",
        ),
        *(
            "Maximum",
            "Minimum",
            "ClipByValue",
            "Split",
            "SplitV",
            "ReverseV2",
            "GatherV2",
            "Pad",
            "PadV2",
            "EnsureShape",
        ),
    }
)


def find_vocabulary(graph_def: GraphDef, inputs: Sequence[TensorSpec]) -> dict[str, int]:
    """For each input that indexes a table (a float input too, where it is cast to integers): the rows of the smallest one.

    A depth of OneHot counts as a table's rows.
    """
    nodes = {node.name: node for node in graph_def.node}
    bounds: dict[str, int] = {}
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        for node in graph_def.node:
            rows = _rows(graph, nodes, node)
            if rows is None:
                continue
            indices = node.input[0] if node.op == "OneHot" else node.input[1]
            for name in inputs_behind(nodes, indices, inputs):
                bounds[name] = min(rows, bounds.get(name, rows))
    return bounds


def _rows(graph: tf.Graph, nodes: dict[str, NodeDef], node: NodeDef) -> int | None:
    operation = None
    if node.op in ("GatherV2", "Gather"):
        operation = graph.get_operation_by_name(node.name)
        axis = tf.get_static_value(operation.inputs[2]) if node.op == "GatherV2" else 0
        shape = operation.inputs[0].shape
        if axis == 0 and shape.rank and node.attr["batch_dims"].i == 0 and _is_table(nodes, node.input[0]):
            return shape[0]
    if node.op == "OneHot":
        depth = tf.get_static_value(graph.get_operation_by_name(node.name).inputs[1])
        return None if depth is None else int(depth)
    return None


def _is_table(nodes: dict[str, NodeDef], source: str) -> bool:
    """Whether a tensor is a weight or a constant: gathers from a computed tensor say nothing about an input's range."""
    node = nodes[node_name(source)]
    while node.op in ("Identity", "Cast"):
        node = nodes[node_name(node.input[0])]
    return node.op in ("Placeholder", "Const")


def inputs_behind(nodes: dict[str, NodeDef], indices: str, inputs: Sequence[TensorSpec]) -> list[str]:
    """The names of the inputs that reach `indices` through ops that carry numbers on."""
    by_node = {node_name(spec.tensor): spec.name for spec in inputs}
    found, seen, pending = set(), set(), [node_name(canonical(indices))]
    while pending:
        name = pending.pop()
        if name in seen or name not in nodes:
            continue
        seen.add(name)
        if name in by_node:
            found.add(by_node[name])
        elif nodes[name].op in _CARRIES:
            pending += [node_name(source) for source in nodes[name].input if not source.startswith("^")]
    return sorted(found)
