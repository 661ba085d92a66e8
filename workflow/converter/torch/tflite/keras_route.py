"""A PyTorch hub as a TensorFlow hub, by way of a Keras model: the other way to TensorFlow Lite."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from converter.hub.hub import Hub, Run, TensorSpec

__all__ = ["tensorflow_hub"]


def tensorflow_hub(hub: Hub, program: torch.export.ExportedProgram, folder: Path, *, channels_last: bool) -> Hub:
    """Write graph.pb, weights.safetensors and reference.npz into `folder`; reference and shapes are in the file's layout.

    Raises UnsupportedError that names an operator without a Keras counterpart.
    """
    import keras
    import tensorflow as tf

    from converter.tf.sources.freeze import freeze_function
    from converter.torch_to_keras.build import build_keras_model
    from converter.torch_to_keras.names import layer_names

    input_names, output_names = layer_names(hub.inputs, hub.outputs)
    conversion = build_keras_model(program, input_names, output_names, channels_last=channels_last, for_tensorflow=True)
    model = conversion.model
    own = dict(zip([*input_names, *output_names], [spec.name for spec in (*hub.inputs, *hub.outputs)], strict=True))
    permutations = {**conversion.input_permutations, **conversion.output_permutations}
    orders = {own[name]: order for name, order in permutations.items()}

    @tf.function
    def call(*tensors: tf.Tensor) -> list[tf.Tensor]:
        # Identities keep the outputs apart where two of them are one tensor, or an input.
        results = model(list(tensors) if len(tensors) > 1 else tensors[0], training=False)
        return [tf.identity(y) for y in keras.tree.flatten(results)]

    signature = [
        tf.TensorSpec(_reordered(spec, orders).shape, spec.dtype, name=f"input_{index}")
        for index, spec in enumerate(hub.inputs)
    ]
    function = call.get_concrete_function(*signature)
    inputs = [
        TensorSpec(spec.name, _reordered(spec, orders).shape, spec.dtype, tensor.name)
        for spec, tensor in zip(hub.inputs, function.inputs[: len(hub.inputs)], strict=True)
    ]
    outputs = [
        TensorSpec(spec.name, _reordered(spec, orders).shape, spec.dtype, tensor.name)
        for spec, tensor in zip(hub.outputs, function.outputs, strict=True)
    ]
    frozen = freeze_function(function, inputs, outputs, folder)
    converted = Hub(
        path=folder,
        framework="tensorflow",
        inputs=frozen.inputs,
        outputs=frozen.outputs,
        batch_dynamic=hub.batch_dynamic,
        notes=list(conversion.notes),
        source=hub.source,
        versions=hub.versions,
    )
    converted.write_reference([_reordered_run(hub, run, orders) for run in hub.reference()])
    return converted


def _reordered(spec: TensorSpec, orders: Mapping[str, tuple[int, ...]]) -> TensorSpec:
    order = orders.get(spec.name)
    shape = spec.shape if order is None else tuple(spec.shape[axis] for axis in order)
    return TensorSpec(spec.name, shape, spec.dtype)


def _reordered_run(hub: Hub, run: Run, orders: Mapping[str, tuple[int, ...]]) -> Run:
    def reordered(spec: TensorSpec, array: np.ndarray) -> np.ndarray:
        order = orders.get(spec.name)
        return array if order is None else np.ascontiguousarray(array.transpose(order))

    return Run(
        [reordered(spec, array) for spec, array in zip(hub.inputs, run.inputs, strict=True)],
        [reordered(spec, array) for spec, array in zip(hub.outputs, run.outputs, strict=True)],
        run.kind,
    )
