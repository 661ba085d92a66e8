"""The direct route: a SavedModel whose functions are intact, so that the converter recognizes its LSTMs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from converter.hub.hub import TensorSpec
from converter.tf.tflite.convert import ConversionFailure, ConvertOptions, convert_saved_model
from converter.tf.tflite.lstm import remove_cell_clip
from converter.tf.tflite.signature import SIGNATURE, reorder_by_signature
from converter.tflite.flatbuffer import read, schema

__all__ = ["convert_direct"]


def convert_direct(
    saved_model: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], options: ConvertOptions
) -> schema.ModelT:
    """The SavedModel as a TFLite model whose inputs and outputs are in the order given; an unknown batch becomes 1.

    Raises ConversionFailure, also where the signature has other names than `inputs` and `outputs`.
    """
    loaded = tf.saved_model.load(str(saved_model))
    function = loaded.signatures[SIGNATURE]
    specs = function.structured_input_signature[1]
    names = [spec.name for spec in inputs], [spec.name for spec in outputs]
    if set(names[0]) != set(specs) or set(names[1]) != set(function.structured_outputs):
        raise ConversionFailure("the SavedModel of the direct route has other inputs or outputs than the graph")
    if any(spec.shape.rank and spec.shape[0] is None for spec in specs.values()):
        # The converter (TensorFlow 2.21) fuses an LSTM of a known batch only. It does not fuse either when only its
        # flags say that the batch is 1, so the functions are traced again.
        with tempfile.TemporaryDirectory() as fixed:
            _save_with_batch_of_one(loaded, function, specs, fixed)
            data = convert_saved_model(fixed, [tf.saved_model.SERVING], SIGNATURE, options)
    else:
        data = convert_saved_model(str(saved_model), [tf.saved_model.SERVING], SIGNATURE, options)
    model = read(data)
    reorder_by_signature(model, *names)
    remove_cell_clip(model)
    return model


def _save_with_batch_of_one(loaded: object, function: Any, specs: dict[str, tf.TensorSpec], path: str) -> None:
    fixed = {
        name: tf.TensorSpec([1, *spec.shape[1:]] if spec.shape.rank else spec.shape, spec.dtype, name=name)
        for name, spec in specs.items()
    }
    module = tf.Module()
    module.loaded = loaded  # owns the variables
    traced = tf.function(lambda **arrays: function(**arrays), autograph=False).get_concrete_function(**fixed)
    tf.saved_model.save(module, path, signatures={SIGNATURE: traced})
