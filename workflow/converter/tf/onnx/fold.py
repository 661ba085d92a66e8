"""Constant folding for weights that are not in the graph.

TensorFlow's grappler folds what is computed from constants alone, and the scales of batch normalizations into the
filters before them. It cannot see the large weights, which are placeholders here, so these two are done for them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, MutableMapping, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.attr_value_pb2 import AttrValue
from tensorflow.python.framework import op_def_registry

from converter.tf.graph.graph import (
    GraphDef,
    NodeDef,
    make_placeholder,
    node_name,
    split_tensor,
    tensor_name,
    unique_name,
)

__all__ = ["fold_weights"]

# Loops of TF1 compute something else in every iteration; fake quantization of weights must stay visible to exporters.
_NEVER_FOLDED = ("Enter", "RefEnter", "Exit", "Switch", "Merge", "NextIteration", "LoopCond", "Placeholder")
_NEVER_FOLDED_PREFIXES = ("FakeQuant", "Quantize", "Dequantize")

# A result may be this many times larger than what it is made from: tiling a row to a huge constant is not a saving.
_LARGEST_GROWTH = 4

_BATCH_BYTES = 64 << 20


class _Constants:
    """Which nodes of a graph (in topological order) depend on nothing but constants and weights."""

    def __init__(self, graph_def: GraphDef, weights: Mapping[str, np.ndarray]) -> None:
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(graph_def, name="")
        self._graph = graph
        self.nodes = {node.name: node for node in graph_def.node}
        self.weighty = set(weights)
        self.constant = set(weights)
        for node in graph_def.node:
            if node.op == "Const":
                self.constant.add(node.name)
            elif self._is_foldable(node):
                self.constant.add(node.name)
                if any(node_name(source) in self.weighty for source in node.input):
                    self.weighty.add(node.name)

    def _is_foldable(self, node: NodeDef) -> bool:
        if node.op in _NEVER_FOLDED or node.op.startswith(_NEVER_FOLDED_PREFIXES):
            return False
        read = _data_inputs(node)
        if not read or not all(node_name(source) in self.constant for source in read):
            return False
        definition = op_def_registry.get(node.op)
        if definition is None or definition.is_stateful:
            return False
        operation = self._graph.get_operation_by_name(node.name)
        sizes = [_nbytes(output) for output in operation.outputs]
        if None in sizes:
            return False
        return sum(sizes) <= _LARGEST_GROWTH * sum(_nbytes(tensor) or 0 for tensor in operation.inputs)

    def add_product(self, node: NodeDef) -> None:
        """A new node that multiplies a weight by a constant."""
        self.nodes[node.name] = node
        self.constant.add(node.name)
        self.weighty.add(node.name)

    def shape(self, tensor: str) -> list[int | None] | None:
        node, index = split_tensor(tensor)
        shape = self._graph.get_operation_by_name(node).outputs[index].shape
        return None if shape.rank is None else shape.as_list()

    def is_plain(self, node: NodeDef) -> bool:
        """A weight itself, or its Identity: nothing to compute."""
        while node.op == "Identity":
            node = self.nodes[node_name(node.input[0])]
        return node.op == "Placeholder"


def _data_inputs(node: NodeDef) -> list[str]:
    """Without control inputs, which order effects: a stateless node's value does not depend on them."""
    return [source for source in node.input if not source.startswith("^")]


def _nbytes(tensor: tf.Tensor) -> int | None:
    if not tensor.shape.is_fully_defined() or tensor.dtype.size == 0 or tensor.dtype in (tf.resource, tf.variant):
        return None
    return math.prod(tensor.shape.as_list()) * tensor.dtype.size


def fold_weights(graph_def: GraphDef, weights: MutableMapping[str, np.ndarray], outputs: Sequence[str]) -> None:
    """Replace, in place, what is computed from weights and constants alone by its value: a further weight.

    `graph_def` in topological order, which is lost; `outputs`: names of nodes whose values must not change. New entries of
    `weights` are arrays in memory, by the name of the node that made them ("name/1" for its second output).
    """
    constants = _Constants(graph_def, weights)
    _push_scales_into_filters(graph_def, constants, outputs)
    wanted: dict[str, str] = {}
    for node in graph_def.node:
        if node.name in constants.constant:
            continue
        for index, source in enumerate(node.input):
            name, port = split_tensor(source)
            if source[0] != "^" and name in constants.weighty and not constants.is_plain(constants.nodes[name]):
                tensor = tensor_name(name, port)
                wanted.setdefault(tensor, name if port == 0 else unique_name(f"{name}/{port}", constants.nodes))
                node.input[index] = wanted[tensor]
    if not wanted:
        return
    for tensor, value in _evaluate(graph_def, constants, weights, list(wanted)):
        name = wanted[tensor]
        node = constants.nodes.get(name)
        if node is None:
            node = graph_def.node.add(name=name)
        make_placeholder(node, tf.as_dtype(value.dtype).as_datatype_enum, value.shape)
        weights[name] = value


