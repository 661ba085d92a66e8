"""Placeholders that switch a graph between training and inference, and the constants a user gives for others."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import numpy as np
import tensorflow as tf

from converter.errors import ParameterError, nearest
from converter.tf.graph.graph import GraphDef, NodeDef, node_name

__all__ = ["choose_constants", "given_constants", "is_training_flag", "set_constants"]

PLACEHOLDERS = ("Placeholder", "PlaceholderV2", "PlaceholderWithDefault")

# is_training, phase_train, train_mode, keras_learning_phase.
_TRAINING = re.compile(r"train|learning_phase", re.IGNORECASE)


def placeholder_dtype(node: NodeDef) -> tf.DType:
    return tf.as_dtype(node.attr["dtype"].type)


def _is_scalar(node: NodeDef) -> bool:
    shape = node.attr["shape"].shape
    # tf.placeholder(tf.bool) has an unknown rank, and is fed a scalar all the same.
    return shape.unknown_rank or not shape.dim


def is_training_flag(node: NodeDef) -> bool:
    """Whether this is a boolean scalar placeholder whose name says training."""
    is_flag = node.op in PLACEHOLDERS and placeholder_dtype(node) == tf.bool and _is_scalar(node)
    return is_flag and bool(_TRAINING.search(node.name))


def choose_constants(
    graph_def: GraphDef, given: Mapping[str, bool | int | float], inputs: list[str]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Values for the placeholders that are not inputs, by node name, and a note for each that nobody asked for.

    given: the user's `constants`, by tensor name. inputs: names of the tensors the user feeds. Raises ParameterError
    for a constant that is no placeholder of the graph, or that is an input too.
    """
    nodes = {node.name: node for node in graph_def.node if node.op in PLACEHOLDERS}
    fed = {node_name(name) for name in inputs}
    constants, notes = given_constants(nodes, given, fed), []
    for node in nodes.values():
        if is_training_flag(node) and node.name not in fed and node.name not in constants:
            constants[node.name] = np.array(False)
            notes.append(f"{node.name}:0 was set to false (it selects training)")
    return constants, notes


def given_constants(
    nodes: Mapping[str, NodeDef], given: Mapping[str, bool | int | float], fed: Collection[str]
) -> dict[str, np.ndarray]:
    """The user's `constants`, by the name of the placeholder among `nodes`. Raises ParameterError as `choose_constants`."""
    constants = {}
    for name, value in given.items():
        node = nodes.get(node_name(name))
        if node is None:
            close = nearest(node_name(name), nodes) or sorted(nodes)[:8]
            raise ParameterError(
                f"constants: the graph has no placeholder {name}; "
                + _listed("it has", close, "and no other placeholder")
            )
        if node.name in fed:
            raise ParameterError(f"constants: {name} is one of the input_nodes too; take it out of one of them")
        constants[node.name] = _array(node, value)
    return constants


def _listed(before: str, names: list[str], none: str) -> str:
    return f"{before} {', '.join(names)}" if names else none


def _array(node: NodeDef, value: bool | int | float) -> np.ndarray:
    dtype = placeholder_dtype(node)
    if dtype == tf.string or (dtype == tf.bool and value not in (0, 1)):
        raise ParameterError(f"constants: {node.name} takes {dtype.name}, which {value!r} is not")
    shape = tf.TensorShape(node.attr["shape"].shape)
    dims = shape.as_list() if shape.is_fully_defined() else []
    return np.full(dims, value, dtype.as_numpy_dtype)


def set_constants(graph_def: GraphDef, constants: Mapping[str, np.ndarray]) -> None:
    """Turn placeholders into constants, in place. A default that a PlaceholderWithDefault had is gone with it."""
    for node in graph_def.node:
        if node.name not in constants:
            continue
        array, name = constants[node.name], node.name
        node.Clear()
        node.name, node.op = name, "Const"
        proto = tf.make_tensor_proto(array)
        node.attr["dtype"].type = proto.dtype
        node.attr["value"].tensor.CopyFrom(proto)
