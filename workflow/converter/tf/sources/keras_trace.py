"""One trace of a Keras model: what freezing, the reference and the direct route all work from."""

from __future__ import annotations

from dataclasses import replace

import tensorflow as tf

from converter.contracts import ImportSpec
from converter.errors import SourceError
from converter.hub.hub import TensorSpec
from converter.tf.graph.errors import reason
from converter.tf.graph.graph import unique_name, valid_node_name
from converter.tf.sources.freeze import dtype_name, shape_tuple
from converter.tf.sources.keras_signature import KerasCall
from converter.wording import shape_text

__all__ = ["trace"]


def trace(
    spec: ImportSpec, call: KerasCall
) -> tuple[tf.types.experimental.ConcreteFunction, list[TensorSpec], list[TensorSpec]]:
    """(function, inputs, outputs): the model as a function of flat tensors; `tensor` of the specs names its graph's.

    Raises SourceError where the model cannot be called with its shapes.
    """
    results: list[object] = []

    def model(*arrays: tf.Tensor) -> list[tf.Tensor]:
        results.append(call.call(arrays))
        return call.flatten(results[-1])

    taken: set[str] = set()
    signature = []
    for entry in call.inputs:
        argument = unique_name(valid_node_name(entry.name).replace("/", "_"), taken)
        taken.add(argument)
        signature.append(tf.TensorSpec(entry.shape, tf.as_dtype(entry.dtype), name=argument))
    try:
        function = tf.function(model, input_signature=signature).get_concrete_function()
    except Exception as error:  # anything at all, from layers' code
        shapes = ", ".join(f"{entry.name} {shape_text(entry.shape)}" for entry in call.inputs)
        raise SourceError(f"{spec.source}: the model cannot be called with {shapes}: {reason(error)}") from error
    inputs = [replace(entry, tensor=tensor.name) for entry, tensor in zip(call.inputs, function.inputs, strict=False)]
    outputs = [
        TensorSpec(name, shape_tuple(tensor.shape), dtype_name(tensor.dtype), tensor.name)
        for name, tensor in zip(call.output_names(results[-1]), function.outputs, strict=True)
    ]
    return function, inputs, outputs
