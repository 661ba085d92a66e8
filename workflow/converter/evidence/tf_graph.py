"""A hub's graph made fit for tf.gradients: batch normalization that can be differentiated, and cuts where nothing can."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2
from tensorflow.python.framework import op_def_registry, ops

from converter.tf.graph.graph import GraphDef, NodeDef, canonical, node_name, split_tensor, tensor_name, unique_name

__all__ = [
    "NORMALIZATIONS",
    "cut_opaque",
    "differentiable_normalization",
    "has_gradient",
    "opaque_nodes",
    "output_types",
]

NORMALIZATIONS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
_CONTROL = frozenset({"Switch", "RefSwitch", "Merge", "RefMerge", "Enter", "RefEnter", "Exit", "RefExit"})
_FUNCTIONAL = frozenset({"While", "StatelessWhile", "If", "StatelessIf", "Case", "StatelessCase"})


def differentiable_normalization(graph_def: GraphDef) -> None:
    """Let, in place, each inference normalization take its scale and shift from all four of its weights by arithmetic.

    TensorFlow's gradient of the fused operator has none for the mean and the variance (TensorFlow 2.21).
    """
    taken = {node.name for node in graph_def.node}

    def add(op: str, base: str, inputs: Iterable[str]) -> str:
        node = graph_def.node.add()
        node.op, node.name = op, unique_name(f"{base}/evidence_{op}", taken)
        taken.add(node.name)
        node.input.extend(inputs)
        node.attr["T"].type = tf.float32.as_datatype_enum
        return node.name

    for node in [node for node in graph_def.node if node.op in NORMALIZATIONS]:
        if node.attr["is_training"].b or node.attr["U"].type not in (0, tf.float32.as_datatype_enum):
            continue
        name, (scale, offset, mean, variance) = node.name, list(node.input)[1:5]
        epsilon = graph_def.node.add()
        epsilon.op, epsilon.name = "Const", unique_name(f"{name}/evidence_epsilon", taken)
        taken.add(epsilon.name)
        epsilon.attr["dtype"].type = tf.float32.as_datatype_enum
        epsilon.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(node.attr["epsilon"].f, tf.float32))
        factor = add("Mul", name, [scale, add("Rsqrt", name, [add("AddV2", name, [variance, epsilon.name])])])
        shift = add("Sub", name, [offset, add("Mul", name, [mean, factor])])
        node.input[1], node.input[2] = factor, shift
        node.input[3], node.input[4] = add("ZerosLike", name, [factor]), add("OnesLike", name, [factor])
        node.attr["epsilon"].f = 0.0


def output_types(node: NodeDef) -> list[tf.DType]:
    """The dtypes of an operator's outputs, by its definition and its attributes."""
    definition = op_def_registry.get(node.op)
    defaults = {attribute.name: attribute.default_value for attribute in definition.attr}

    def value(name: str) -> attr_value_pb2.AttrValue:
        return node.attr[name] if name in node.attr else defaults[name]

    kinds: list[int] = []
    for argument in definition.output_arg:
        if argument.type_list_attr:
            kinds += value(argument.type_list_attr).list.type
            continue
        kind = value(argument.type_attr).type if argument.type_attr else argument.type
        kinds += [kind] * (value(argument.number_attr).i if argument.number_attr else 1)
    return [tf.as_dtype(kind) for kind in kinds]


def opaque_nodes(graph_def: GraphDef, functional: bool) -> set[str]:
    """Names of the nodes that cannot be differentiated through: without a gradient, and TF1's loops and branches.

    functional: While, If and Case too, for those whose bodies cannot be.
    """
    consumers = defaultdict(list)
    nodes = {node.name: node for node in graph_def.node}
    for node in graph_def.node:
        for source in node.input:
            consumers[node_name(canonical(source.lstrip("^")))].append(node)
    opaque = {node.name for node in graph_def.node if not has_gradient(node.op)}
    opaque |= {node.name for node in graph_def.node if node.op.startswith("TensorArray")}
    if functional:
        opaque |= {node.name for node in graph_def.node if node.op in _FUNCTIONAL}
    loops = [node for node in graph_def.node if node.op in ("Enter", "RefEnter")]
    opaque |= _reached(consumers, loops, lambda node: node.op in ("Exit", "RefExit"))
    branches = [node for node in graph_def.node if node.op in ("Switch", "RefSwitch") and node.name not in opaque]
    opaque |= _reached(consumers, branches, lambda node: node.op in ("Merge", "RefMerge"))
    return opaque | {name for name, node in nodes.items() if node.op in _CONTROL}


def has_gradient(operator: str) -> bool:
    """Whether TensorFlow knows a gradient of an operator, or that it has none."""
    try:
        ops.gradient_registry.lookup(operator)
    except LookupError:
        return False
    return True


def _reached(consumers: dict[str, list[NodeDef]], start: list[NodeDef], ends: Callable[[NodeDef], bool]) -> set[str]:
    """The nodes between `start` and those that end a frame, both included."""
    found: set[str] = set()
    pending = list(start)
    while pending:
        node = pending.pop()
        if node.name in found:
            continue
        found.add(node.name)
        if not ends(node):
            pending += consumers[node.name]
    return found


def cut_opaque(graph_def: GraphDef, opaque: set[str], sources: set[str]) -> tuple[dict[str, str], list[str]]:
    """Feed, in place, what comes out of opaque nodes to the others by placeholders, with the values of a first run.

    `sources`: placeholders and constants, which have no gradient and need none. Returns {tensor: placeholder} and the
    floating tensors that enter the opaque part, where gradients may start.
    """
    nodes = {node.name: node for node in graph_def.node}
    inner = {name for name in opaque if name in nodes and nodes[name].input}
    types = {name: output_types(node) for name, node in nodes.items()}
    cuts: dict[str, str] = {}
    entering: dict[str, None] = {}
    for node in list(graph_def.node):
        for position, source in enumerate(node.input):
            if source.startswith("^"):
                continue
            name, index = split_tensor(source)
            tensor, kind = f"{name}:{index}", types[name][index]
            if node.name in inner:
                if name not in inner and name not in sources and kind.is_floating:
                    entering[tensor] = None
            elif name in inner and kind not in (tf.resource, tf.variant):
                if tensor not in cuts:
                    placeholder = graph_def.node.add()
                    placeholder.op, placeholder.name = "Placeholder", unique_name(f"{name}/evidence_cut_{index}", nodes)
                    placeholder.attr["dtype"].type = kind.as_datatype_enum
                    nodes[placeholder.name] = placeholder
                    cuts[tensor] = placeholder.name
                node.input[position] = tensor_name(cuts[tensor])
    return cuts, list(entering)
