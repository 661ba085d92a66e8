"""Texts in ONNX: no comparison takes them below opset 19, but CategoryMapper finds them among constants."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from converter.tf.graph.graph import GraphDef, NodeDef, node_name
from converter.tf.graph.rewrite import Emitter, replace_operators
from converter.tf.graph.search import TEXT_INDEX

__all__ = ["STAND_IN", "TextTables", "map_texts"]

STAND_IN = "StringToHashBucket"
"""An operator of TensorFlow that no model has any more, for a lookup of texts until tf2onnx replaces it
(onnx_text_operator.py); its number of buckets is the number of the table. tf2onnx 1.17 infers no shape for a real lookup."""

# By number, the texts of a table and the whole numbers that they stand for; 0 stands for all others.
TextTables = dict[int, tuple[np.ndarray, np.ndarray]]


def map_texts(graph_def: GraphDef) -> TextTables:
    """Make, in place, each search among texts and each comparison with one a lookup in a table; returns the tables.

    Not inside of functions.
    """
    nodes = {node.name: node for node in graph_def.node}
    tables: TextTables = {}

    def lookup(emit: Emitter, tensor: str, keys: np.ndarray, places: np.ndarray) -> str:
        number = len(tables) + 1
        tables[number] = keys, places
        return emit(STAND_IN, tensor, num_buckets=number)

    def index(node: NodeDef, emit: Emitter, value: Callable) -> tuple[str, tf.DType] | None:
        if TEXT_INDEX not in node.attr:
            return None
        equal, place = (nodes[node_name(source)] for source in node.input[:2])
        keys = value(nodes[node_name(equal.input[0])].input[0])
        places = value(place.input[0])
        found = lookup(emit, equal.input[1], keys[1:], places[1:])
        return emit("Cast", found, SrcT=tf.int64, DstT=tf.int32), tf.int32

    def equal(node: NodeDef, emit: Emitter, value: Callable) -> tuple[str, tf.DType] | None:
        if node.attr["T"].type != tf.string.as_datatype_enum:
            return None
        texts = [value(source) for source in node.input[:2]]
        single = next((side for side in (0, 1) if texts[side] is not None and texts[side].size == 1), None)
        if single is None or texts[single].ndim:
            return None
        found = lookup(emit, node.input[1 - single], texts[single].reshape(1), np.ones(1, np.int64))
        return emit("Cast", found, SrcT=tf.int64, DstT=tf.bool), tf.bool

    replace_operators(graph_def, {"SelectV2": index}, functions=False)
    replace_operators(graph_def, {"Equal": equal}, functions=False)
    return tables
