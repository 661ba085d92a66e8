"""The probe of a TensorFlow hub: its graph under a tape, or, with loops and branches, in a session."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.framework import ops

from converter.evidence.probe import SAMPLED, NoEvidence, Observation, Probe, projection, sample
from converter.evidence.tf_eager import EagerGraph, is_plain
from converter.evidence.tf_session import SessionProbe
from converter.evidence.tf_weights import ACTIVATIONS, START, VALUE, GraphWeights, multiplications
from converter.hub.hub import Run, TensorSpec
from converter.tf.graph.graph import GraphDef, NodeDef

__all__ = ["TapeProbe", "tensorflow_probe"]


def tensorflow_probe(
    path: Path,
    graph_def: GraphDef,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    resources: Sequence[str],
) -> Probe:
    """The probe of the hub in `path`. Raises NoEvidence where the graph cannot be run from its files."""
    if resources:
        raise NoEvidence(f"the graph refers to tables ({', '.join(resources[:3])}), which only its source can run")
    graph_def = _with_own_gradients(graph_def)
    weights = GraphWeights.of(path, graph_def)
    probe = TapeProbe if is_plain(graph_def) else SessionProbe
    return probe(graph_def, weights, inputs, outputs)


def _with_own_gradients(graph_def: GraphDef) -> GraphDef:
    """Each operator with the gradient of its kind: the name of another one, which a file may give, is mostly not known here,
    and what it computes is up to the file.
    """
    plain = GraphDef()
    plain.CopyFrom(graph_def)
    for body in (plain.node, *(function.node_def for function in plain.library.function)):
        for node in body:
            node.attr.pop("_gradient_op_type", None)
    return plain


class TapeProbe:
    """See `probe.Probe`."""

    def __init__(
        self, graph_def: GraphDef, weights: GraphWeights, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
    ) -> None:
        self.limits: list[str] = []
        self.weights: Mapping[str, np.ndarray] = weights.weights
        self.tables = weights.tables
        self._lookups = weights.lookups
        self._inputs = [spec.tensor for spec in inputs]
        self._outputs = [spec.tensor for spec in outputs]
        self._graph = EagerGraph(graph_def, [*weights.weights, *weights.others], self._outputs)
        # Where gradients start: tensor -> position of the output that it is, None for inner tensors.
        floating = {spec.tensor: position for position, spec in enumerate(outputs) if _is_floating(spec)}
        whole = self._graph.last_floating(self._outputs)
        if whole:
            self.limits.append("outputs of whole numbers count by the last floating tensors before them")
        entering = self._graph.entering()
        if entering:
            self.limits.append("what enters an operator without a gradient counts as an output")
        self._starts: dict[str, int | None] = {**dict.fromkeys([*entering, *whole]), **floating}
        context.ensure_initialized()  # sources that run in sessions have not; `_uncopied` does not
        with context.eager_mode():
            arrays = {**weights.weights, **weights.others}
            self._values = {f"{name}:0": _uncopied(array) for name, array in arrays.items()}

    def observe(self, run: Run, scales: Sequence[float], seed: int) -> Observation:
        """See `Probe.observe`."""
        seen = Observation(start=START * len(self._graph))
        kept = {*self._starts, *(tensor for tensors in self._lookups.values() for tensor in tensors)}
        with context.eager_mode():
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                sources = [self._values[f"{name}:0"] for name in self.weights]
                tape.watch(sources)
                tapped = {f"{name}:0": self._tapped(name, seen) for name in self.weights if self._is_large(name)}
                feeds = {**self._feeds(run.inputs), **tapped}
                values = self._graph.run(feeds, kept, tape, lambda *step: _watch(seen, *step))
            del feeds, tapped
            starts = [values[name] for name in self._starts]
            signs = [
                self._signs(tensor, position, scales, seed)
                for tensor, position in zip(starts, self._starts.values(), strict=True)
            ]
            gradients = tape.gradient(starts, sources, signs) if starts else []
            for name, gradient in zip(self.weights, gradients, strict=False):
                if gradient is not None:
                    seen.gradients[name] = self._with_values(name, gradient)
        for name, tensors in self._lookups.items():
            seen.rows[name] = np.concatenate([values[tensor].numpy().reshape(-1) for tensor in tensors])
        return seen

    def _is_large(self, name: str) -> bool:
        return self.weights[name].size > SAMPLED

    def _tapped(self, name: str, seen: Observation) -> tf.Tensor:
        """A weight whose gradient is sampled as it comes: those of all weights together are as large as the model."""

        @tf.custom_gradient
        def tap(value: tf.Tensor) -> tuple[tf.Tensor, Callable]:
            def gradient(incoming: tf.Tensor | tf.IndexedSlices) -> None:
                seen.gradients[name] = self._with_values(name, incoming)

            return tf.identity(value), gradient

        return tap(self._values[f"{name}:0"])

    def _signs(self, tensor: tf.Tensor, position: int | None, scales: Sequence[float], seed: int) -> tf.Tensor:
        array = tensor.numpy()
        if position is None:
            largest = float(np.abs(array.astype(np.float32)).max(initial=0.0))
            scale = 1e4 / largest if largest > 0 and math.isfinite(largest) else 0.0
        else:
            scale = scales[position]
        return tf.constant(projection(array, scale, seed))

    def _with_values(self, name: str, gradient: tf.Tensor | tf.IndexedSlices) -> tuple[np.ndarray, np.ndarray]:
        values = self.weights[name]
        if isinstance(gradient, tf.IndexedSlices) and name in self.tables:
            rows = gradient.indices.numpy()
            return gradient.values.numpy(), values[rows].reshape(gradient.values.shape)
        index = sample(values.shape)
        return tf.convert_to_tensor(gradient)[index].numpy(), values[index]  # numpy() copies: the sample only

    def _feeds(self, inputs: Sequence[np.ndarray]) -> dict[str, tf.Tensor]:
        fed = {name: tf.constant(array) for name, array in zip(self._inputs, inputs, strict=True)}
        return {**self._values, **fed}

    def outputs(self, inputs: Sequence[np.ndarray], changed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """See `Probe.outputs`."""
        with context.eager_mode():
            feeds = self._feeds(inputs) | {f"{name}:0": tf.constant(array) for name, array in changed.items()}
            values = self._graph.run(feeds, self._outputs)
            return [values[name].numpy() for name in self._outputs]


def _uncopied(array: np.ndarray) -> tf.Tensor:
    """A mapped array as a tensor of the same memory, where its place there is a multiple of 64 bytes.

    tf.constant always copies: a second time the weights, and in memory (TensorFlow 2.21).
    """
    return ops.EagerTensor(np.asarray(array).view(np.ndarray), context.context().device_name, None)


def _is_floating(spec: TensorSpec) -> bool:
    return spec.dtype.startswith(("float", "bfloat"))


def _watch(seen: Observation, node: NodeDef, inputs: list[tf.Tensor], outputs: list[tf.Tensor]) -> None:
    """Ranges of activations, and the work of a run."""
    if outputs and outputs[0].dtype.is_floating:
        each = VALUE + multiplications(node, inputs)
        seen.work += sum(each * output.shape.num_elements() for output in outputs)
    if node.op in ACTIVATIONS and outputs[0].shape.rank and outputs[0].shape.num_elements():
        array = outputs[0].numpy().astype(np.float32, copy=False).reshape(-1, outputs[0].shape[-1])
        seen.ranges[node.name] = (ACTIVATIONS[node.op], array.min(0), array.max(0))
