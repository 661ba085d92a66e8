"""TensorFlow hub to Protobuf: the graph with its weights as constants, or with its variables and no weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import tensorflow as tf

from converter.contracts import ExportJob, ExportResult
from converter.errors import UnsupportedError
from converter.hub.hub import Hub
from converter.tf.graph.graph import node_name, split_tensor, tensor_name, unique_name
from converter.tf.graph.graph_bytes import read_graph, write_graph
from converter.verification.runtimes import GraphDefModel
from converter.verification.verify import verify

__all__ = ["export", "with_variables"]


def export(hub: Hub, job: ExportJob, staged: Path) -> ExportResult:
    """Stream the graph to `staged`. Raises UnsupportedError above protobuf's 2 GB, and for resources."""
    if resources := hub.extra.get("resources"):
        raise UnsupportedError(
            f"the model reads {', '.join(resources)}, resources whose contents no graph file holds: "
            "keep the SavedModel, or export the part of the model behind them"
        )
    graph_def = read_graph(hub.graph_path)
    weights = hub.weights()
    # In the file a tensor is known by its node alone: "scores" rather than "scores:0".
    inputs = [replace(spec, name=spec.tensor.removesuffix(":0")) for spec in hub.inputs]
    outputs = [replace(spec, name=spec.tensor.removesuffix(":0")) for spec in hub.outputs]
    if not job.frozen:
        variables = [name for name in hub.extra.get("variables", []) if name in weights]
        graph_def = with_variables(graph_def, variables)
        write_graph(staged, graph_def, {name: weights[name] for name in weights if name not in set(variables)})
        reason = (
            f"frozen is false: the file holds the graph and its {len(variables)} variables, and none of their values"
        )
        return ExportResult(["export_protobuf"], inputs, outputs, None, unverified_reason=reason)
    write_graph(staged, graph_def, weights)
    model = GraphDefModel(staged, [spec.tensor for spec in inputs], [spec.tensor for spec in outputs])
    verification = verify(outputs, hub.reference(), model.run, job.tolerance, runtime=model.name)
    return ExportResult(["export_protobuf"], inputs, outputs, verification)


def with_variables(graph_def: tf.compat.v1.GraphDef, names: Sequence[str]) -> tf.compat.v1.GraphDef:
    """A copy in which the Placeholders `names` are resource variables (VarHandleOp of that name) and reads of them.

    The variable's shared name is its node's name, so that a session, or a checkpoint by that name, can fill it.
    """
    variables = set(names)
    result = tf.compat.v1.GraphDef()
    result.CopyFrom(graph_def)
    taken = {node.name for node in graph_def.node}
    reads: dict[str, str] = {}
    for node in graph_def.node:
        if node.name in variables:
            reads[node.name] = unique_name(f"{node.name}/Read/ReadVariableOp", taken)
            taken.add(reads[node.name])
    del result.node[:]
    for node in graph_def.node:
        copied = result.node.add()
        copied.CopyFrom(node)
        if node.name in reads:
            _variable(copied, result.node.add(), reads[node.name])
            continue
        for position, source in enumerate(copied.input):
            if node_name(source) in reads:
                prefix = "^" if source.startswith("^") else ""
                copied.input[position] = prefix + tensor_name(reads[node_name(source)], split_tensor(source)[1])
    return result


def _variable(node: tf.compat.v1.NodeDef, read: tf.compat.v1.NodeDef, read_name: str) -> None:
    """Make the Placeholder `node` a variable's handle, and the new node `read` its value."""
    node.op = "VarHandleOp"
    node.attr["shared_name"].s = node.name.encode()
    node.attr["container"].s = b""
    read.name, read.op = read_name, "ReadVariableOp"
    read.input.append(node.name)
    read.attr["dtype"].type = node.attr["dtype"].type
