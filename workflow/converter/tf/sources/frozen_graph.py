"""The hub of a graph that holds its weights as constants: what a .pb is, and what a legacy environment hands over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import tensorflow as tf

from converter.contracts import ImportSpec
from converter.hub.hub import Hub
from converter.tf.graph.constants import extract_large_constants
from converter.tf.graph.graph import GraphDef, clean
from converter.tf.sources.build_hub import Source, build_hub
from converter.tf.sources.graph_file import refuse_unfrozen
from converter.tf.sources.graph_source import GraphSource, import_graph, open_graph
from converter.tf.sources.lookup_tables import initialize_tables, session_tables

__all__ = ["hub_of_frozen_graph"]


def hub_of_frozen_graph(
    spec: ImportSpec,
    graph_def: GraphDef,
    out: Path,
    *,
    endpoints: tuple[list[str], list[str]] | None = None,
    called: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> tuple[Hub, GraphSource]:
    """The hub in folder `out`, and what in the graph is fed and fetched. `graph_def` is changed.

    endpoints: tensors of inputs and outputs, where the spec's nodes do not name them. called: names of inputs and outputs,
    by tensor, where those are not the nodes'. notes: come before those of the graph.
    Raises SourceError for a graph with variables, and what build_hub raises.
    """
    clean(graph_def)
    # The session that makes the reference gets the file's graph as it is; all else works without the weights.
    session = tf.compat.v1.Session(graph=import_graph(spec, graph_def))
    weights = extract_large_constants(graph_def)
    source = open_graph(spec, graph_def, endpoints, weights)
    called = called or {}
    source.inputs = [replace(entry, name=called.get(entry.tensor, entry.name)) for entry in source.inputs]
    source.outputs = [replace(entry, name=called.get(entry.tensor, entry.name)) for entry in source.outputs]
    inference = source.inference_graph()
    refuse_unfrozen(spec.source, source.variables(inference))
    with session:
        outputs = [entry.tensor for entry in source.outputs]
        initialize_tables(session, spec.source, graph_def, outputs, spec.trusted)
        frozen = source.freeze(inference, {}, out, session_tables(session))
        loaded = Source(
            lambda arrays: source.run(session, arrays),
            [*notes, *source.notes],
            source.input_candidates,
            source.output_candidates,
            decisions=source.decisions,
        )
        return build_hub(spec, out, frozen, loaded), source
