"""Helpers for loops with stacked time steps, a tensor (T, ...): nodes for a graph or for a function's body."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from converter.tf.graph.graph import NodeDef, unique_name

__all__ = ["NodeWriter", "become", "length_of", "read_step", "unknown_one", "write_step", "zeros"]

_FIRST_OUTPUT = {"Minimum": "z", "Equal": "z"}


class NodeWriter:
    """Adds nodes to the graph, or to one function, and knows how one node refers to another there.

    `after`: a node of the loop's frame that added constants must wait for; in a TF1 loop a constant without inputs
    would lie outside the loop.
    """

    def __init__(self, nodes: Any, *, is_function: bool = False) -> None:
        self.nodes, self.is_function = nodes, is_function
        self.by_name = {node.name: node for node in nodes}
        self.after: str | None = None

    def add(self, name: str, op: str, inputs: Sequence[str], **attributes: object) -> str:
        """Add a node; returns how its first output is written as an input here."""
        node = self.nodes.add()
        node.name = unique_name(name, self.by_name)
        self.by_name[node.name] = node
        become(node, op, inputs, **attributes)
        return f"{node.name}:{_FIRST_OUTPUT.get(op, 'output')}:0" if self.is_function else node.name

    def constant(self, name: str, value: object, dtype: tf.DType = tf.int32) -> str:
        """Add a Const node of this value; returns its tensor."""
        source = self.add(name, "Const", [f"^{self.after}"] if self.after else [], dtype=dtype)
        self.by_name[source.partition(":")[0]].attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, dtype))
        return source


def become(node: NodeDef, op: str, inputs: Sequence[str], **attributes: object) -> None:
    """Make `node` another operator under its own name; attributes are dtypes and integers."""
    name = node.name
    node.Clear()
    node.name, node.op = name, op
    node.input.extend(inputs)
    for key, value in attributes.items():
        if isinstance(value, tf.DType):
            node.attr[key].type = value.as_datatype_enum
        else:
            node.attr[key].i = value


def length_of(writer: NodeWriter, name: str, source: str, dtype: tf.DType) -> str:
    """The size of dimension 0, a scalar."""
    shape = writer.add(f"{name}/shape", "Shape", [source], T=dtype, out_type=tf.int32)
    first, axis = writer.constant(f"{name}/first", 0), writer.constant(f"{name}/axis", 0)
    types = {"Tparams": tf.int32, "Tindices": tf.int32, "Taxis": tf.int32}
    return writer.add(f"{name}/length", "GatherV2", [shape, first, axis], **types, batch_dims=0)


def unknown_one(writer: NodeWriter, batched_input: str) -> str:
    """A 1 that the converter cannot fold, min(N, 1): a static 1 would become the static shape of the whole loop."""
    dtype = tf.dtypes.as_dtype(writer.by_name[batched_input].attr["dtype"].type)
    shape = writer.add("unknown_one/shape", "Shape", [batched_input], T=dtype, out_type=tf.int32)
    first, one = writer.constant("unknown_one/first", [0]), writer.constant("unknown_one/one", [1])
    batch = writer.add("unknown_one/batch", "Slice", [shape, first, one], T=tf.int32, Index=tf.int32)
    return writer.add("unknown_one", "Minimum", [batch, one], T=tf.int32)


def zeros(
    writer: NodeWriter, node: NodeDef, length: str, element: Sequence[int | None], dtype: tf.DType, batched_input: str
) -> None:
    """Make `node` zeros (length, *element), an unknown dimension as 1: the first step that is written broadcasts it.

    `batched_input`, needed for unknown dimensions only: an input of the graph whose dimension 0 is unknown.
    """
    name = node.name
    axis = writer.constant(f"{name}/axis", 0)
    sizes = [writer.add(f"{name}/length", "ExpandDims", [length, axis], T=tf.int32, Tdim=tf.int32)]
    for position, size in enumerate(element):
        known = size is not None and size >= 0
        sizes.append(writer.constant(f"{name}/dim{position}", [size]) if known else unknown_one(writer, batched_input))
    dims = writer.add(f"{name}/dims", "ConcatV2", [*sizes, axis], T=tf.int32, Tidx=tf.int32, N=len(sizes))
    zero = writer.constant(f"{name}/zero", np.zeros((), dtype.as_numpy_dtype), dtype)
    become(node, "Fill", [dims, zero], T=dtype, index_type=tf.int32)


def read_step(writer: NodeWriter, node: NodeDef, source: str, index: str, dtype: tf.DType) -> None:
    """Make `node` source[index]."""
    axis = writer.constant(f"{node.name}/axis", 0)
    types = {"Tparams": dtype, "Tindices": tf.int32, "Taxis": tf.int32}
    become(node, "GatherV2", [source, index, axis], **types, batch_dims=0)


def write_step(
    writer: NodeWriter, node: NodeDef, source: str, index: str, item: str, rank: int, dtype: tf.DType
) -> None:
    """Make `node` the source with `item`, of this rank, at `index`: where(range(T) == index, item, source)."""
    name = node.name
    length = length_of(writer, name, source, dtype)
    zero, one = writer.constant(f"{name}/zero", 0), writer.constant(f"{name}/one", 1)
    steps = writer.add(f"{name}/steps", "Range", [zero, length, one], Tidx=tf.int32)
    here = writer.add(f"{name}/here", "Equal", [steps, index], T=tf.int32)
    column = writer.constant(f"{name}/column", [-1, *[1] * rank])
    mask = writer.add(f"{name}/mask", "Reshape", [here, column], T=tf.bool, Tshape=tf.int32)
    row = writer.add(f"{name}/row", "ExpandDims", [item, zero], T=dtype, Tdim=tf.int32)
    become(node, "SelectV2", [mask, row, source], T=dtype)
