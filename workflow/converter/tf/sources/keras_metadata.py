"""What Keras 2 writes about a model into its SavedModel, beside the functions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tensorflow.core.protobuf import meta_graph_pb2

from converter.hub.hub import TensorSpec

__all__ = ["in_model_order"]

_KEY = '"output_layers": '


def in_model_order(
    directory: Path, meta: meta_graph_pb2.MetaGraphDef, outputs: Sequence[TensorSpec]
) -> list[TensorSpec]:
    """The outputs of a Keras 2 model in the order of `model.outputs`; its function returns them as a dictionary, sorted.

    As they are for any other SavedModel, and where the names do not agree.
    """
    names = _output_layers(directory, meta)
    if len(names) != len(outputs) or set(names) != {spec.name for spec in outputs}:
        return list(outputs)
    return sorted(outputs, key=lambda spec: names.index(spec.name))


def _output_layers(directory: Path, meta: meta_graph_pb2.MetaGraphDef) -> list[str]:
    """The names in the root's configuration, which is JSON in a file (since TF 2.5) or in the object graph (before)."""
    path = directory / "keras_metadata.pb"
    if path.is_file():
        # The root comes first. Its JSON stands in the proto as it is, so the proto's class (tf_keras, 2 s) is not needed.
        text = path.read_bytes().decode("utf-8", errors="replace")
    else:
        nodes = meta.object_graph_def.nodes
        text = nodes[0].user_object.metadata if nodes else ""
    start = text.find(_KEY)
    if start < 0:
        return []
    try:
        entries, _ = json.JSONDecoder().raw_decode(text, start + len(_KEY))
    except ValueError:
        return []
    return [entry[0] for entry in entries if isinstance(entry, list) and entry and isinstance(entry[0], str)]
