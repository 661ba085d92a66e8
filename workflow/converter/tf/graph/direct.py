"""The direct route: a SavedModel beside the hub's graph, for what TFLite can keep and a flat graph cannot hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import tensorflow as tf

from converter.hub.hub import TensorSpec
from converter.tf.graph.graph import GraphDef

__all__ = ["DIRECT", "has_fused_lstm", "save_direct"]

DIRECT = "saved_model"


def has_fused_lstm(graph_def: GraphDef) -> bool:
    """Whether the functions include Keras 2's LSTM, which the TFLite converter recognizes by its mark and fuses."""
    return any(
        function.attr["api_implements"].s.startswith(b"lstm_")
        for function in graph_def.library.function
        if "api_implements" in function.attr
    )


def save_direct(
    out: Path,
    call: Callable[..., Mapping[str, tf.Tensor]],
    inputs: Sequence[TensorSpec],
    owner: object,
) -> str | None:
    """Save `call(**inputs) -> {output name: tensor}` as a SavedModel below `out`; `owner` keeps its variables and tables.

    Returns the directory's name for `Hub.direct`, or None where an input's name cannot be an argument of a function.
    """
    if not all(spec.name.isidentifier() for spec in inputs):
        return None
    specs = {spec.name: tf.TensorSpec(spec.shape, tf.as_dtype(spec.dtype), name=spec.name) for spec in inputs}
    module = tf.Module()
    module.owner = owner
    traced = tf.function(call, autograph=False).get_concrete_function(**specs)
    tf.saved_model.save(module, str(out / DIRECT), signatures={"serving_default": traced})
    return DIRECT
