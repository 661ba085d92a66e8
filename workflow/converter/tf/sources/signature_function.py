"""A signature of a TensorFlow 2 SavedModel as a traced function: its inputs and outputs in their author's order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from converter.hub.hub import TensorSpec
from converter.tf.sources.freeze import dtype_name, shape_tuple

__all__ = ["run_function", "signature_inputs", "signature_outputs"]

_CALLS = ("StatefulPartitionedCall", "PartitionedCall")


def signature_inputs(function: tf.types.experimental.ConcreteFunction) -> list[TensorSpec]:
    """The signature's inputs, named by its keys.

    A signature is a mapping and has no order; but its function does nothing except call the author's function, whose
    arguments have one.
    """
    keys = sorted(function.structured_input_signature[1])
    tensors = {tensor.name: tensor for tensor in function.inputs}
    specs = []
    for key, tensor in zip(keys, function.inputs, strict=False):
        tensor = tensors.get(f"{key}:0", tensor)
        specs.append(TensorSpec(key, shape_tuple(tensor.shape), dtype_name(tensor.dtype), tensor.name))
    return sorted(specs, key=lambda spec: _argument_position(function.graph, spec.tensor))


def _argument_position(graph: tf.Graph, tensor: str) -> int:
    for operation in graph.get_tensor_by_name(tensor).consumers():
        if operation.type in _CALLS:
            return [source.name for source in operation.inputs].index(tensor)
    return len(graph.inputs)  # unused, or no call: after the others, in the order of the keys


def signature_outputs(function: tf.types.experimental.ConcreteFunction) -> list[TensorSpec]:
    """The signature's outputs, named by its keys, in the order of the author's results."""
    keys = sorted(function.structured_outputs)
    specs = [
        TensorSpec(key, shape_tuple(tensor.shape), dtype_name(tensor.dtype), tensor.name)
        for key, tensor in zip(keys, function.outputs, strict=True)
    ]
    return sorted(specs, key=lambda spec: _result_position(function.graph, spec.tensor))


def _result_position(graph: tf.Graph, tensor: str) -> int:
    source = graph.get_tensor_by_name(tensor)
    while source.op.type == "Identity":
        source = source.op.inputs[0]
    return source.value_index if source.op.type in _CALLS else len(graph.outputs)


def run_function(
    function: tf.types.experimental.ConcreteFunction,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    arrays: Sequence[np.ndarray],
) -> list[np.ndarray]:
    """Call the signature by its keys."""
    feeds = {spec.name: tf.constant(array) for spec, array in zip(inputs, arrays, strict=True)}
    results = function(**feeds)
    return [results[spec.name].numpy() for spec in outputs]
