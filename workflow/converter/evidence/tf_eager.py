"""A graph without control flow, run operator by operator under a tape.

tf.gradients takes a millisecond of Python for each node that it adds, seconds for a DenseNet; run eagerly, the same
gradient functions take a tenth of that (TensorFlow 2.21).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2, op_def_pb2
from tensorflow.python.eager import context, execute
from tensorflow.python.framework import op_def_registry

from converter.evidence.tf_graph import NORMALIZATIONS, has_gradient, output_types
from converter.evidence.tf_weights import plain_name
from converter.tf.graph.graph import GraphDef, NodeDef, node_name, topological

__all__ = ["EagerGraph", "is_plain"]

_TF1_CONTROL = frozenset({"Switch", "RefSwitch", "Merge", "RefMerge", "Enter", "RefEnter"})


def is_plain(graph_def: GraphDef) -> bool:
    """Whether every node is an operator that can be run by itself: no control flow, no calls, nothing with state."""
    for node in graph_def.node:
        definition = op_def_registry.get(node.op)
        if definition is None or node.op in _TF1_CONTROL or node.op.startswith("TensorArray"):
            return False
        if any(attribute.type in ("func", "list(func)") for attribute in definition.attr):
            return False
        types = [*definition.input_arg, *definition.output_arg]
        if any(argument.is_ref or argument.type == tf.resource.as_datatype_enum for argument in types):
            return False
    return True


@dataclass
class _Step:
    """One node, as the eager runtime takes it."""

    node: NodeDef
    inputs: list[str]
    attributes: tuple
    types: list[tf.DType]
    differentiable: bool
    last: list[str] = field(default_factory=list)  # tensors that no later node reads

    @property
    def outputs(self) -> list[str]:
        return [f"{self.node.name}:{index}" for index in range(len(self.types))]


class EagerGraph:
    """fed: the nodes whose values each run is given, beside the placeholders. outputs: the tensors that may be asked for."""

    def __init__(self, graph_def: GraphDef, fed: Iterable[str], outputs: Iterable[str]) -> None:
        self._steps: list[_Step] = []
        self._constants: dict[str, tf.Tensor] = {}
        fed = set(fed)
        with context.eager_mode():
            nodes = {node.name: node for node in graph_def.node}
            for name in topological(nodes, [node_name(tensor) for tensor in outputs]):
                node = nodes[name]
                if node.name in fed or node.op == "Placeholder":
                    continue
                if node.op == "Const":
                    self._constants[f"{node.name}:0"] = tf.constant(tf.make_ndarray(node.attr["value"].tensor))
                elif node.op != "NoOp":
                    self._steps.append(_step(node))
        seen: set[str] = set()
        for step in reversed(self._steps):
            step.last = [name for name in dict.fromkeys([*step.inputs, *step.outputs]) if name not in seen]
            seen |= {*step.inputs, *step.outputs}

    def __len__(self) -> int:
        return len(self._steps)

    def last_floating(self, outputs: Iterable[str]) -> list[str]:
        """The last floating tensors before outputs that are no floating ones, such as an argmax."""
        makers = {name: step for step in self._steps for name in step.outputs}
        floating = {
            name
            for step in self._steps
            for name, kind in zip(step.outputs, step.types, strict=True)
            if kind.is_floating
        }
        found: dict[str, None] = {}
        pending = [name for name in outputs if name in makers and name not in floating]
        seen = set(pending)
        while pending:
            for source in makers[pending.pop()].inputs:
                if source in floating:
                    found[source] = None
                elif source in makers and source not in seen:
                    seen.add(source)
                    pending.append(source)
        return list(found)

    def entering(self) -> list[str]:
        """The floating tensors, weights and inputs apart, that enter operators without a gradient."""
        kinds = {name: kind for step in self._steps for name, kind in zip(step.outputs, step.types, strict=True)}
        return [
            name
            for name in dict.fromkeys(name for step in self._steps if not step.differentiable for name in step.inputs)
            if name in kinds and kinds[name].is_floating
        ]

    def run(
        self,
        feeds: Mapping[str, tf.Tensor],
        kept: Iterable[str],
        tape: tf.GradientTape | None = None,
        watch: Callable[[NodeDef, list[tf.Tensor], list[tf.Tensor]], None] | None = None,
    ) -> dict[str, tf.Tensor]:
        """The tensors of the names in `kept`; the others are given back as soon as no operator needs them."""
        values = {**self._constants, **feeds}
        kept = set(kept)
        for step in self._steps:
            inputs = [values[name] for name in step.inputs]
            if tape is not None and not step.differentiable:
                with tape.stop_recording():
                    outputs = _execute(step, inputs)
            else:
                outputs = _execute(step, inputs)
            values |= zip(step.outputs, outputs, strict=True)
            if watch is not None:
                watch(step.node, inputs, outputs)
            for name in step.last:
                if name not in kept:
                    del values[name]
        return {name: values[name] for name in kept}


def _execute(step: _Step, inputs: list[tf.Tensor]) -> list[tf.Tensor]:
    if step.node.op in NORMALIZATIONS and not step.node.attr["is_training"].b:
        inputs, attributes = _normalization(step, inputs)
    else:
        attributes = step.attributes
    outputs = execute.execute(step.node.op.encode(), len(step.types), inputs, attributes, context.context())
    if execute.must_record_gradient():
        execute.record_gradient(step.node.op, inputs, attributes, outputs)
    return outputs


def _normalization(step: _Step, inputs: list[tf.Tensor]) -> tuple[list[tf.Tensor], tuple]:
    """Scale and shift from all four weights by arithmetic: the operator has no derivative by mean and variance."""
    x, scale, offset, mean, variance = inputs
    factor = scale * tf.math.rsqrt(variance + step.node.attr["epsilon"].f)
    position = step.attributes.index("epsilon") + 1
    attributes = (*step.attributes[:position], 0.0, *step.attributes[position + 1 :])
    return [x, factor, offset - mean * factor, tf.zeros_like(mean), tf.ones_like(variance)], attributes


def _step(node: NodeDef) -> _Step:
    definition = op_def_registry.get(node.op)
    attributes: list = []
    for attribute in definition.attr:
        value = node.attr.get(attribute.name, attribute.default_value)
        attributes += [attribute.name, _python(attribute, value)]
    inputs = [plain_name(source) for source in node.input if not source.startswith("^")]
    return _Step(node, inputs, tuple(attributes), output_types(node), has_gradient(node.op))


def _python(definition: op_def_pb2.OpDef.AttrDef, value: attr_value_pb2.AttrValue) -> object:
    """An attribute as the eager runtime takes it: types as numbers, shapes as lists, None for an unknown size or rank."""
    kind = definition.type
    fields = {"string": "s", "int": "i", "float": "f", "bool": "b", "type": "type"}
    if kind.startswith("list("):
        inner = kind[5:-1]
        if inner == "shape":
            return [_shape(shape) for shape in value.list.shape]
        return list(getattr(value.list, fields[inner]))
    if kind == "shape":
        return _shape(value.shape)
    if kind == "tensor":
        return value.tensor
    return getattr(value, fields[kind])


def _shape(proto: Any) -> list[int | None] | None:
    return None if proto.unknown_rank else [None if dim.size < 0 else dim.size for dim in proto.dim]
