"""Hubs of small TensorFlow functions, for the tests of the exporters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from converter.hub.hub import Hub, TensorSpec
from converter.hub.reference import make_reference
from converter.hub.weights import Weights, write_weights
from converter.tf.sources.freeze import freeze_function


def make_hub(
    path: Path,
    function: Callable,
    specs: Sequence[tf.TensorSpec],
    outputs: Sequence[str],
    *,
    batch_dynamic: bool = True,
    samples: int = 4,
    module: tf.Module | None = None,
) -> Hub:
    """The hub of `function(*arrays)`, whose flattened results are named `outputs`. `module` keeps its variables alive."""
    concrete = tf.function(function, input_signature=list(specs), autograph=False).get_concrete_function()
    ins = [
        TensorSpec(spec.name, tuple(spec.shape.as_list()), dtype_name(spec.dtype), tensor.name)
        for spec, tensor in zip(specs, concrete.inputs, strict=False)
    ]
    outs = [
        TensorSpec(name, None, dtype_name(tensor.dtype), tensor.name)
        for name, tensor in zip(outputs, concrete.outputs, strict=True)
    ]
    frozen = freeze_function(concrete, ins, outs, path)

    def run(arrays: list[np.ndarray]) -> list[np.ndarray]:
        return [t.numpy() for t in tf.nest.flatten(concrete(*[tf.constant(array) for array in arrays]))]

    hub = Hub(path, "tensorflow", frozen.inputs, frozen.outputs, batch_dynamic, extra={"variables": frozen.variables})
    hub.write_reference(make_reference(frozen.inputs, batch_dynamic, run, samples=samples))
    hub.write()
    return Hub.read(path)


def dtype_name(dtype: tf.DType) -> str:
    return "string" if dtype == tf.string else dtype.name


def perturb(hub: Hub, name: str, factor: float = 1.01) -> None:
    """Scale one of the hub's weights, as a faulty exporter might."""
    stored = Weights(hub.path / "weights.safetensors")
    arrays = {key: np.array(stored[key]) for key in stored}
    arrays[name] = (arrays[name] * factor).astype(arrays[name].dtype)
    write_weights(hub.path / "weights.safetensors", arrays)


def dense(rng: np.random.Generator, *shape: int) -> tf.Variable:
    """Weights scaled so that signals keep their size."""
    return tf.Variable((rng.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))).astype(np.float32))
