"""A TF1 graph as a source: what to feed and fetch, its inference part, and a session that runs it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from converter.contracts import ImportSpec
from converter.errors import SourceError, UnsupportedError
from converter.hub.hub import TensorSpec
from converter.planning.given_shapes import override_shapes
from converter.tf.graph.conditionals import fold_conditionals
from converter.tf.graph.constants import refuse_damaged_constants
from converter.tf.graph.errors import reason
from converter.tf.graph.graph import GraphDef, NodeDef, clean, inline_functions, node_name, prune
from converter.tf.graph.resources import VARIABLE_OPS
from converter.tf.graph.values import Value
from converter.tf.sources.endpoints import (
    check_inputs,
    check_types,
    find_inputs,
    find_outputs,
    input_candidates,
    named_tensors,
    output_candidates,
)
from converter.tf.sources.freeze import Frozen, freeze_graph
from converter.tf.sources.graph_file import refuse_recursion
from converter.tf.sources.lookup_tables import TableReader
from converter.tf.sources.training_flags import PLACEHOLDERS, choose_constants, set_constants
from converter.tf.trust.refused_operators import disarm, refuse_needed

__all__ = ["GraphSource", "import_graph", "known_part", "open_graph"]


@dataclass
class GraphSource:
    """A graph whose inputs and outputs are settled. `graph_def` is the source's own, cleaned; nothing is folded in it yet.

    weights: values of its Placeholders that were large constants.
    """

    graph_def: GraphDef
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    constants: dict[str, np.ndarray]
    input_candidates: list[TensorSpec]
    output_candidates: list[TensorSpec]
    notes: list[str] = field(default_factory=list)
    decisions: list[str] = field(default_factory=list)
    weights: Mapping[str, Value] = field(default_factory=dict)

    def inference_graph(self) -> GraphDef:
        """The part that the outputs need, with constants set, calls inlined, and dead branches gone."""
        graph_def = GraphDef()
        graph_def.CopyFrom(self.graph_def)
        set_constants(graph_def, self.constants)
        outputs = [spec.tensor for spec in self.outputs]
        keep = [node_name(spec.tensor) for spec in self.inputs]
        graph_def = prune(graph_def, outputs, keep)
        _drop_defaults(graph_def, keep)
        fold_conditionals(graph_def)
        for _ in range(_NESTING):
            if not graph_def.library.function:
                break
            graph_def = inline_functions(prune(graph_def, outputs, keep), outputs, keep)
            if not fold_conditionals(graph_def):
                break
        return prune(graph_def, outputs, keep)

    def variables(self, graph_def: GraphDef) -> list[str]:
        """Names of the nodes that hold variables."""
        return [node.name for node in graph_def.node if node.op in VARIABLE_OPS]

    def freeze(
        self,
        graph_def: GraphDef,
        values: Mapping[str, Value],
        out: Path,
        tables: Mapping[str, TableReader] | None = None,
    ) -> Frozen:
        """Write the graph and its weights into `out`, as `freeze_graph` does."""
        return freeze_graph(graph_def, values, self.inputs, self.outputs, out, self.weights, tables)

    def run(self, session: tf.compat.v1.Session, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The source's own outputs; the session's graph is the source's, with its flags and conditionals."""
        feeds = {spec.tensor: array for spec, array in zip(self.inputs, arrays, strict=True)}
        feeds |= {f"{name}:0": value for name, value in self.constants.items()}
        present = {operation.name for operation in session.graph.get_operations()}
        feeds = {name: value for name, value in feeds.items() if node_name(name) in present}
        return session.run([spec.tensor for spec in self.outputs], feeds)


_NESTING = 8  # conditionals inside functions inside conditionals


def _drop_defaults(graph_def: GraphDef, fed: Sequence[str]) -> None:
    """A PlaceholderWithDefault that is not fed is its default, which no exporter then has to know about."""
    for node in graph_def.node:
        if node.op == "PlaceholderWithDefault" and node.name not in fed:
            name, source, dtype = node.name, node.input[0], node.attr["dtype"].type
            node.Clear()
            node.name, node.op = name, "Identity"
            node.input.append(source)
            node.attr["T"].type = dtype


