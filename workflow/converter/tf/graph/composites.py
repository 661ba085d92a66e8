"""TensorFlow operators that a target lacks, or gets wrong at the ends of their range, written as ones that it has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableSequence

import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from converter.tf.graph.graph import GraphDef, NodeDef, unique_name

__all__ = ["FOR_ONNX", "FOR_TFLITE", "Expression", "expand_composites"]

Expression = int | float | tuple
"""An operator and its operands, as ("Sub", 1.0, ("Erf", 0)): an integer is an input of the old operator by its number, a
float a constant of its dtype. All operators have one dtype, that of attribute T."""

# Without a handler in tf2onnx 1.17. Erfc comes with every exact GELU of Keras 3.
FOR_ONNX: Mapping[str, Expression] = {
    "Erfc": ("Sub", 1.0, ("Erf", 0)),
    "Expm1": ("Sub", ("Exp", 0), 1.0),
    "Inv": ("Reciprocal", 0),
    "Log1p": ("Log", ("AddV2", 0, 1.0)),
}

# TensorFlow's converter (2.21) writes Softplus as log(1 + exp(x)), which is infinite from x = 89 on. The others it lacks.
FOR_TFLITE: Mapping[str, Expression] = {
    "Softplus": ("AddV2", ("Relu", 0), ("Log1p", ("Exp", ("Neg", ("Abs", 0))))),
    "Invert": ("BitwiseXor", 0, -1.0),
    "LeftShift": ("Mul", 0, ("Pow", 2.0, 1)),
}


def expand_composites(graph_def: GraphDef, composites: Mapping[str, Expression]) -> None:
    """Replace the operators in question, in place, in the graph and in its functions."""
    _expand(graph_def.node, composites, in_function=False, others=[])
    for function in graph_def.library.function:
        arguments = [argument.name for argument in function.signature.input_arg]
        renamed = _expand(function.node_def, composites, in_function=True, others=arguments)
        for node in function.node_def:
            node.input[:] = [renamed.get(source, source) for source in node.input]
        for name, source in function.ret.items():
            function.ret[name] = renamed.get(source, source)


def _expand(
    nodes: MutableSequence[NodeDef], composites: Mapping[str, Expression], in_function: bool, others: Iterable[str]
) -> dict[str, str]:
    """Returns new names of tensors: inside a function an output is called after its place in the operator's definition."""
    taken = {*others, *(node.name for node in nodes)}
    added: list[NodeDef] = []
    renamed = {}

    def operand(parent: NodeDef, sources: list[str], expression: Expression) -> str:
        if isinstance(expression, int):
            return sources[expression]
        if isinstance(expression, float):
            return constant(parent, expression)
        op, *operands = expression
        node = NodeDef(name=unique_name(f"{parent.name}/{op}", taken), op=op)
        node.attr["T"].CopyFrom(parent.attr["T"])
        taken.add(node.name)
        node.input[:] = [operand(parent, sources, item) for item in operands]
        added.append(node)
        return _first_output(node.name, op, in_function)

    def constant(parent: NodeDef, value: float) -> str:
        dtype = tf.as_dtype(parent.attr["T"].type)
        node = NodeDef(name=unique_name(f"{parent.name}/constant", taken), op="Const")
        node.attr["dtype"].type = dtype.as_datatype_enum
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value if dtype.is_floating else int(value), dtype))
        taken.add(node.name)
        added.append(node)
        return _first_output(node.name, "Const", in_function)

    for node in nodes:
        expression = composites.get(node.op)
        if expression is None:
            continue
        op, *operands = expression
        count = len(op_def_registry.get(node.op).input_arg)
        sources, controls = list(node.input[:count]), list(node.input[count:])
        old = _first_output(node.name, node.op, in_function)
        node.input[:] = [*(operand(node, sources, item) for item in operands), *controls]
        node.op = op
        renamed[old] = _first_output(node.name, node.op, in_function)
    nodes.extend(added)
    return renamed


def _first_output(name: str, op: str, in_function: bool) -> str:
    return f"{name}:{op_def_registry.get(op).output_arg[0].name}:0" if in_function else name
