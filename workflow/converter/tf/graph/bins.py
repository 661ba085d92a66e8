"""Bucketize and DenseBincount, which tf2onnx and the TFLite converter do not have or hardly, as comparisons and sums."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from converter.tf.graph.graph import GraphDef, NodeDef, node_name
from converter.tf.graph.rewrite import Emitter, replace_operators

__all__ = ["expand_bins"]


def expand_bins(graph_def: GraphDef) -> None:
    """Replace both, in place, in the graph and in its functions; a count of unknown length stays."""
    replace_operators(graph_def, {"Bucketize": _bucketize})
    sizes = _constant_sizes(graph_def)

    def count(node: NodeDef, emit: Emitter, value: Callable) -> tuple[str, tf.DType] | None:
        return _bincount(node, emit, value, sizes.get(node.name))

    replace_operators(graph_def, {"DenseBincount": count})


def _bucketize(node: NodeDef, emit: Emitter, value: Callable) -> tuple[str, tf.DType]:
    """The number of edges that are not above the value; of NaN, as TensorFlow has it, all of them."""
    dtype, edges = tf.as_dtype(node.attr["T"].type), list(node.attr["boundaries"].list.f)
    tensor = node.input[0]
    if dtype.is_integer:  # TensorFlow compares integers as float32 with its edges
        tensor, dtype = emit("Cast", tensor, SrcT=dtype, DstT=tf.float32), tf.float32
    column = emit("ExpandDims", tensor, emit.const(-1, tf.int32), T=dtype, Tdim=tf.int32)
    below = emit("Less", column, emit.const(edges, dtype), T=dtype)
    # Not "at or above", which NaN is not either, nor the negation of "below", which converters take for that.
    short = emit("Cast", below, SrcT=tf.bool, DstT=tf.int32)
    count = emit("Sum", short, emit.const(-1, tf.int32), T=tf.int32, Tidx=tf.int32, keep_dims=False)
    return emit("Sub", emit.const(len(edges), tf.int32), count, T=tf.int32), tf.int32


def _bincount(node: NodeDef, emit: Emitter, value: Callable, size: int | None) -> tuple[str, tf.DType] | None:
    """The sum over the last axis of one row with a one, or its weight, for each number; numbers beyond the end give none."""
    weights = value(node.input[2])
    given = value(node.input[1])
    size = int(given) if given is not None else size
    if size is None or weights is None or weights.size:
        return None
    index, dtype = tf.as_dtype(node.attr["Tidx"].type), tf.as_dtype(node.attr["T"].type)
    # Sums of ones are exact in float32 up to 2^24, and every target has them.
    depth, one, zero = emit.const(size, tf.int32), emit.const(1.0, tf.float32), emit.const(0.0, tf.float32)
    rows = emit("OneHot", node.input[0], depth, one, zero, T=tf.float32, TI=index, axis=-1)
    reduction = "Max" if node.attr["binary_output"].b else "Sum"
    total = emit(reduction, rows, emit.const(-2, tf.int32), T=tf.float32, Tidx=tf.int32, keep_dims=False)
    return (total if dtype == tf.float32 else emit("Cast", total, SrcT=tf.float32, DstT=dtype)), dtype


def _constant_sizes(graph_def: GraphDef) -> dict[str, int]:
    """By node: sizes that Keras computes from the data and then clips to one number from both sides."""
    nodes = {node.name: node for node in graph_def.node}

    def constant(tensor: str) -> np.ndarray | None:
        node = nodes[node_name(tensor)]
        if node.op in ("Identity", "Cast"):
            return constant(node.input[0])
        return tf.make_ndarray(node.attr["value"].tensor) if node.op == "Const" else None

    def bounds(tensor: str) -> tuple[int, int]:
        node, fixed = nodes[node_name(tensor)], constant(tensor)
        if fixed is not None and fixed.size == 1:
            return int(fixed), int(fixed)
        if node.op not in ("Minimum", "Maximum", "Identity", "Cast"):
            return -(2**63), 2**63
        sides = [bounds(source) for source in node.input if not source.startswith("^")]
        chosen = min if node.op == "Minimum" else max
        return chosen(low for low, _ in sides), chosen(high for _, high in sides)

    sizes = {}
    for node in graph_def.node:
        if node.op == "DenseBincount":
            low, high = bounds(node.input[1])
            if low == high:
                sizes[node.name] = low
    return sizes
