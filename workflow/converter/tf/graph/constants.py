"""Large constants leave the graph: they become placeholders, whose values lie beside it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import tensorflow as tf

from converter.errors import SourceError
from converter.hub.weights import STORABLE_DTYPES
from converter.tf.graph.graph import GraphDef, make_placeholder
from converter.tf.graph.values import Value, value_of_array

__all__ = ["LARGE", "extract_large_constants", "refuse_damaged_constants"]

LARGE = 64 * 1024  # bytes; what is smaller may matter to a converter's constant folding, and costs nothing

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
        make_placeholder(node, values[node.name].enum, values[node.name].shape)
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
