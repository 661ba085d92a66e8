"""Large constants leave the graph, and come back when an exporter needs them inside."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from converter.errors import SourceError, UnsupportedError
from converter.hub.weights import STORABLE_DTYPES
from converter.tf.graph.graph import GraphDef, NodeDef
from converter.tf.graph.values import Value, value_of_array

__all__ = ["LARGE", "extract_large_constants", "inline_weights", "refuse_damaged_constants"]

LARGE = 64 * 1024  # bytes; what is smaller may matter to a converter's constant folding, and costs nothing

_PROTO_LIMIT = 2**31 - 1
_STORABLE = {tf.as_dtype(name).as_datatype_enum for name in STORABLE_DTYPES}


def extract_large_constants(graph_def: GraphDef, threshold: int = LARGE) -> dict[str, Value]:
    """Turn, in place, each constant of the main graph with more than `threshold` bytes into a Placeholder.

    Returns the values by node name. Constants inside functions stay, as a body can refer to nothing outside; so do
    those with control inputs, which place them in the frame of a TF1 loop, where a Placeholder cannot be.
    """
    values = {}
    for node in graph_def.node:
        if node.op != "Const" or node.input:
            continue
        proto = node.attr["value"].tensor
        try:
            dtype = tf.dtypes.as_dtype(proto.dtype)
        except TypeError:  # no type at all: TensorFlow says so as it imports the graph
            continue
        shape = tuple(dim.size for dim in proto.tensor_shape.dim)
        if not shape or dtype.name not in STORABLE_DTYPES:
            continue
        if int(np.prod(shape, dtype=np.int64)) * dtype.size <= threshold:
            continue
        array = tf.make_ndarray(proto)
        values[node.name] = value_of_array(node.name, array)
        placeholder(node, values[node.name])
    return values


def refuse_damaged_constants(path: Path, graph_def: GraphDef) -> None:
    """Raise SourceError for a constant of another type than its node's, or with more or fewer bytes than its shape takes.

    TensorFlow (2.21) ends the process over the first, in shape inference.
    """
    bodies = [graph_def.node, *(function.node_def for function in graph_def.library.function)]
    for node in (node for body in bodies for node in body if node.op == "Const"):
        proto, declared = node.attr["value"].tensor, node.attr["dtype"].type
        if declared and proto.dtype and declared != proto.dtype:
            raise SourceError(
                f"{path} is damaged: its constant {node.name} is of another type than its node: copy it again"
            )
        if not proto.tensor_content or proto.dtype not in _STORABLE:
            continue
        size = math.prod(dim.size for dim in proto.tensor_shape.dim) * tf.as_dtype(proto.dtype).size
        if len(proto.tensor_content) != size:
            raise SourceError(
                f"{path} is damaged: its constant {node.name} has {len(proto.tensor_content)} bytes, and its shape takes "
                f"{size}: copy it again"
            )


def placeholder(node: NodeDef, value: Value) -> None:
    """Make `node` the Placeholder of `value`, under its own name."""
    name = node.name
    node.Clear()
    node.name, node.op = name, "Placeholder"
    node.attr["dtype"].type = value.enum
    node.attr["shape"].shape.CopyFrom(tf.TensorShape(value.shape).as_proto())


def inline_weights(graph_def: GraphDef, weights: Mapping[str, np.ndarray], threshold: int | None = None) -> GraphDef:
    """A copy of the graph in which the Placeholders named in `weights` are Const nodes again.

    With a `threshold`, only those of at most that many bytes. Raises UnsupportedError where the graph would pass
    protobuf's limit of 2 GB.
    """
    chosen = [
        node.name
        for node in graph_def.node
        if node.op == "Placeholder"
        and node.name in weights
        and (threshold is None or _nbytes(weights, node.name) <= threshold)
    ]
    total = sum(_nbytes(weights, name) for name in chosen) + graph_def.ByteSize()
    if total > _PROTO_LIMIT:
        raise UnsupportedError(
            f"the graph with its weights takes {total / 2**30:.1f} GB, more than the 2 GB that a Protobuf graph can hold: "
            "choose a target that keeps weights beside the graph, such as .onnx"
        )
    result = GraphDef()
    result.CopyFrom(graph_def)
    names = set(chosen)
    for node in result.node:
        if node.name in names:
            _constant(node, weights[node.name])
    return result


def _nbytes(weights: Mapping[str, np.ndarray], name: str) -> int:
    """The size of a weight, without reading it where the mapping knows (`converter.hub.weights.Weights`)."""
    return weights.nbytes(name) if hasattr(weights, "nbytes") else weights[name].nbytes


def _constant(node: NodeDef, array: np.ndarray) -> None:
    name, array = node.name, np.asarray(array)
    node.Clear()
    node.name, node.op = name, "Const"
    dtype = tf.as_dtype(array.dtype).as_datatype_enum
    node.attr["dtype"].type = dtype
    proto = node.attr["value"].tensor
    proto.dtype = dtype
    proto.tensor_shape.CopyFrom(tf.TensorShape(array.shape).as_proto())
    # tf.make_tensor_proto would build the message apart and copy it in: twice the memory of a large weight.
    proto.tensor_content = np.ascontiguousarray(array).tobytes()
