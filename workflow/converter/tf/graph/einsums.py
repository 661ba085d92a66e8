"""Einsum of two tensors as MatMul between Transposes, and where nothing is summed, as Mul.

TensorFlow's converter (2.21) writes a product that it then refuses where an axis has size 1 ("abc,c->abc", a scale, with a
batch of 1: "invalid output dimension on row"); and where the batch is free, LiteRT's delegate cannot prepare what it makes
of "abcd,adbe->abce", the values of attention.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from converter.tf.graph.graph import GraphDef, NodeDef
from converter.tf.graph.rewrite import Emitter, replace_operators

__all__ = ["expand_einsums"]


def expand_einsums(graph_def: GraphDef) -> None:
    """Replace, in place, each Einsum of a scale; or with one axis summed, one of either tensor's own, and others in both."""
    replace_operators(graph_def, {"Einsum": _product})


def _product(node: NodeDef, emit: Emitter, value: Callable) -> tuple[str, tf.DType] | None:
    match = re.fullmatch(r"([a-zA-Z]+),([a-zA-Z]+)->([a-zA-Z]+)", node.attr["equation"].s.decode())
    if match is None or any(len(set(term)) < len(term) for term in match.groups()):
        return None
    left, right, out = match.groups()
    common = [axis for axis in out if axis in left and axis in right]
    summed = [axis for axis in left if axis in right and axis not in out]
    rows = [axis for axis in left if axis not in right]
    columns = [axis for axis in right if axis not in left]
    dtype = tf.as_dtype(node.attr["T"].type)
    if sorted(left) == sorted(out) and not columns:
        return _scaled(node, emit, dtype, left, right, out)
    alone = [axis for axis in (*rows, *columns) if axis not in out]
    if alone or not common or not len(summed) == len(rows) == len(columns) == 1:
        return None

    first = _ordered(emit, dtype, node.input[0], left, [*common, *rows, *summed])
    # The right one may come with its last axes swapped, which MatMul undoes for itself.
    natural = [axis for axis in right if axis not in common]
    second = _ordered(emit, dtype, node.input[1], right, [*common, *natural])
    product = emit("BatchMatMulV2", first, second, T=dtype, adj_x=False, adj_y=natural != [*summed, *columns])
    return _ordered(emit, dtype, product, "".join([*common, *rows, *columns]), list(out)), dtype


def _scaled(node: NodeDef, emit: Emitter, dtype: tf.DType, left: str, right: str, out: str) -> tuple[str, tf.DType]:
    """The right tensor has some of the left one's axes, and none is summed: broadcast along the others."""
    first = _ordered(emit, dtype, node.input[0], left, list(out))
    second = _ordered(emit, dtype, node.input[1], right, [axis for axis in out if axis in right])
    inner = next((place for place, axis in enumerate(out) if axis in right), len(out))
    for place in range(inner, len(out)):  # those in front of all its own need no axis
        if out[place] not in right:
            second = emit("ExpandDims", second, emit.const(place - inner, tf.int32), T=dtype, Tdim=tf.int32)
    return emit("Mul", first, second, T=dtype), dtype


def _ordered(emit: Emitter, dtype: tf.DType, tensor: str, axes: str, wanted: list[str]) -> str:
    places = [axes.index(axis) for axis in wanted]
    if places == sorted(places):
        return tensor
    return emit("Transpose", tensor, emit.const(np.array(places, np.int32), tf.int32), T=dtype, Tperm=tf.int32)
