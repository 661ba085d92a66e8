"""The weights and tables of a TensorFlow hub's graph, and what its operators cost: the same however the graph is run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from converter.hub.weights import Weights
from converter.tf.graph.graph import GraphDef, NodeDef, canonical, node_name, split_tensor

__all__ = ["ACTIVATIONS", "START", "VALUE", "GraphWeights", "multiplications", "plain_name"]

ACTIVATIONS = {"Relu": "relu", "Relu6": "relu6", "Sigmoid": "sigmoid", "Tanh": "tanh"}
# What an operator costs beside its multiplications, in multiplications: its start, and each value it writes.
START, VALUE = 5e5, 8.0

# Operators that multiply: which input says how often for each value of the output, and by which of its sizes. Depthwise
# convolutions use a processor a quarter as well.
_PRODUCTS = {
    **dict.fromkeys(("Conv2D", "Conv3D"), (1, slice(None, -1))),
    "DepthwiseConv2dNative": (1, slice(None, 2)),
    **dict.fromkeys(("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"), (0, slice(-1, None))),
}


@dataclass
class GraphWeights:
    """weights: floating ones by node name, also those that are constants of the graph, scalars apart. others: the values
    of the other placeholders. lookups: weight -> tensors that hold the rows it is looked up by. tables: weights that are
    used in no other way, with their numbers of rows.
    """

    weights: dict[str, np.ndarray]
    others: dict[str, np.ndarray]
    lookups: dict[str, list[str]]
    tables: dict[str, int]

    @classmethod
    def of(cls, path: Path, graph_def: GraphDef) -> GraphWeights:
        """Of a hub's directory, and of its graph."""
        stored = Weights(path / "weights.safetensors")
        weights = {name: value for name, value in stored.items() if _is_float(value)}
        others = {name: value for name, value in stored.items() if name not in weights}
        for node in graph_def.node:
            is_weight = node.op == "Const" and not node.input and tf.as_dtype(node.attr["dtype"].type).is_floating
            if is_weight and node.attr["value"].tensor.tensor_shape.dim:
                array = tf.make_ndarray(node.attr["value"].tensor)
                if array.size:
                    weights[node.name] = array
        lookups, tables = _tables(graph_def, weights)
        return cls(weights, others, lookups, tables)


def _is_float(array: np.ndarray) -> bool:
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def _tables(graph_def: GraphDef, weights: Mapping[str, np.ndarray]) -> tuple[dict[str, list[str]], dict[str, int]]:
    nodes = {node.name: node for node in graph_def.node}
    readers: dict[str, list[tuple[NodeDef, int]]] = defaultdict(list)
    for node in graph_def.node:
        for position, source in enumerate(node.input):
            readers[node_name(canonical(source.lstrip("^")))].append((node, position))
    lookups: dict[str, list[str]] = {}
    tables: dict[str, int] = {}
    for name, array in weights.items():
        pending, found, otherwise = [name], [], False
        while pending:
            for node, position in readers[pending.pop()]:
                if node.op in ("Identity", "Cast", "StopGradient"):
                    pending.append(node.name)
                elif position == 0 and _looks_up_rows(nodes, node):
                    found.append(plain_name(node.input[1]))
                else:
                    otherwise = True
        if found and not otherwise and array.ndim > 1:
            lookups[name] = found
            tables[name] = len(array)
    return lookups, tables


def _looks_up_rows(nodes: Mapping[str, NodeDef], node: NodeDef) -> bool:
    if node.op == "GatherV2":
        axis = nodes[node_name(node.input[2])]
        return (
            axis.op == "Const"
            and not tf.make_ndarray(axis.attr["value"].tensor).any()
            and node.attr["batch_dims"].i == 0
        )
    return node.op == "Gather"


def plain_name(source: str) -> str:
    """A tensor's name of a node's input: "x:0" for "x"."""
    name, index = split_tensor(source)
    return f"{name}:{index}"


def multiplications(node: NodeDef, inputs: Sequence[tf.Tensor]) -> float:
    """For each value of an operator's output, by the shapes of its inputs; an unknown size counts as 1."""
    if node.op not in _PRODUCTS:
        return 0.0
    position, axes = _PRODUCTS[node.op]
    shape = inputs[position].shape
    if not shape.rank:
        return 0.0
    if node.op == "MatMul" and node.attr["transpose_a"].b:
        axes = slice(-2, -1)
    return float(np.prod([size or 1 for size in shape.as_list()[axes]])) * (4.0 if node.op.startswith("Depth") else 1.0)
