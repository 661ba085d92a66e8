"""Conditionals whose predicate is known are replaced by the branch taken.

A training graph tests its flag in `tf.cond`: Switch and Merge nodes in TF1, an If node since. With the flag set, one
branch (batch statistics, dropout) is dead, and neither TFLite nor ONNX should have to carry it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from converter.tf.graph.graph import GraphDef, NodeDef, canonical, node_name, split_tensor, topological, unique_name

__all__ = ["fold_conditionals"]

_EVALUATED: dict[str, Callable[..., np.ndarray]] = {
    "Identity": lambda x: x,
    "StopGradient": lambda x: x,
    "Squeeze": lambda x: x,
    "LogicalNot": np.logical_not,
    "LogicalAnd": np.logical_and,
    "LogicalOr": np.logical_or,
    "Equal": np.equal,
    "NotEqual": np.not_equal,
    "Greater": np.greater,
    "GreaterEqual": np.greater_equal,
    "Less": np.less,
    "LessEqual": np.less_equal,
}


def fold_conditionals(graph_def: GraphDef) -> bool:
    """Fold, in place, If, Switch and Merge nodes of the main graph whose predicate is constant. Returns whether any was.

    An If becomes a PartitionedCall of its branch, to be inlined; dead nodes are unreachable afterwards, to be pruned.
    """
    nodes = {node.name: node for node in graph_def.node}
    order = [nodes[name] for name in topological(nodes, list(nodes))]
    known = _known_scalars(order)
    folded = _fold_ifs(order, known)
    return _fold_switches(graph_def, order, known) or folded


def _known_scalars(order: list[NodeDef]) -> dict[str, np.ndarray]:
    """Values of the scalars that follow from constants, by node name."""
    known: dict[str, np.ndarray] = {}
    for node in order:
        if node.op == "Const":
            proto = node.attr["value"].tensor
            if not proto.tensor_shape.dim and proto.dtype != tf.string.as_datatype_enum:
                known[node.name] = tf.make_ndarray(proto)
        elif node.op == "Cast" and node.input[0] in known:
            known[node.name] = known[node.input[0]].astype(tf.as_dtype(node.attr["DstT"].type).as_numpy_dtype)
        elif node.op in _EVALUATED:
            data = [canonical(source) for source in node.input if not source.startswith("^")]
            if data and all(source in known for source in data):
                known[node.name] = np.asarray(_EVALUATED[node.op](*(known[source] for source in data)))
    return known


def _fold_ifs(order: list[NodeDef], known: dict[str, np.ndarray]) -> bool:
    folded = False
    for node in order:
        if node.op not in ("If", "StatelessIf") or canonical(node.input[0]) not in known:
            continue
        taken = bool(known[canonical(node.input[0])])
        branch, inputs = node.attr["then_branch" if taken else "else_branch"].func.name, list(node.input[1:])
        stateless = node.op == "StatelessIf"
        types_in, types_out = list(node.attr["Tin"].list.type), list(node.attr["Tout"].list.type)
        name = node.name
        node.Clear()
        node.name, node.op = name, "PartitionedCall" if stateless else "StatefulPartitionedCall"
        node.input.extend(inputs)
        node.attr["Tin"].list.type.extend(types_in)
        node.attr["Tin"].list.SetInParent()
        node.attr["Tout"].list.type.extend(types_out)
        node.attr["Tout"].list.SetInParent()
        node.attr["f"].func.name = branch
        folded = True
    return folded


def _fold_switches(graph_def: GraphDef, order: list[NodeDef], known: dict[str, np.ndarray]) -> bool:
    """Redirect what reads a decided Switch to its data, and what reads its Merge to the branch that lives."""
    aliases: dict[str, str] = {}  # output of a decided node -> what it stands for
    dead: set[str] = set()
    taken: dict[str, bool] = {}
    for node in order:
        if node.op in ("Switch", "RefSwitch") and canonical(node.input[1]) in known:
            taken[node.name] = bool(known[canonical(node.input[1])])
            alive, gone = (1, 0) if taken[node.name] else (0, 1)
            aliases[_output(node.name, alive)] = node.input[0]
            dead.add(_output(node.name, gone))
    if not taken:
        return False
    dead_nodes = _dead_nodes(order, dead)
    names = {node.name for node in graph_def.node}
    for node in order:
        if node.op not in ("Merge", "RefMerge") or node.name in dead_nodes:
            continue
        data = [source for source in node.input if not source.startswith("^")]
        alive = [place for place, source in enumerate(data) if not _is_dead(source, dead, dead_nodes)]
        if len(alive) == 1 and len(data) > 1:
            (place,) = alive
            # The second output says which input came; hardly any graph asks.
            index = graph_def.node.add()
            index.name, index.op = unique_name(f"{node.name}/value_index", names), "Const"
            index.attr["dtype"].type = tf.int32.as_datatype_enum
            index.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(place, tf.int32))
            names.add(index.name)
            aliases[f"{node.name}:1"] = index.name
            _make_identity(node, data[place])

    def resolve(source: str) -> str:
        source = canonical(source)
        while source in aliases:
            source = canonical(aliases[source])
        return source

    for node in order:
        if node.name in dead_nodes:
            continue
        inputs = []
        for source in node.input:
            if not source.startswith("^"):
                inputs.append(resolve(source))
            # A control input on a decided Switch only says that its branch was taken.
            elif node_name(source) not in taken and node_name(source) not in dead_nodes:
                inputs.append(source)
        del node.input[:]
        node.input.extend(dict.fromkeys(inputs) if all(i.startswith("^") for i in inputs) else inputs)
    return True


def _output(node: str, index: int) -> str:
    return node if index == 0 else f"{node}:{index}"


def _is_dead(source: str, dead: set[str], dead_nodes: set[str]) -> bool:
    return canonical(source.lstrip("^")) in dead or split_tensor(source)[0] in dead_nodes


def _dead_nodes(order: list[NodeDef], dead: set[str]) -> set[str]:
    """Nodes that never run: any input dead, or, for a Merge, all but the back edge of a loop that is never entered."""
    names: set[str] = set()
    operations = {node.name: node.op for node in order}
    changed = True
    while changed:
        changed = False
        for node in order:
            if node.name in names:
                continue
            states = [_is_dead(source, dead, names) for source in node.input if not _back_edge(source, operations)]
            if node.op in ("Merge", "RefMerge"):
                is_dead = bool(states) and all(states)
            else:
                is_dead = any(states)
            if is_dead:
                names.add(node.name)
                changed = True
    return names


def _back_edge(source: str, operations: dict[str, str]) -> bool:
    return operations.get(node_name(source), "").endswith("NextIteration")


def _make_identity(node: NodeDef, source: str) -> None:
    name, dtype = node.name, node.attr["T"].type
    node.Clear()
    node.name, node.op = name, "Identity"
    node.input.append(source)
    node.attr["T"].type = dtype
