"""Replace operators of a graph, and of its functions, by several others: the nodes, names and ports that this takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableSequence

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from converter.tf.graph.graph import GraphDef, NodeDef, node_name, unique_name

__all__ = ["Emitter", "Replacement", "replace_operators"]

Attribute = tf.DType | bool | int | bytes | list


class Emitter:
    """Adds nodes to the body that holds `node`, named after it; returns the tensors they compute."""

    def __init__(self, node: NodeDef, taken: set[str], in_function: bool, framed: bool) -> None:
        self.added: list[NodeDef] = []
        self._scope, self._taken, self.in_function = node.name, taken, in_function
        # In a TF1 loop a constant belongs to the loop's frame only through a control input.
        data = next((source for source in node.input if not source.startswith("^")), None)
        self._anchor = f"^{node_name(data)}" if framed and data is not None else None

    def __call__(self, op: str, *inputs: str, **attributes: Attribute) -> str:
        """The first output of a new node."""
        node = NodeDef(name=unique_name(f"{self._scope}/{op}", self._taken), op=op, input=inputs)
        for name, value in attributes.items():
            _set(node, name, value)
        self._taken.add(node.name)
        self.added.append(node)
        return output_name(node.name, op, self.in_function)

    def const(self, value: object, dtype: tf.DType) -> str:
        """Add a Const node of this value; returns its tensor."""
        proto = tf.make_tensor_proto(value, dtype)
        tensor = self("Const", *([self._anchor] if self._anchor else []), dtype=dtype)
        self.added[-1].attr["value"].tensor.CopyFrom(proto)
        return tensor


def _set(node: NodeDef, name: str, value: Attribute) -> None:
    attribute = node.attr[name]
    if isinstance(value, tf.DType):
        attribute.type = value.as_datatype_enum
    elif isinstance(value, bool):
        attribute.b = value
    elif isinstance(value, bytes):
        attribute.s = value
    elif isinstance(value, list):
        attribute.list.i.extend(value)
    else:
        attribute.i = value


def output_name(name: str, op: str, in_function: bool) -> str:
    """How other nodes of the same body refer to the first output of a node."""
    return f"{name}:{op_def_registry.get(op).output_arg[0].name}:0" if in_function else name


# Of a node, what emits others, and the values of constants by tensor: the tensor that takes the place of the node's
# only output and its dtype, or None to leave the node.
Replacement = Callable[[NodeDef, Emitter, Callable[[str], np.ndarray | None]], tuple[str, tf.DType] | None]


def replace_operators(graph_def: GraphDef, replacements: Mapping[str, Replacement], functions: bool = True) -> bool:
    """Replace, in place, the operators that `replacements` names. Returns whether there were any.

    A replaced node stays as the Identity of what replaces it, so that the tensor keeps its name. `functions`: also in the
    bodies of the graph's functions.
    """
    changed = bool(_replace(graph_def.node, replacements, in_function=False, others=()))
    for function in graph_def.library.function if functions else ():
        arguments = [argument.name for argument in function.signature.input_arg]
        renamed = _replace(function.node_def, replacements, in_function=True, others=arguments)
        for node in function.node_def:
            node.input[:] = [renamed.get(source, source) for source in node.input]
        for name, source in function.ret.items():
            function.ret[name] = renamed.get(source, source)
        changed |= bool(renamed)
    return changed


def _replace(
    nodes: MutableSequence[NodeDef], replacements: Mapping[str, Replacement], in_function: bool, others: Iterable[str]
) -> dict[str, str]:
    """Returns new names of tensors: inside a function an output is called after its place in the operator's definition."""
    by_name = {node.name: node for node in nodes}
    taken = {*others, *by_name}
    framed = not in_function and any(node.op in ("Enter", "RefEnter") for node in nodes)
    added: list[NodeDef] = []
    renamed = {}

    def value(tensor: str) -> np.ndarray | None:
        node = by_name.get(node_name(tensor))
        while node is not None and node.op == "Identity":
            node = by_name.get(node_name(node.input[0]))
        return tf.make_ndarray(node.attr["value"].tensor) if node is not None and node.op == "Const" else None

    for node in nodes:
        if node.op not in replacements:
            continue
        emit = Emitter(node, taken, in_function, framed)
        replaced = replacements[node.op](node, emit, value)
        if replaced is None:
            continue
        tensor, dtype = replaced
        added += emit.added
        name, old = node.name, output_name(node.name, node.op, in_function)
        controls = [source for source in node.input if source.startswith("^")]
        node.Clear()
        node.name, node.op = name, "Identity"
        node.input.extend([tensor, *controls])
        node.attr["T"].type = dtype.as_datatype_enum
        renamed[old] = output_name(name, "Identity", in_function)
    nodes.extend(added)
    return renamed
