"""From a hub's graph to the graph that tf2onnx gets: small weights inlined, large ones left as placeholders."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from converter.errors import UnsupportedError
from converter.hub.hub import Hub, TensorSpec
from converter.tf.graph.bicubic import expand_bicubic
from converter.tf.graph.bins import expand_bins
from converter.tf.graph.composites import FOR_ONNX, expand_composites
from converter.tf.graph.graph import (
    GraphDef,
    NodeDef,
    prune,
    redirect,
    split_tensor,
    tensor_name,
    unique_name,
)
from converter.tf.graph.spectra import without_complex
from converter.tf.onnx.deferred import INLINE_BYTES
from converter.tf.onnx.fold import fold_weights
from converter.tf.onnx.text import TextTables, map_texts

__all__ = ["PreparedGraph", "prepare_graph"]


@dataclass(frozen=True)
class PreparedGraph:
    """inputs, outputs: one tensor ("x:0") for each of the hub's, all different. weights: by name of their Placeholder.

    tables: of the texts that it looks up.
    """

    graph_def: GraphDef
    inputs: list[str]
    outputs: list[str]
    weights: dict[str, np.ndarray]
    tables: TextTables = field(default_factory=dict)

    def operators(self) -> set[str]:
        """Names of all operators of the graph and of its functions."""
        bodies = [self.graph_def.node, *(function.node_def for function in self.graph_def.library.function)]
        return {node.op for body in bodies for node in body}


def prepare_graph(hub: Hub) -> PreparedGraph:
    """The hub's graph, optimized by grappler as tf2onnx's own command line does it.

    Raises UnsupportedError for a graph that computes in bfloat16.
    """
    graph_def = GraphDef.FromString(hub.graph_path.read_bytes())
    graph_def = without_complex(graph_def) or graph_def
    _refuse_bfloat16(graph_def)
    expand_composites(graph_def, FOR_ONNX)
    expand_bins(graph_def)
    expand_bicubic(graph_def)
    tables = map_texts(graph_def)
    inputs = _input_placeholders(graph_def, hub.inputs)
    outputs = _output_nodes(graph_def, hub.outputs)
    graph_def = prune(graph_def, outputs, inputs)
    weights = _inline_small_weights(graph_def, hub, inputs)
    if weights:
        fold_weights(graph_def, weights, outputs)
        graph_def = prune(graph_def, outputs, inputs)
    tensors_in, tensors_out = [f"{name}:0" for name in inputs], [f"{name}:0" for name in outputs]
    graph_def = _optimize(graph_def, tensors_in, tensors_out, weights)
    # Grappler's order of nodes changes from run to run.
    graph_def = prune(graph_def, outputs, inputs)
    present = {node.name for node in graph_def.node}
    weights = {name: array for name, array in weights.items() if name in present}
    return PreparedGraph(graph_def, tensors_in, tensors_out, weights, tables)


def _refuse_bfloat16(graph_def: GraphDef) -> None:
    """tf2onnx 1.17 declares such tensors float16 and leaves their constants bfloat16, which no runtime accepts."""
    bodies = [graph_def.node, *(function.node_def for function in graph_def.library.function)]
    for node in (node for body in bodies for node in body):
        if any(value.type == tf.bfloat16.as_datatype_enum for value in node.attr.values()):
            raise UnsupportedError(
                f"the model computes in bfloat16 (node {node.name}), which cannot be written as ONNX: "
                "save it with the float32 dtype policy"
            )


def _optimize(graph_def: GraphDef, inputs: list[str], outputs: list[str], weights: Iterable[str]) -> GraphDef:
    """Grappler (TensorFlow 2.21) allocates a tensor for every Placeholder of a known shape: weights pass as another operator
    that has a shape and no value.
    """
    from tf2onnx.tf_loader import tf_optimize

    weights = set(weights)
    _change_operator(graph_def, weights, "ImmutableConst")
    with tf.Graph().as_default():
        graph_def = tf_optimize(inputs, outputs, graph_def)
    _change_operator(graph_def, weights, "Placeholder")
    return graph_def


def _change_operator(graph_def: GraphDef, names: set[str], operator: str) -> None:
    for node in graph_def.node:
        if node.name in names:
            node.op = operator
            node.attr["memory_region_name"].s = b"weights"
            if operator == "Placeholder":
                del node.attr["memory_region_name"]


def _input_placeholders(graph_def: GraphDef, specs: list[TensorSpec]) -> list[str]:
    """Names of one Placeholder per input, with the shape that the hub states; other nodes that are fed get one."""
    nodes = {node.name: node for node in graph_def.node}
    names = []
    for spec in specs:
        name, index = split_tensor(spec.tensor or spec.name)
        node = nodes[name]
        if node.op != "Placeholder":
            dtype = tf.as_dtype(spec.dtype).as_datatype_enum
            node = graph_def.node.add(name=unique_name(f"{name}_fed", nodes), op="Placeholder")
            node.attr["dtype"].type = dtype
            nodes[node.name] = node
            redirect(graph_def, tensor_name(name, index), node.name)
        node.attr["shape"].shape.CopyFrom(tf.TensorShape(spec.shape).as_proto())
        names.append(node.name)
    return names


def _output_nodes(graph_def: GraphDef, specs: list[TensorSpec]) -> list[str]:
    """Names of one Identity per output: an output may be an input, a weight, or the same tensor as another output."""
    taken = {node.name for node in graph_def.node}
    names = []
    for spec in specs:
        name, index = split_tensor(spec.tensor or spec.name)
        identity = NodeDef(name=unique_name(f"{name}_result", taken), op="Identity", input=[tensor_name(name, index)])
        identity.attr["T"].type = tf.as_dtype(spec.dtype).as_datatype_enum
        graph_def.node.append(identity)
        taken.add(identity.name)
        names.append(identity.name)
    return names


def _inline_small_weights(graph_def: GraphDef, hub: Hub, inputs: list[str]) -> dict[str, np.ndarray]:
    """Turn placeholders of small weights into Const nodes, in place; returns the large ones, mapped from the file."""
    stored, large = hub.weights(), {}
    for node in graph_def.node:
        if node.op != "Placeholder" or node.name in inputs or node.name not in stored:
            continue
        if stored.nbytes(node.name) > INLINE_BYTES:
            large[node.name] = stored[node.name]
            continue
        value = tf.make_tensor_proto(stored[node.name])
        dtype = node.attr["dtype"].type
        node.op = "Const"
        node.ClearField("attr")
        node.attr["dtype"].type = dtype
        node.attr["value"].tensor.CopyFrom(value)
    return large
