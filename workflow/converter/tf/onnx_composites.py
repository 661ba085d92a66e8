"""TensorFlow operators that tf2onnx 1.17 has no handler for, written as ones that it has.

Erfc comes with every exact GELU of Keras 3.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableSequence
from dataclasses import dataclass

import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from converter.tf.graph import GraphDef, NodeDef, unique_name

__all__ = ["expand_composites"]


@dataclass(frozen=True)
class _Composite:
    """final(arguments): an operator takes the old one's name. An argument is a constant, or an operator, applied to what
    the old one read and perhaps a constant ("Identity": just what it read)."""

    final: str
    arguments: tuple[float | tuple, ...]


_COMPOSITES = {
    "Erfc": _Composite("Sub", (1.0, ("Erf",))),
    "Expm1": _Composite("Sub", (("Exp",), 1.0)),
    "Inv": _Composite("Reciprocal", (("Identity",),)),
    "Log1p": _Composite("Log", (("AddV2", 1.0),)),
}


def expand_composites(graph_def: GraphDef) -> None:
    """Replace the operators in question, in place, in the graph and in its functions."""
    _expand(graph_def.node, in_function=False, others=[])
    for function in graph_def.library.function:
        arguments = [argument.name for argument in function.signature.input_arg]
        renamed = _expand(function.node_def, in_function=True, others=arguments)
        for node in function.node_def:
            node.input[:] = [renamed.get(source, source) for source in node.input]
        for name, source in function.ret.items():
            function.ret[name] = renamed.get(source, source)


def _expand(nodes: MutableSequence[NodeDef], in_function: bool, others: Iterable[str]) -> dict[str, str]:
    """Returns new names of tensors: inside a function an output is called after its place in the operator's definition."""
    taken = {*others, *(node.name for node in nodes)}
    added: list[NodeDef] = []
    renamed = {}

    def add(parent: NodeDef, op: str, inputs: list[str]) -> str:
        node = NodeDef(name=unique_name(f"{parent.name}/{op}", taken), op=op, input=inputs)
        node.attr["T"].CopyFrom(parent.attr["T"])
        taken.add(node.name)
        added.append(node)
        return _first_output(node.name, op, in_function)

    def constant(parent: NodeDef, value: float) -> str:
        dtype = parent.attr["T"].type
        node = NodeDef(name=unique_name(f"{parent.name}/constant", taken), op="Const")
        node.attr["dtype"].type = dtype
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, tf.as_dtype(dtype)))
        taken.add(node.name)
        added.append(node)
        return _first_output(node.name, "Const", in_function)

    for node in nodes:
        composite = _COMPOSITES.get(node.op)
        if composite is None:
            continue
        source, controls = node.input[0], list(node.input[1:])
        arguments = []
        for argument in composite.arguments:
            if isinstance(argument, float):
                arguments.append(constant(node, argument))
            else:
                operator, *operands = argument
                arguments.append(add(node, operator, [source, *(constant(node, value) for value in operands)]))
        old = _first_output(node.name, node.op, in_function)
        node.op = composite.final
        renamed[old] = _first_output(node.name, node.op, in_function)
        node.input[:] = [*arguments, *controls]
    nodes.extend(added)
    return renamed


def _first_output(name: str, op: str, in_function: bool) -> str:
    return f"{name}:{op_def_registry.get(op).output_arg[0].name}:0" if in_function else name
