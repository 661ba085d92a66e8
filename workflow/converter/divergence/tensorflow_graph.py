"""The operators and intermediate values of a TensorFlow hub's graph."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from converter.divergence.computation import Computation, Operator
from converter.divergence.control_flow import in_order, inside, read_by_loops
from converter.hub.hub import Hub
from converter.tf.runtime.run_hub import open_session

__all__ = ["TensorFlowComputation", "layer_names"]

_SIZES = ("Shape", "ShapeN", "Size", "Rank")
_CALL = re.compile(r"(Stateful)?PartitionedCall(_\d+|_call)*$")  # what an inlined function leaves in front of its nodes
_COUNTER = re.compile(r"_\d+$")
_AT_ONCE = 64  # tensors in memory together


class TensorFlowComputation(Computation):
    """Loops and branches are one operator each: what happens within them cannot be fetched (TensorFlow 2.21)."""

    def __init__(self, hub: Hub) -> None:
        """Raises UnsupportedError where the graph refers to tables."""
        self._session, self._weights = open_session(hub, rewritten=False)
        graph = self._session.graph
        self.inputs = [spec.tensor for spec in hub.inputs]
        self.outputs = [spec.tensor for spec in hub.outputs]
        loops = read_by_loops(graph)
        order = in_order(graph, loops)
        hidden = inside(order)
        layers = layer_names([op.name for op in order], self._weights, drop_model=hub.source.get("format") == "keras")
        reaches: dict[str, tuple[str, ...]] = {}  # tensors within loops and branches: what flows into them from outside
        self.operators = []
        for op in order:
            read = loops.get(op, op.inputs)
            inputs = tuple(dict.fromkeys(n for x in read for n in reaches.get(x.name, (x.name,))))
            outputs = tuple(x.name for x in op.outputs)
            if op in hidden:
                reaches |= dict.fromkeys(outputs, inputs)
            elif outputs and f"{op.name}:0" not in self.inputs:
                sizes = op.type in _SIZES
                self.operators.append(Operator(op.type, inputs, outputs, layers[op.name], sizes_only=sizes))
        self._numeric = {
            x.name
            for op in order
            if op not in hidden
            for x in op.outputs
            if x.dtype.is_floating or x.dtype.is_integer or x.dtype.is_bool or x.dtype.is_complex
        }

    def values(self, arrays: Sequence[np.ndarray], names: Collection[str]) -> Iterator[tuple[str, np.ndarray]]:
        """See `Computation.values`; fetched from TensorFlow some tensors at a time."""
        feeds = dict(zip(self.inputs, arrays, strict=True))
        wanted = [name for name in names if name in self._numeric]
        for start in range(0, len(wanted), _AT_ONCE):
            chunk = wanted[start : start + _AT_ONCE]
            fed = {f"{name}:0": value for name, value in self._weights.items()}
            yield from zip(chunk, map(np.asarray, self._session.run(chunk, {**fed, **feeds})), strict=True)


def layer_names(nodes: Sequence[str], weights: Collection[str], *, drop_model: bool) -> dict[str, str | None]:
    """The layer of each node, by the scopes in its name; the innermost scope that owns weights, if one does.

    Keras 3 traces a model anew under its name with a counter ("digits_1/conv1_1/convolution"), which its variables
    ("digits/conv1/kernel", or "conv1/kernel" of a layer built before its model) lack.
    `drop_model`: leave out the first scope, a Keras model's own name.
    What TensorFlow puts in front of the nodes of an inlined function is no scope of the model.
    """
    owners = {name.rpartition("/")[0] for name in weights} - {""}
    roots = {owner.partition("/")[0] for owner in owners}
    scopes = {node: [part for part in node.split("/")[:-1] if not _CALL.match(part)] for node in nodes}
    counted = {
        scope[0]
        for scope in scopes.values()
        if scope and _owner(scope, owners) is None and _owner([_COUNTER.sub("", part) for part in scope], owners)
    }
    found: dict[str, str | None] = {}
    for node, scope in scopes.items():
        if scope and scope[0] in counted:
            model, *scope = [_COUNTER.sub("", part) for part in scope]
            scope = [model, *scope] if model in roots or not scope else scope
        layer = _owner(scope, owners) or scope
        layer = layer[1:] if drop_model and len(layer) > 1 and layer[0] == scope[0] else layer
        found[node] = "/".join(layer) or None
    return found


def _owner(scope: Sequence[str], owners: Collection[str]) -> list[str] | None:
    """The longest leading part of the scope, with or without the model's own, that holds weights."""
    for end in range(len(scope), 0, -1):
        for start in (0, 1):
            if "/".join(scope[start:end]) in owners:
                return list(scope[start:end])
    return None
