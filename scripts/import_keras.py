"""Keras model (.h5, .hdf5 of Keras 2 or 3, .keras) to hub: import_keras.py SOURCE HUB."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from converter.contracts import ImportSpec
from converter.hub.hub import Hub
from converter.running.step_runner import run_import


def import_model(spec: ImportSpec, out: Path) -> Hub:
    from converter.tf.sources.keras_file import read_keras_file

    file = read_keras_file(spec.source, spec.trusted)
    if spec.toolchain != "default":
        from converter.legacy.source import import_tensorflow
        from converter.tf.sources.keras_trust import refuse_untrusted

        if not spec.trusted:
            refuse_untrusted(file)
        return import_tensorflow(spec, out)
    os.environ["KERAS_BACKEND"] = "tensorflow"  # before keras is first imported

    from converter.tf.graph.direct import has_fused_lstm, save_direct
    from converter.tf.sources.build_hub import Source, build_hub
    from converter.tf.sources.freeze import freeze_function
    from converter.tf.sources.keras_loading import open_keras
    from converter.tf.sources.keras_signature import keras_call
    from converter.tf.sources.keras_trace import trace
    from converter.tf.sources.state import stateless
    from converter.tf.trust.refused_operators import refuse_trace

    with open_keras(spec, file) as (model, keras, filled):
        call = keras_call(spec, model, keras)
        function, inputs, outputs = trace(spec, call)
        filled.refuse_unfilled(spec.source, function.graph.variables, model.weights)
        if not spec.trusted:
            refuse_trace(spec.source, function.graph.as_graph_def())
        frozen = freeze_function(function, inputs, outputs, out)
        direct = None
        if has_fused_lstm(function.graph.as_graph_def()):
            owner = list(function.graph.variables)
            direct = save_direct(out, _by_name(function, inputs, outputs), frozen.inputs, owner)
        run = stateless(
            lambda arrays: [output.numpy() for output in function(*arrays)], function.graph.variables, frozen
        )
        source = Source(run, input_candidates=frozen.inputs, output_candidates=call.output_candidates, direct=direct)
        return build_hub(spec, out, frozen, source)


def _by_name(function, inputs, outputs):
    """The traced function as one of named tensors."""

    def call(**arrays):
        results = function(*[arrays[entry.name] for entry in inputs])
        return {entry.name: result for entry, result in zip(outputs, results, strict=True)}

    return call


if __name__ == "__main__":
    sys.exit(run_import("import_keras", import_model))