def open_graph(
    spec: ImportSpec,
    graph_def: GraphDef,
    signature: tuple[list[str], list[str]] | None = None,
    weights: Mapping[str, Value] | None = None,
) -> GraphSource:
    """Settle inputs, outputs and constants of a graph.

    Names come from `input_nodes` and `output_nodes`, else from `signature` (tensor names of inputs and outputs), else
    from the graph where it leaves one answer. `weights`: values of Placeholders that `extract_large_constants` left.
    Raises ParameterError, SourceError and UnsupportedError.
    """
    weights = weights or {}
    clean(graph_def)
    if not spec.trusted:
        disarm(graph_def)
    given_inputs = spec.input_nodes or (signature[0] if signature else [])
    given_outputs = spec.output_nodes or (signature[1] if signature else [])
    graph_def = known_part(graph_def, given_inputs, given_outputs)
    graph = import_graph(spec, graph_def)
    constants, notes = choose_constants(graph_def, spec.constants, given_inputs)
    known = {**constants, **weights}
    likely_inputs = input_candidates(graph_def, graph, known)
    likely_outputs = output_candidates(graph_def, graph)
    if given_outputs:
        outputs = named_tensors(graph, given_outputs, "output_nodes", likely_outputs)
    else:
        outputs, found = find_outputs(graph_def, graph)
        notes += found
    if given_inputs:
        inputs = named_tensors(graph, given_inputs, "input_nodes", likely_inputs)
        notes += check_inputs(graph_def, graph, inputs, outputs, known)
    else:
        inputs, found = find_inputs(graph_def, graph, outputs, known)
        notes += found
    check_types([*inputs, *outputs], graph)
    if not spec.trusted:
        refuse_needed(spec.source, graph_def, [entry.tensor for entry in inputs], [entry.tensor for entry in outputs])
    inputs = override_shapes(spec, inputs)
    used = {node.name for node in prune(graph_def, [entry.tensor for entry in outputs]).node}
    unused = [name for name in constants if name not in used]
    notes = [note for note in notes if not any(note.startswith(f"{name}:0 was set") for name in unused)]
    decisions = []
    for what, given, taken, likely in (
        ("inputs", given_inputs, inputs, likely_inputs),
        ("outputs", given_outputs, outputs, likely_outputs),
    ):
        names = [entry.name for entry in taken]
        others = [entry.name for entry in likely if entry.name not in names]
        if not given and others:
            decisions.append(f"{what}: {', '.join(names)} of {', '.join([*names, *others])}")
    decisions += _constant_decisions(notes)
    return GraphSource(graph_def, inputs, outputs, constants, likely_inputs, likely_outputs, notes, decisions, weights)


_SET = re.compile(r"^(\S+?)(?::0)? (was set to false|keeps its default value)")


def _constant_decisions(notes: Sequence[str]) -> list[str]:
    """Flags and defaults that became constants, in a few words for each kind."""
    found = []
    constants = [(match[1], match[2].removeprefix("was ")) for note in notes if (match := _SET.match(note))]
    for what in dict.fromkeys(text for _, text in constants):
        names = [name for name, text in constants if text == what]
        found.append(f"{', '.join(names)} {what if len(names) == 1 else what.replace('keeps its', 'keep their')}")
    return found


def unknown_operators(graph_def: GraphDef) -> list[str]:
    """Operators of a graph that this TensorFlow does not have."""
    local = {function.signature.name for function in graph_def.library.function}
    bodies = [graph_def.node, *(function.node_def for function in graph_def.library.function)]
    operations = {node.op for body in bodies for node in body} - local
    return sorted(op for op in operations if op_def_registry.get(op) is None)


def known_part(graph_def: GraphDef, inputs: Sequence[str], outputs: Sequence[str]) -> GraphDef:
    """The graph, or, where it has operators unknown to this TensorFlow, its part between the named inputs and outputs.

    Such operators often belong to the input pipeline or to the training alone. All of the graph where the tensors are
    not named, or not there.
    """
    if not unknown_operators(graph_def):
        return graph_def
    nodes = {node.name for node in graph_def.node}
    if not outputs or not all(node_name(name) in nodes for name in (*inputs, *outputs)):
        return graph_def
    cut = GraphDef()
    cut.CopyFrom(graph_def)
    for node in cut.node:
        if node.name in {node_name(name) for name in inputs}:
            _stand_in(node)
    keep = [node_name(name) for name in inputs]
    names = {node.name for node in prune(cut, outputs, keep).node}
    kept = GraphDef()
    kept.CopyFrom(cut)
    del kept.node[:]
    kept.node.extend(node for node in cut.node if node.name in names)
    return kept


def _stand_in(node: NodeDef) -> None:
    """Make an input a Placeholder, so that nothing of its producers (an input pipeline) is needed."""
    del node.input[:]
    if node.op in PLACEHOLDERS[:2]:
        return
    attributes = [key for key in ("dtype", "T", "DstT", "out_type", "Tparams") if node.attr[key].type]
    types = node.attr["output_types"].list.type or node.attr["component_types"].list.type
    if not attributes and not types:
        return
    dtype = node.attr[attributes[0]].type if attributes else types[0]
    name = node.name
    node.Clear()
    node.name, node.op = name, "Placeholder"
    node.attr["dtype"].type = dtype
    node.attr["shape"].shape.unknown_rank = True


def import_graph(spec: ImportSpec, graph_def: GraphDef) -> tf.Graph:
    """The graph in TensorFlow. Raises UnsupportedError for operators it does not have, SourceError for a damaged graph."""
    unknown = unknown_operators(graph_def)
    if unknown:
        raise UnsupportedError(
            f"{spec.source} uses operators that TensorFlow {tf.__version__} does not have ({', '.join(unknown[:6])}): "
            "try toolchain: tf1.15"
        )
    names = {node.name for node in graph_def.node}
    missing = next(
        ((node.name, source) for node in graph_def.node for source in node.input if node_name(source) not in names),
        None,
    )
    if missing:
        raise SourceError(f"{spec.source} is damaged: its node {missing[0]} reads {missing[1]}, which is not there")
    refuse_recursion(spec.source, graph_def)
    refuse_damaged_constants(spec.source, graph_def)
    graph = tf.Graph()
    with graph.as_default():
        try:
            tf.import_graph_def(graph_def, name="")
        except Exception as error:  # whatever its parts raise for a graph that is none
            raise SourceError(f"{spec.source}: TensorFlow cannot read its graph: {reason(error)}") from error
    return graph
