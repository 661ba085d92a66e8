"""Keras .h5 files in the Keras that wrote them: tf.keras of 1.15 or 2.3, or Keras 2.3 by itself.

Each loader returns an object with `inputs` and `outputs` (name and tensor, in the model's order), `graph_def()`, the frozen
graph, and `run(feeds, fetches)`, the model's own outputs.
"""

from __future__ import annotations

import json
import math
import os
import platform

import h5py
import numpy as np
import tensorflow as tf

from legacy.errors import LegacyError
from legacy.graph_files import SessionModel
from legacy.network_script import build, load_script

__all__ = ["keras_of", "load_keras", "load_keras_model"]


def load_keras(request):
    """The model of a Keras file, ready to freeze and to run, always in inference mode."""
    if tf.__version__.startswith("1."):
        return _in_graph(request)
    model, _ = load_keras_model(request)
    return _Traced(model)


def _in_graph(request):
    keras = keras_of(request["source"])
    keras.backend.set_learning_phase(0)  # a Python number, so that no placeholder for it gets into the graph
    model, _ = load_keras_model(request)
    session = keras.backend.get_session()
    inputs = [(name, tensor.name) for name, tensor in _pairs(model.input_names, model.inputs)]
    outputs = [(name, tensor.name) for name, tensor in _pairs(model.output_names, model.outputs)]
    reset = model.reset_states if getattr(model, "stateful", False) else None
    return SessionModel(session, inputs, outputs, reset=reset)


class _Traced:
    """A model of TensorFlow 2, called eagerly for its outputs and traced for its graph."""

    def __init__(self, model):
        from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

        self._model = model
        specs = [
            tf.TensorSpec(tensor.shape, tensor.dtype, f"input_{index}") for index, tensor in enumerate(model.inputs)
        ]
        traced = tf.function(lambda *arguments: tf.nest.flatten(self._call(arguments)))
        # Unlowered, control flow stays While and If operators, which today's converters know.
        self._frozen = convert_variables_to_constants_v2(traced.get_concrete_function(*specs), lower_control_flow=False)
        self.inputs = [(name, tensor.name) for name, tensor in _pairs(model.input_names, self._frozen.inputs)]
        self.outputs = [(name, tensor.name) for name, tensor in _pairs(model.output_names, self._frozen.outputs)]

    def _call(self, arguments):
        return self._model(list(arguments) if len(arguments) > 1 else arguments[0], training=False)

    def graph_def(self):
        return self._frozen.graph.as_graph_def()

    def run(self, feeds, fetches):
        if self._model.stateful:
            self._model.reset_states()
        results = tf.nest.flatten(self._call([tf.constant(feeds[tensor]) for _, tensor in self.inputs]))
        by_tensor = {tensor: result.numpy() for (_, tensor), result in _pairs(self.outputs, results)}
        return [by_tensor[name] for name in fetches]


def _pairs(left, right):
    left, right = list(left), list(right)
    if len(left) != len(right):
        raise ValueError(f"{len(left)} names for {len(right)} tensors")
    return [(left[index], right[index]) for index in range(len(left))]


def load_keras_model(request):
    """(model, keras module), uncompiled: an old optimizer's state is not wanted."""
    source = request["source"]
    with h5py.File(source, "r") as stored:
        config = _text(stored.attrs.get("model_config"))
    keras = keras_of(source)
    script = load_script(request.get("network_script"))
    if config is None:
        return _from_weights(request, script), keras
    if not request.get("trusted") and _lambda_layers(json.loads(config)):
        names = ", ".join(_lambda_layers(json.loads(config))[:3])
        raise LegacyError(
            "UntrustedError",
            f"{source} carries Python bytecode in its Lambda layers ({names}): write `trusted: true` if you know where the file "
            "comes from",
        )
    try:
        return keras.models.load_model(source, custom_objects=_custom_objects(keras, script), compile=False), keras
    except (ValueError, TypeError, EOFError) as error:
        if "marshal" not in str(error):
            raise
        other = "tf2.3" if tf.__version__.startswith("1.") else "tf1.15"
        raise LegacyError(
            "SourceError",
            f"{source}: its Lambda layers hold bytecode of another Python than {platform.python_version()}: "
            f"set toolchain: {other}",
        ) from error


def _from_weights(request, script):
    if script is None or not request.get("network_name"):
        raise LegacyError(
            "ParameterError",
            "{} holds weights only: write network_script and network_name, the Python file and the function in it that "
            "builds the model".format(request["source"]),
        )
    model = build(script, request["network_name"], request.get("network_args"))
    model.load_weights(request["source"])
    return model


def keras_of(source):
    """tf.keras, or, in TensorFlow 1.15 and for its own files, Keras 2.3 ("2.2.4-tf" is tf.keras, "2.3.1" is Keras)."""
    with h5py.File(source, "r") as stored:
        version = _text(stored.attrs.get("keras_version")) or "-tf"
    if tf.__version__.startswith("1.") and not version.endswith("-tf"):
        os.environ["KERAS_BACKEND"] = "tensorflow"
        import keras

        return keras
    return tf.keras


def _text(attribute):
    return attribute.decode("utf-8") if isinstance(attribute, bytes) else attribute


def _lambda_layers(config):
    """Names of Lambda layers that carry bytecode (a marshalled function, not the name of one)."""
    if isinstance(config, list):
        return [name for entry in config for name in _lambda_layers(entry)]
    if not isinstance(config, dict):
        return []
    found = [name for entry in config.values() for name in _lambda_layers(entry)]
    inner = config.get("config")
    if isinstance(inner, dict) and "lambda" in (inner.get("function_type"), inner.get("output_shape_type")):
        found.append(inner.get("name", "unnamed"))
    return found


def _custom_objects(keras, script):
    """What the bytecode of Lambda layers finds by name, as their scripts usually import it, and what network_script defines."""
    objects = {"tf": tf, "np": np, "numpy": np, "math": math, "keras": keras, "K": keras.backend}
    if script is not None:
        objects.update({name: value for name, value in vars(script).items() if callable(value)})
        objects.update(getattr(script, "custom_objects", {}))
    return objects
