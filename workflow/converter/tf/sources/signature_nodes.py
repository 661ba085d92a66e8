"""Which tensors `input_nodes` and `output_nodes` name in a SavedModel: those of the signature, or any of its graph."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from converter.errors import ParameterError, nearest
from converter.hub.hub import TensorSpec
from converter.tf.graph.graph import GraphDef, node_name, split_tensor
from converter.tf.sources.endpoints import needed_placeholders
from converter.tf.sources.training_flags import PLACEHOLDERS

__all__ = ["choose", "keep_needed", "nodes_by_name"]

# What TensorFlow calls a call of a function, in front of the names of the function's nodes once they are inlined.
_CALLS = re.compile(r"^((Stateful)?PartitionedCall(_\d+)*(_call(_\d+)*)?/)+")
# Nodes that a user hardly means: near names are not looked for among them.
_UNLIKELY = re.compile(
    r"^(Const|NoOp|Identity(N)?|ReadVariableOp|Placeholder|VarHandleOp|Shape|Pack|StridedSlice|Cast)$"
)
_LAYERS_END = re.compile(r"^(Softmax|Sigmoid|ArgMax|BiasAdd|Tanh|LogSoftmax|Relu6?)$")
_LISTED = 6


def nodes_by_name(graph_def: GraphDef) -> dict[str, str]:
    """The graph's nodes by the names that a user may write: their own, and, where that is one node's alone, without the
    calls of functions that stand in front ("StatefulPartitionedCall/net/dense/Relu": "net/dense/Relu").
    """
    short: dict[str, list[str]] = {}
    for node in graph_def.node:
        short.setdefault(_CALLS.sub("", node.name), []).append(node.name)
    names = {name: nodes[0] for name, nodes in short.items() if len(nodes) == 1}
    return names | {node.name: node.name for node in graph_def.node}


def choose(
    keys: Sequence[TensorSpec], names: Sequence[str], parameter: str, graph_def: GraphDef, nodes: Mapping[str, str]
) -> list[TensorSpec]:
    """The tensors that a user names, in the user's order; all of `keys`, the signature's, when nothing is named.

    A name is a key of the signature, or one of `nodes` ("x", "top:1"), whose shape and dtype are left open. Raises
    ParameterError with candidates for others.
    """
    if not names:
        return list(keys)
    by_key = {spec.name: spec for spec in keys}
    chosen = []
    for name in names:
        node, index = split_tensor(name)
        if name in by_key:
            chosen.append(by_key[name])
        elif node in nodes:
            chosen.append(TensorSpec(name, None, "", f"{nodes[node]}:{index}"))
        else:
            likely = {word for word, full in nodes.items() if full in _likely(graph_def)}
            close = nearest(name, [*by_key, *sorted(likely)])
            hint = f"did you mean {' or '.join(close)}; " if close else ""
            raise ParameterError(
                f"{parameter}: the graph has no node {name}; {hint}candidates are {', '.join([*by_key, *_ends(graph_def)])}"
            )
    return chosen


def _likely(graph_def: GraphDef) -> set[str]:
    return {node.name for node in graph_def.node if not _UNLIKELY.match(node.op)}


def _ends(graph_def: GraphDef) -> list[str]:
    """What the last layers compute."""
    ends = [_CALLS.sub("", node.name) for node in graph_def.node if _LAYERS_END.match(node.op)]
    return list(dict.fromkeys(ends))[-_LISTED:]


def keep_needed(
    graph_def: GraphDef,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    constants: Iterable[str] = (),
    *,
    order: bool = True,
) -> list[TensorSpec]:
    """The inputs of a signature without the placeholders that the chosen outputs do not depend on; all where none is left.

    order: as for `needed_placeholders`.
    """
    needed = {node.name for node in needed_placeholders(graph_def, outputs, dict.fromkeys(constants), order=order)}
    placeholders = {node.name for node in graph_def.node if node.op in PLACEHOLDERS}
    kept = [spec for spec in inputs if (name := node_name(spec.tensor)) in needed or name not in placeholders]
    return kept or list(inputs)
