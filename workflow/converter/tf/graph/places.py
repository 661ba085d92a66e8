"""Where in the source something is that a target does not have: the layer or node a user knows, and where to cut."""

from __future__ import annotations

from collections.abc import Collection

import tensorflow as tf

from converter.hub.hub import Hub
from converter.tf.graph.graph import GraphDef, NodeDef, node_name
from converter.tf.graph.graph_bytes import read_graph

__all__ = ["behind_texts", "cut_advice", "place_of", "places_of"]


def places_of(hub: Hub, operators: Collection[str]) -> list[str]:
    """The layers (Keras), or else nodes, of the hub's graph that hold one of the operators, in the graph's order.

    "Mean (float64)" is that operator on numbers of that dtype.
    """
    graph_def = read_graph(hub.graph_path)
    bodies = [graph_def.node, *(function.node_def for function in graph_def.library.function)]
    found = (node for body in bodies for node in body if any(_is(node, operator) for operator in operators))
    return list(dict.fromkeys(place_of(hub, node.name) for node in found))


def _is(node: NodeDef, operator: str) -> bool:
    name, _, dtype = operator.partition(" (")
    if node.op != name or not dtype:
        return node.op == name
    # Without a mention of any, as in a function's body, nothing speaks against it.
    types = {tf.dtypes.as_dtype(value.type).name for value in node.attr.values() if value.type}
    return not types or dtype.rstrip(")") in types


def place_of(hub: Hub, node: str) -> str:
    """ "hashing" for "functional_1/hashing_1/StringToHashBucketFast", where that is a layer's name; else the node's."""
    layers = {spec.name for spec in hub.candidates["outputs"]}
    parts = node.split("/")[:-1]
    for part in parts:
        if part in layers:
            return part
        base, _, number = part.rpartition("_")
        if number.isdigit() and base in layers:  # Keras numbers the scopes of a layer that is called again
            return base
    return node


def cut_advice(hub: Hub, places: list[str]) -> str:
    """What to write so that the converted model begins behind these places, or ends before them."""
    if hub.source.get("format") == "savedmodel":
        return "save the part of the model behind it with a signature of its own"
    if not 0 < len(places) <= 4:
        return "end before it with output_nodes"
    rest = [spec.name for spec in hub.inputs if spec.name not in _feeding(hub, places)]
    return f'begin behind it with input_nodes "{",".join([*places, *rest])}", or end before it with output_nodes'


def _feeding(hub: Hub, places: list[str]) -> set[str]:
    """The inputs that lead to nothing but these places."""
    graph_def = read_graph(hub.graph_path)
    users = _users(graph_def)
    feeding = set()
    for spec in hub.inputs:
        pending, seen, others = [node_name(spec.tensor)], set(), False
        while pending:
            for user in users.get(pending.pop(), []):
                if user.name in seen:
                    continue
                seen.add(user.name)
                if place_of(hub, user.name) in places or user.name in places:
                    continue
                if user.name in {node_name(output.tensor) for output in hub.outputs} or not users.get(user.name):
                    others = True
                pending.append(user.name)
        if not others:
            feeding.add(spec.name)
    return feeding


def _users(graph_def: GraphDef) -> dict[str, list[NodeDef]]:
    users: dict[str, list[NodeDef]] = {}
    for node in graph_def.node:
        for source in node.input:
            users.setdefault(node_name(source), []).append(node)
    return users


def behind_texts(hub: Hub) -> list[str]:
    """The places where the texts of inputs become numbers."""
    graph_def = read_graph(hub.graph_path)
    users, found = _users(graph_def), {}
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
    pending = [node_name(spec.tensor) for spec in hub.inputs if spec.dtype == "string"]
    seen = set(pending)
    while pending:
        for user in users.get(pending.pop(), []):
            if user.name in seen:
                continue
            seen.add(user.name)
            if any(tensor.dtype == tf.string for tensor in graph.get_operation_by_name(user.name).outputs):
                pending.append(user.name)
            else:
                found[_in_source(graph_def, hub, user.name)] = None
    return list(found)


def _in_source(graph_def: GraphDef, hub: Hub, node: str) -> str:
    """The layer, or the node of the source: what replaces a lookup is named below it."""
    place = place_of(hub, node)
    if place != node:
        return place
    names = {entry.name for entry in graph_def.node if entry.op == "Identity"}
    parts = node.split("/")
    prefixes = ("/".join(parts[:end]) for end in range(1, len(parts)))
    return next((prefix for prefix in prefixes if prefix in names), node)
