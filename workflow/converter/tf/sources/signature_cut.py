"""A part of a TensorFlow 2 signature: between tensors that a user names, with placeholders that a user gives a value."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf

from converter.contracts import ImportSpec
from converter.errors import ParameterError
from converter.hub.hub import TensorSpec
from converter.tf.graph.graph import (
    GraphDef,
    canonical,
    clean,
    inline_functions,
    node_name,
    prune,
    topological,
    unique_name,
)
from converter.tf.sources.endpoints import check_inputs, check_types, named_tensors
from converter.tf.sources.signature_nodes import choose, keep_needed, nodes_by_name
from converter.tf.sources.training_flags import PLACEHOLDERS, given_constants, set_constants

__all__ = ["SignaturePart", "signature_part"]

_WRITES = re.compile(r"^(Assign\w*VariableOp|ResourceScatter\w+|ResourceApply\w+)$")

ConcreteFunction = tf.types.experimental.ConcreteFunction


@dataclass
class SignaturePart:
    """The signature's graph with its calls inlined, and the tensors in it between which it is cut.

    whole: the graph as a function, bound to what the signature captures.
    """

    graph_def: GraphDef
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    whole: ConcreteFunction

    def runner(self) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
        """What computes the outputs from the inputs, with the source's own operators, variables and tables."""
        graph = self.whole.graph
        fed, fetched = (
            [graph.get_tensor_by_name(entry.tensor) for entry in specs] for specs in (self.inputs, self.outputs)
        )
        part = self.whole.prune(fed, fetched)

        def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
            return [result.numpy() for result in part(*map(tf.constant, arrays))]

        return run


def signature_part(
    spec: ImportSpec, function: ConcreteFunction, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> SignaturePart | None:
    """The part that `input_nodes`, `output_nodes` and `constants` ask for; None for the whole signature.

    `inputs` and `outputs`: the signature's. Raises ParameterError for names that are not there, and where the outputs
    depend on an input that is neither named nor given a value.
    """
    if not (spec.input_nodes or spec.output_nodes or spec.constants):
        return None
    graph_def = function.graph.as_graph_def()
    clean(graph_def)
    fed = [node_name(entry.tensor) for entry in inputs]
    captured = [node_name(internal.name) for _, internal in function.graph.captures]
    graph_def = inline_functions(graph_def, [entry.tensor for entry in outputs], [*fed, *captured])
    nodes = nodes_by_name(graph_def)
    chosen_inputs = choose(inputs, spec.input_nodes, "input_nodes", graph_def, nodes)
    chosen_outputs = choose(outputs, spec.output_nodes, "output_nodes", graph_def, nodes)
    constants = _constants(spec, graph_def, inputs, chosen_inputs if spec.input_nodes else [])
    set_constants(graph_def, constants)
    fixed = [*constants, *captured]
    if not spec.input_nodes:
        chosen_inputs = [entry for entry in chosen_inputs if node_name(entry.tensor) not in constants]
        chosen_inputs = keep_needed(graph_def, chosen_inputs, chosen_outputs, fixed, order=False)
    cut = [entry.tensor for entry in chosen_inputs]
    _wait_for_none(graph_def, set(fed) - set(constants), cut, [entry.tensor for entry in chosen_outputs])
    whole = _imported(function, graph_def)
    graph = whole.graph
    found = _settled(graph, chosen_inputs, "input_nodes"), _settled(graph, chosen_outputs, "output_nodes")
    part = SignaturePart(graph_def, *found, whole)
    if not part.inputs:
        raise ParameterError("constants: every input of the signature has a value: leave one out, to be fed")
    check_types([*part.inputs, *part.outputs], graph)
    check_inputs(graph_def, graph, part.inputs, part.outputs, dict.fromkeys(fixed))
    return part


def _wait_for_none(graph_def: GraphDef, fed: Collection[str], cut: Collection[str], outputs: Sequence[str]) -> None:
    """Take away, in place, what only waits for placeholders of `fed` before the tensors `cut`.

    A function's results wait for all that it does, such as counting its calls; inlined, so do the nodes in it. Raises
    ParameterError where a variable that the outputs read is written from such a placeholder: it does more than wait.
    """
    nodes = {node.name: node for node in graph_def.node}
    cut = {canonical(tensor) for tensor in cut}
    unfed: set[str] = set()
    for name in topological(nodes, list(nodes)):
        node = nodes[name]
        if name in fed:
            depends = f"{name}:0" not in cut
        else:
            reads = [source for source in node.input if not source.startswith("^")]
            depends = any(node_name(source) in unfed and canonical(source) not in cut for source in reads)
        if depends:
            unfed.add(name)
        kept = [source for source in node.input if not (source.startswith("^") and node_name(source) in unfed)]
        del node.input[:]
        node.input.extend(kept)
    needed = [node for node in prune(graph_def, outputs).node if node.name not in unfed]
    written = {node_name(nodes[name].input[0]) for name in unfed if _WRITES.match(nodes[name].op)}
    if written & {node_name(source) for node in needed for source in node.input}:
        raise ParameterError(
            "the outputs also read a variable that the model writes from inputs which are not named: name all in input_nodes"
        )


def _constants(
    spec: ImportSpec, graph_def: GraphDef, inputs: Sequence[TensorSpec], named: Sequence[TensorSpec]
) -> dict[str, np.ndarray]:
    """The values of `constants`, by node; they are named by the signature's keys."""
    keys = {node_name(entry.tensor): entry.name for entry in inputs}
    placeholders = {keys[node.name]: node for node in graph_def.node if node.name in keys and node.op in PLACEHOLDERS}
    given = given_constants(placeholders, spec.constants, {entry.name for entry in named})
    return {placeholders[name].name: value for name, value in given.items()}


def _settled(graph: tf.Graph, specs: Sequence[TensorSpec], parameter: str) -> list[TensorSpec]:
    """With the shapes and dtypes that the graph says, under the names that the user gave."""
    found = named_tensors(graph, [entry.tensor for entry in specs], parameter, ())
    return [replace(entry, name=given.name) for entry, given in zip(found, specs, strict=True)]


def _imported(function: ConcreteFunction, graph_def: GraphDef) -> ConcreteFunction:
    """The graph as a function. What the signature captures (variables, tables, constants) it captures too."""
    read = {node_name(source) for node in graph_def.node for source in node.input}
    taken = {node.name for node in graph_def.node}
    captures = [
        (external, f"{name}:0")
        for external, internal in function.graph.captures
        if (name := node_name(internal.name)) in read
    ]

    def imported() -> None:
        graph = tf.compat.v1.get_default_graph()
        bound = {
            name: graph.capture(external, name=unique_name(f"captured_{position}", taken))
            for position, (external, name) in enumerate(captures)
        }
        tf.import_graph_def(graph_def, input_map=bound, name="")

    return tf.compat.v1.wrap_function(imported, [])
