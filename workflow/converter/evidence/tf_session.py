"""The probe of a graph with loops or branches: tf.gradients in a session, by the weights that are fed into it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from converter.evidence.probe import NoEvidence, Observation, projection, sample
from converter.evidence.tf_graph import cut_opaque, differentiable_normalization, opaque_nodes
from converter.evidence.tf_weights import ACTIVATIONS, START, VALUE, GraphWeights, multiplications
from converter.hub.hub import Run, TensorSpec
from converter.tf.graph.graph import GraphDef, node_name

__all__ = ["SessionProbe"]

_tf1 = tf.compat.v1
_BRANCHES = ("If", "StatelessIf", "Case", "StatelessCase")
_LOOPS = ("While", "StatelessWhile", "Enter")
# As tf_weights.START, for an operator in a loop's body and each time it runs.
_START_IN_LOOP = 6e4


class SessionProbe:
    """See `probe.Probe`. Raises NoEvidence where the graph's loops cannot be told apart."""

    def __init__(
        self, graph_def: GraphDef, weights: GraphWeights, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
    ) -> None:
        self.limits: list[str] = []
        self._inputs, self._outputs = list(inputs), list(outputs)
        self.weights: Mapping[str, np.ndarray] = weights.weights
        self.tables = weights.tables
        self._lookup_names = weights.lookups
        fed = {node.name for node in graph_def.node if node.op != "Const"}
        self._values = {
            f"{name}:0": array for name, array in {**weights.weights, **weights.others}.items() if name in fed
        }
        try:
            self._build(graph_def, functional=False)
        except (LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            # Whatever the gradient of a loop's body meets: without the loops, the rest may still be differentiated.
            if not any(node.op in (*_BRANCHES, *_LOOPS) for node in graph_def.node):
                raise
            self.limits.append(f"no gradient passes its loops and branches ({str(error).splitlines()[0][:120]})")
            self._build(graph_def, functional=True)

    def _build(self, original: GraphDef, functional: bool) -> None:
        graph_def = GraphDef()
        graph_def.CopyFrom(original)
        opaque = opaque_nodes(graph_def, functional)
        differentiable_normalization(graph_def)
        sources = {node.name for node in graph_def.node if not node.input}
        cuts: dict[str, str] = {}
        entering: list[str] = []
        fetched = [spec.tensor for spec in self._outputs]
        if opaque - sources:
            cuts, entering = cut_opaque(graph_def, opaque, sources)
        self._graph = tf.Graph()
        with self._graph.as_default():
            tf.import_graph_def(graph_def, name="")
        self._operations = self._graph.get_operations()
        self._functions, self._opaque = graph_def.library.function, len(opaque)
        self._cuts = [(self._tensor(tensor), self._tensor(f"{name}:0")) for tensor, name in cuts.items()]
        self._lookups = {
            name: [self._tensor(tensor) for tensor in tensors] for name, tensors in self._lookup_names.items()
        }
        starts = self._starts(graph_def, opaque, fetched, entering)
        with self._graph.as_default():
            self._differentiate(starts)
            self._watch(graph_def)
        config = _tf1.ConfigProto(
            intra_op_parallelism_threads=1, inter_op_parallelism_threads=1, use_per_session_threads=True
        )
        # Optimizing a graph that runs a few times costs more than it saves.
        config.graph_options.rewrite_options.disable_meta_optimizer = True
        self._session = _tf1.Session(graph=self._graph, config=config)

    def _tensor(self, name: str) -> tf.Tensor:
        return self._graph.get_tensor_by_name(name if ":" in name else f"{name}:0")

    def _starts(
        self, graph_def: GraphDef, opaque: set[str], fetched: Sequence[str], entering: Sequence[str]
    ) -> list[tuple[tf.Tensor, int | None]]:
        """Where gradients start: (tensor, position of the output that it is, None for inner tensors).

        Outputs; for those that are no floating numbers, such as an argmax, the last tensors before them that are.
        """
        starts: dict[str, int | None] = {}
        pending: list[str] = []
        for position, tensor in enumerate(fetched):
            if self._tensor(tensor).dtype.is_floating and node_name(tensor) not in opaque:
                starts[tensor] = position
            else:
                pending.append(tensor)
        if pending:
            self.limits.append("outputs of whole numbers count by the last floating tensors before them")
        seen = set(pending)
        while pending:
            for source in self._tensor(pending.pop()).op.inputs:
                if source.name in seen:
                    continue
                seen.add(source.name)
                if source.dtype.is_floating and source.op.name not in opaque:
                    starts.setdefault(source.name, None)
                else:
                    pending.append(source.name)
        for tensor in entering:
            starts.setdefault(tensor, None)
        if entering:
            operators = {node.op for node in graph_def.node if node.name in opaque and node.input}
            kinds = ", ".join(sorted(operators & {*_LOOPS, *_BRANCHES, "Switch"}) or sorted(operators)[:3])
            self.limits.append(f"what enters {kinds} counts as an output, since no gradient passes")
        return [(self._tensor(tensor), position) for tensor, position in starts.items()]

    def _differentiate(self, starts: Sequence[tuple[tf.Tensor, int | None]]) -> None:
        self._starts_at = list(starts)
        self._projections = [_tf1.placeholder(tensor.dtype, tensor.shape) for tensor, _ in starts]
        names = list(self.weights)
        gradients: list = [None] * len(names)
        if starts:
            tensors = [tensor for tensor, _ in starts]
            gradients = tf.gradients(tensors, [self._tensor(name) for name in names], grad_ys=self._projections)
        self._gradients: dict[str, object] = {}
        for name, gradient in zip(names, gradients, strict=True):
            if gradient is None:
                continue
            if isinstance(gradient, tf.IndexedSlices) and name not in self.tables:
                gradient = tf.convert_to_tensor(gradient)
            index = sample(self.weights[name].shape)
            sampled = any(part.step is not None for part in index)
            self._gradients[name] = gradient[index] if sampled and isinstance(gradient, tf.Tensor) else gradient

    def _watch(self, graph_def: GraphDef) -> None:
        """What else is fetched with the gradients: rows, sides of branches, ranges of activations."""
        self._sides: dict[str, tuple[tf.Tensor, int]] = {}
        self._ranges: dict[str, tuple[str, tf.Tensor, tf.Tensor]] = {}
        inner = _inside_loops(graph_def)
        predicates: set[str] = set()
        for node in graph_def.node:
            if node.op in _BRANCHES:
                sides = len(node.attr["branches"].list.func) or 2
                self._sides[node.name] = (self._tensor(node.name).op.inputs[0], sides)
            elif node.op in ("Switch", "RefSwitch") and node.name not in inner:
                predicate = self._tensor(node.name).op.inputs[1]
                if predicate.name not in predicates:
                    predicates.add(predicate.name)
                    self._sides[node.name] = (predicate, 2)
            elif node.op in ACTIVATIONS and node.name not in inner:
                tensor = self._tensor(node.name)
                if tensor.shape.rank:
                    axes = list(range(tensor.shape.rank - 1))
                    low = tf.reduce_min(tensor, axes)
                    self._ranges[node.name] = (ACTIVATIONS[node.op], low, tf.reduce_max(tensor, axes))

    def observe(self, run: Run, scales: Sequence[float], seed: int) -> Observation:
        """See `Probe.observe`."""
        feeds = self._feeds(run.inputs)
        if self._cuts or any(position is None for _, position in self._starts_at):
            inner = [tensor for tensor, position in self._starts_at if position is None]
            values = self._first_run([tensor for tensor, _ in self._cuts], inner, feeds)
            feeds |= {placeholder: values[tensor.name] for tensor, placeholder in self._cuts}
        for (tensor, position), placeholder in zip(self._starts_at, self._projections, strict=True):
            array = run.outputs[position] if position is not None else values[tensor.name]
            if position is None:
                largest = float(np.abs(np.asarray(array, np.float32)).max(initial=0.0))
                scale = 1e4 / largest if largest > 0 and math.isfinite(largest) else 0.0
            else:
                scale = scales[position]
            feeds[placeholder] = projection(array, scale, seed).astype(tensor.dtype.as_numpy_dtype)
        fetched = self._session.run(
            {
                "gradients": self._gradients,
                "rows": self._lookups,
                "sides": {name: side for name, (side, _) in self._sides.items()},
                "ranges": {name: entry[1:] for name, entry in self._ranges.items()},
            },
            feeds,
        )
        return Observation(
            {name: self._with_values(name, gradient) for name, gradient in fetched["gradients"].items()},
            {name: np.concatenate([rows.reshape(-1) for rows in all_]) for name, all_ in fetched["rows"].items()},
            {
                name: [(_side(side, self._sides[name][1]), self._sides[name][1])]
                for name, side in fetched["sides"].items()
            },
            {name: (self._ranges[name][0], *entry) for name, entry in fetched["ranges"].items()},
            self._work(run),
            self._start(run),
        )

    def _first_run(self, cuts: list[tf.Tensor], inner: list[tf.Tensor], feeds: dict) -> dict[str, np.ndarray]:
        """Values of cut and inner tensors; a cut that lies behind another one needs that one's value first."""
        values: dict[str, np.ndarray] = {}
        pending = [*cuts, *inner]
        placeholders = {tensor.name: placeholder for tensor, placeholder in self._cuts}
        known = dict(feeds)
        while pending:
            ready = [tensor for tensor in pending if not self._needs(tensor) - values.keys()]
            if not ready:
                raise NoEvidence("its loops and operators without a gradient depend on each other in a circle")
            found = self._session.run({tensor.name: tensor for tensor in ready}, known)
            values |= found
            known |= {placeholders[name]: value for name, value in found.items() if name in placeholders}
            pending = [tensor for tensor in pending if tensor.name not in values]
        return values

    def _needs(self, tensor: tf.Tensor) -> set[str]:
        """The cut tensors whose placeholders a tensor is computed from."""
        by_placeholder = {placeholder.op.name: cut.name for cut, placeholder in self._cuts}
        needed, seen, pending = set(), set(), [tensor.op]
        while pending:
            operation = pending.pop()
            if operation.name in seen:
                continue
            seen.add(operation.name)
            if operation.name in by_placeholder:
                needed.add(by_placeholder[operation.name])
            pending += [source.op for source in operation.inputs]
        return needed

    def _with_values(self, name: str, gradient: Any) -> tuple[np.ndarray, np.ndarray]:
        values = self.weights[name]
        if not isinstance(gradient, np.ndarray):  # an IndexedSlicesValue
            return gradient.values, values[gradient.indices].reshape(gradient.values.shape)
        return gradient, values[sample(values.shape)]

    def _feeds(self, inputs: Sequence[np.ndarray]) -> dict:
        fed = {spec.tensor: array for spec, array in zip(self._inputs, inputs, strict=True)}
        return {**self._values, **fed}

    def outputs(self, inputs: Sequence[np.ndarray], changed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """See `Probe.outputs`."""
        feeds = self._feeds(inputs) | {f"{name}:0": value for name, value in changed.items()}
        if self._cuts:
            values = self._first_run([tensor for tensor, _ in self._cuts], [], feeds)
            feeds |= {placeholder: values[tensor.name] for tensor, placeholder in self._cuts}
        return self._session.run([spec.tensor for spec in self._outputs], feeds)

    def _start(self, run: Run) -> float:
        """A loop is taken to run as often as the longest input has steps."""
        steps = max((size for array in run.inputs for size in array.shape[1:]), default=1)
        bodies = {function.signature.name: len(function.node_def) for function in self._functions}
        inner = sum(
            bodies.get(operation.get_attr("body").name, 0)
            for operation in self._operations
            if operation.type in _LOOPS[:2]
        )
        if any(operation.type == "Enter" for operation in self._operations):
            inner += self._opaque
        return START * len(self._operations) + _START_IN_LOOP * inner * steps

    def _work(self, run: Run) -> float:
        """From the shapes of the graph; a size that is unknown is the largest of the inputs'."""
        batch = max((array.shape[0] for array in run.inputs if array.ndim), default=1)
        unknown = max((size for array in run.inputs for size in array.shape[1:]), default=1)
        total = 0.0
        for operation in self._operations:
            each = VALUE + multiplications(operation.node_def, operation.inputs)
            for tensor in operation.outputs:
                if tensor.shape.rank is None or not tensor.dtype.is_floating:
                    continue
                sizes = tensor.shape.as_list()
                count = math.prod(
                    size if size is not None else batch if axis == 0 else unknown for axis, size in enumerate(sizes)
                )
                total += count * each
            if operation.type in _LOOPS:
                total += unknown * batch * sum(_elements(tensor) for tensor in operation.inputs)
        return total


def _side(value: np.ndarray, sides: int) -> int:
    """What a condition chooses: truth of two sides, or a branch's number, of which the last stands for all others."""
    if np.asarray(value).dtype == bool:
        return int(value)
    number = int(np.asarray(value).reshape(-1)[0]) if np.asarray(value).size else 0
    return number if 0 <= number < sides else sides - 1


def _inside_loops(graph_def: GraphDef) -> set[str]:
    """Names of the nodes inside TF1's loops, whose tensors cannot be fetched."""
    nodes = GraphDef()
    nodes.node.extend(node for node in graph_def.node)
    return opaque_nodes(nodes, False) if any(node.op == "Enter" for node in graph_def.node) else set()


def _elements(tensor: tf.Tensor) -> int:
    """Of a weight's size; 0 where it is unknown or the tensor is no floating one."""
    return tensor.shape.num_elements() or 0 if tensor.dtype.is_floating else 0