def _evaluate(
    graph_def: GraphDef, constants: _Constants, weights: Mapping[str, np.ndarray], tensors: list[str]
) -> Iterator[tuple[str, np.ndarray]]:
    """The values of `tensors`, a few at a time: each run of a session costs some 20 ms, and memory for all that it feeds."""
    subgraph = GraphDef(versions=graph_def.versions)
    subgraph.node.extend(node for node in graph_def.node if node.name in constants.constant)
    for node in subgraph.node:
        node.input[:] = _data_inputs(node)
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(subgraph, name="")
    original = dict(weights)
    sources = {tensor: _sources(constants.nodes, tensor, original) for tensor in tensors}
    with tf.compat.v1.Session(graph=graph) as session:
        batch: list[str] = []
        for position, tensor in enumerate(tensors):
            batch.append(tensor)
            fed = {source for member in batch for source in sources[member]}
            if position + 1 < len(tensors) and sum(original[source].nbytes for source in fed) < _BATCH_BYTES:
                continue
            names = [":".join(map(str, split_tensor(member))) for member in batch]
            values = session.run(names, {f"{source}:0": original[source] for source in fed})
            yield from zip(batch, values, strict=True)
            batch = []


def _push_scales_into_filters(graph_def: GraphDef, constants: _Constants, outputs: Sequence[str]) -> None:
    """Rewrite, in place, convolution * per-channel constant as convolution with (filter * constant).

    Only where the filter is a large weight and nothing else reads the convolution: grappler's MulConvPushDown
    (TensorFlow 2.21) does the same for filters that it sees.
    """
    consumers: dict[str, list[NodeDef]] = {}
    for node in graph_def.node:
        for source in node.input:
            consumers.setdefault(node_name(source), []).append(node)
    for node in list(graph_def.node):
        if node.op not in ("Conv2D", "Conv3D") or node.name in outputs or len(consumers.get(node.name, [])) != 1:
            continue
        (product,) = consumers[node.name]
        if product.op != "Mul" or node_name(node.input[1]) not in constants.weighty:
            continue
        scales = [source for source in product.input if node_name(source) in constants.constant]
        if len(scales) != 1 or not _is_per_channel(node, constants.shape(scales[0]), constants.shape(node.input[1])):
            continue
        dtype = product.attr["T"]
        scaled = graph_def.node.add(name=unique_name(f"{node.name}/scaled_filter", constants.nodes), op="Mul")
        scaled.input.extend([node.input[1], scales[0]])
        scaled.attr["T"].CopyFrom(dtype)
        constants.add_product(scaled)
        node.input[1] = scaled.name
        kept = AttrValue(type=dtype.type)
        product.op = "Identity"
        product.input[:] = [node.name]
        product.ClearField("attr")
        product.attr["T"].CopyFrom(kept)


def _is_per_channel(convolution: NodeDef, scale: list | None, filter_shape: list | None) -> bool:
    """Whether a factor of this shape acts on output channels alone, the last axis of both the result and the filter."""
    if convolution.attr["data_format"].s not in (b"NHWC", b"NDHWC", b"") or scale is None or filter_shape is None:
        return False
    if len(scale) > len(filter_shape):
        return False
    return all(size == 1 for size in scale[:-1]) and (not scale or scale[-1] in (1, filter_shape[-1]))


def _sources(nodes: Mapping[str, NodeDef], tensor: str, weights: Mapping[str, np.ndarray]) -> list[str]:
    """The weights that a tensor is computed from."""
    pending, seen = [node_name(tensor)], {}
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen[name] = name in weights
        if not seen[name]:
            pending += [node_name(source) for source in _data_inputs(nodes[name])]
    return [name for name, is_weight in seen.items() if is_weight]
