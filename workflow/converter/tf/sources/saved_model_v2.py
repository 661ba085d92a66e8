"""A SavedModel of TensorFlow 2 (tf.Module, Keras 2, Keras 3) into the hub: its signature's function, loaded and frozen."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from converter.contracts import ImportSpec
from converter.errors import SourceError, UnsupportedError
from converter.hub.hub import Hub
from converter.planning.given_shapes import override_shapes
from converter.tf.graph.direct import has_fused_lstm, save_direct
from converter.tf.graph.errors import reason
from converter.tf.sources.build_hub import Source, build_hub
from converter.tf.sources.freeze import freeze_function
from converter.tf.sources.graph_source import unknown_operators
from converter.tf.sources.keras_metadata import in_model_order
from converter.tf.sources.signature_cut import signature_part
from converter.tf.sources.signature_function import run_function, signature_inputs, signature_outputs
from converter.tf.sources.state import stateless

__all__ = ["import_signature"]


def import_signature(spec: ImportSpec, meta: meta_graph_pb2.MetaGraphDef, out: Path) -> Hub:
    """Load, freeze and run one signature. Raises SourceError, ParameterError, UnsupportedError."""
    unknown = unknown_operators(meta.graph_def)
    if unknown:
        raise UnsupportedError(
            f"{spec.source} uses operators that TensorFlow {tf.__version__} does not have ({', '.join(unknown[:6])}): "
            "export it without them"
        )
    try:
        loaded = tf.saved_model.load(str(spec.source), tags=list(spec.savedmodel_tag))
    except MemoryError:
        raise
    except Exception as error:  # whatever a damaged object graph leads the loader to
        raise SourceError(f"{spec.source} cannot be loaded, is it complete? {reason(error)}") from error
    function = loaded.signatures[spec.savedmodel_signature]
    every_input = signature_inputs(function)
    every_output = in_model_order(spec.source, meta, signature_outputs(function))
    part = signature_part(spec, function, every_input, every_output)
    if part is None:
        inputs, outputs = override_shapes(spec, every_input), every_output
        frozen = freeze_function(function, inputs, outputs, out)
        run = partial(run_function, function, inputs, outputs)
    else:
        inputs, outputs = override_shapes(spec, part.inputs), part.outputs
        frozen = freeze_function(function, inputs, outputs, out, part.graph_def)
        run = part.runner()
    direct = None
    if part is None and has_fused_lstm(function.graph.as_graph_def()):

        def call(**arrays: tf.Tensor) -> dict[str, tf.Tensor]:
            results = function(**arrays)
            return {entry.name: results[entry.name] for entry in outputs}

        direct = save_direct(out, call, frozen.inputs, loaded)
    source = Source(
        stateless(run, function.graph.variables, frozen),
        input_candidates=every_input,
        output_candidates=every_output,
        direct=direct,
    )
    return build_hub(spec, out, frozen, source)
