"""A GraphDef with its weights, as bytes, without ever building the protos that hold them.

graph.pb of the hub has a Placeholder for each weight. The wire format of protocol buffers
(https://protobuf.dev/programming-guides/encoding) concatenates: a graph is its serialized nodes one after another, and a
Const node is its small fields followed by its value. So each weight goes from the mapped file straight to its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from converter.errors import UnsupportedError
from converter.file_limits import MAX_BYTES
from converter.tf.graph.protobuf_wire import tag, varint

__all__ = ["graph_pieces", "read_graph", "total_bytes", "write_graph"]


Piece = bytes | memoryview


def read_graph(path: Path) -> tf.compat.v1.GraphDef:
    """The serialized GraphDef in this file; raises protobuf's DecodeError if it is none."""
    graph_def = tf.compat.v1.GraphDef()
    graph_def.ParseFromString(Path(path).read_bytes())
    return graph_def


def graph_pieces(graph_def: tf.compat.v1.GraphDef, weights: Mapping[str, np.ndarray]) -> Iterator[Piece]:
    """The serialized graph, nodes in order, in which each Placeholder named in `weights` is a Const of that value.

    Weights must not be strings. Joined, the pieces are a GraphDef; no piece but a weight is large.
    """
    for node in graph_def.node:
        if node.op == "Placeholder" and node.name in weights:
            yield from _constant_node(node, weights[node.name])
        else:
            serialized = node.SerializeToString(deterministic=True)
            yield _field(1, len(serialized)) + serialized
    rest = tf.compat.v1.GraphDef()
    rest.library.CopyFrom(graph_def.library)
    rest.versions.CopyFrom(graph_def.versions)
    yield rest.SerializeToString(deterministic=True)


def total_bytes(graph_def: tf.compat.v1.GraphDef, weights: Mapping[str, np.ndarray]) -> int:
    """The size of the graph with its weights, a little more than the sum of both."""
    return graph_def.ByteSize() + sum(
        weights[node.name].nbytes + 64 for node in graph_def.node if node.op == "Placeholder" and node.name in weights
    )


def write_graph(path: Path, graph_def: tf.compat.v1.GraphDef, weights: Mapping[str, np.ndarray]) -> None:
    """Stream the graph to `path`; memory stays near the largest single weight. Raises UnsupportedError above 2 GB."""
    size = total_bytes(graph_def, weights)
    if size > MAX_BYTES:
        raise UnsupportedError(
            f"the graph with its weights takes {size / 1e9:.1f} GB, and a Protobuf file holds at most 2 GB: "
            "write frozen: false, or ask for an .onnx file"
        )
    with open(path, "wb") as file:
        for piece in graph_pieces(graph_def, weights):
            file.write(piece)


def _constant_node(node: tf.compat.v1.NodeDef, value: np.ndarray) -> Iterator[Piece]:
    """NodeDef: name = 1, op = 2, attr = 5, a map entry with key = 1 and value = 2; AttrValue: tensor = 8."""
    small = tf.compat.v1.NodeDef(name=node.name, op="Const", input=[i for i in node.input if i.startswith("^")])
    dtype = node.attr["dtype"].type
    small.attr["dtype"].type = dtype
    tensor = tf.compat.v1.TensorShape(value.shape).as_proto()
    header = _tensor_header(dtype, tensor.SerializeToString(deterministic=True))
    content = _field(4, value.nbytes)
    tensor_size = len(header) + len(content) + value.nbytes
    attr_value = _field(8, tensor_size)
    attr_value_field = _field(2, len(attr_value) + tensor_size)
    key = _field(1, len(b"value")) + b"value"
    entry_size = len(key) + len(attr_value_field) + len(attr_value) + tensor_size
    entry = _field(5, entry_size)
    serialized = small.SerializeToString(deterministic=True)
    yield b"".join(
        [
            _field(1, len(serialized) + len(entry) + entry_size),
            serialized,
            entry,
            key,
            attr_value_field,
            attr_value,
            header,
            content,
        ]
    )
    if value.nbytes:
        yield np.ascontiguousarray(value).reshape(-1).view(np.uint8).data


def _tensor_header(dtype: int, shape: bytes) -> bytes:
    """TensorProto: dtype = 1 (a varint), tensor_shape = 2; its bytes follow as tensor_content = 4."""
    return b"\x08" + varint(dtype) + _field(2, len(shape)) + shape


def _field(number: int, length: int) -> bytes:
    """Tag and length of a length-delimited field."""
    return tag(number) + varint(length)
