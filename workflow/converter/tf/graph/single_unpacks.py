"""Unpack with one output as Squeeze: so ends where(condition) of one axis, and TFLite has no Unpack of int64 (LiteRT 2.3)."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from converter.tf.graph.graph import GraphDef, NodeDef
from converter.tf.graph.rewrite import Emitter, replace_operators

__all__ = ["squeeze_single_unpacks"]


def squeeze_single_unpacks(graph_def: GraphDef) -> None:
    """Replace them, in place, in the graph and in its functions."""
    replace_operators(graph_def, {"Unpack": _squeeze})


def _squeeze(node: NodeDef, emit: Emitter, _: Callable) -> tuple[str, tf.DType] | None:
    if node.attr["num"].i != 1:
        return None
    dtype = tf.as_dtype(node.attr["T"].type)
    return emit("Squeeze", node.input[0], T=dtype, squeeze_dims=[node.attr["axis"].i]), dtype
