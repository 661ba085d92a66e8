"""A SavedModel of TensorFlow 1 into the hub: its graph, the values straight from its checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from converter.contracts import ImportSpec
from converter.errors import SourceError
from converter.hub.hub import Hub, TensorSpec
from converter.tf.graph.errors import reason
from converter.tf.graph.graph import GraphDef, node_name
from converter.tf.sources.build_hub import Source, build_hub
from converter.tf.sources.checkpoint import checkpoint_values
from converter.tf.sources.graph_source import GraphSource, open_graph
from converter.tf.sources.lookup_tables import session_tables
from converter.tf.sources.signature_nodes import choose, keep_needed

__all__ = ["import_signature"]


def import_signature(
    spec: ImportSpec, meta: meta_graph_pb2.MetaGraphDef, signature: meta_graph_pb2.SignatureDef, out: Path
) -> Hub:
    """Freeze and run one signature. Raises SourceError, ParameterError, UnsupportedError."""
    nodes = {node.name: node.name for node in meta.graph_def.node}
    keys = _endpoints(meta.graph_def, signature.inputs), _endpoints(meta.graph_def, signature.outputs)
    inputs = choose(keys[0], spec.input_nodes, "input_nodes", meta.graph_def, nodes)
    outputs = choose(keys[1], spec.output_nodes, "output_nodes", meta.graph_def, nodes)
    if spec.output_nodes and not spec.input_nodes:
        inputs = keep_needed(meta.graph_def, inputs, outputs)
    tensors = [entry.tensor for entry in inputs], [entry.tensor for entry in outputs]
    source = open_graph(_without_nodes(spec), meta.graph_def, tensors)
    _name(source, inputs, outputs)
    graph_def = source.inference_graph()
    scope = meta.saver_def.restore_op_name.rpartition("/")[0] or "save"
    prefix = str(spec.source / "variables" / "variables")
    variables = source.variables(graph_def)
    values = checkpoint_values(meta.graph_def, prefix, variables, scope) if variables else {}
    graph = tf.Graph()
    with graph.as_default(), tf.compat.v1.Session(graph=graph) as session:
        load = _loader(spec, session)
        load()
        frozen = source.freeze(graph_def, values, out, session_tables(session))

        def run(arrays: list) -> list:
            if frozen.assigned:
                load()
            return source.run(session, arrays)

        loaded = Source(run, source.notes, source.inputs, keys[1], decisions=source.decisions)
        return build_hub(spec, out, frozen, loaded)


def _loader(spec: ImportSpec, session: tf.compat.v1.Session):  # noqa: ANN202 (a closure)
    """TensorFlow's own loader of this kind of SavedModel; it also initializes tables."""

    def load() -> None:
        try:
            tf.compat.v1.saved_model.load(session, list(spec.savedmodel_tag), str(spec.source))
        except MemoryError:
            raise
        except Exception as error:  # whatever a damaged graph leads the loader to
            raise SourceError(f"{spec.source} cannot be loaded, is it complete? {reason(error)}") from error

    return load


def _endpoints(graph_def: GraphDef, entries: Any) -> list[TensorSpec]:
    """A signature's inputs or outputs, named by its keys. The mapping has no order; the graph, as it was built, has."""
    position = {node.name: place for place, node in enumerate(graph_def.node)}
    specs = []
    for key, info in entries.items():
        if info.WhichOneof("encoding") != "name":
            raise SourceError(
                f"{key} of the signature is a sparse or composite tensor: export the model with plain ones"
            )
        specs.append(TensorSpec(key, None, tf.as_dtype(info.dtype).name, info.name))
    return sorted(specs, key=lambda spec: (position.get(node_name(spec.tensor), 0), spec.tensor, spec.name))


def _without_nodes(spec: ImportSpec) -> ImportSpec:
    return replace(spec, input_nodes=[], output_nodes=[])


def _name(source: GraphSource, inputs: list[TensorSpec], outputs: list[TensorSpec]) -> None:
    """Call the graph's tensors by the signature's keys."""
    source.inputs = [replace(entry, name=key.name) for entry, key in zip(source.inputs, inputs, strict=True)]
    source.outputs = [replace(entry, name=key.name) for entry, key in zip(source.outputs, outputs, strict=True)]
