"""Non-maximum suppression as TFLite's kernel (LiteRT 2.3) computes what TensorFlow does.

The kernel pads its indices to max_output_size: the converter (TensorFlow 2.21) turns NonMaxSuppressionV3, which hands out as
many as it chose, into it and drops the count, so that box 0 would be found again and again. It suppresses at an overlap equal
to the threshold, where TensorFlow asks for more. And what it has chosen is out only because a box overlaps itself, so that it
chooses one without an area over and over, until all places are full.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from converter.errors import UnsupportedError
from converter.tf.graph.dense_steps import NodeWriter, become
from converter.tf.graph.graph import GraphDef, NodeDef, node_name, tensor_name

__all__ = ["exact_non_max_suppressions"]

_OPERATORS = ("NonMaxSuppressionV3", "NonMaxSuppressionV4", "NonMaxSuppressionV5")
_BOXES, _THRESHOLD, _SIGMA = 0, 3, 5


def exact_non_max_suppressions(graph_def: GraphDef, *, move_empty: bool = True) -> None:
    """Rewrite them, in place, in the graph; its functions stay as they are.

    move_empty: boxes without an area too, which doubles the range of coordinates: not for integers, which have 256 of them.
    Raises UnsupportedError for a threshold of 1, where nothing is suppressed.
    """
    writer = NodeWriter(graph_def.node)
    for node in [node for node in graph_def.node if node.op in _OPERATORS]:
        data = [source for source in node.input if not source.startswith("^")]
        writer.after = node_name(data[0])
        if move_empty and _types(node)["T"] == tf.float32:
            node.input[_BOXES] = data[_BOXES] = _without_empty(writer, f"{node.name}/boxes", data[_BOXES])
        if (
            len(data) <= _SIGMA or _constant(writer, data[_SIGMA]) == 0
        ):  # else scores fall, and equal boxes alone are dropped
            node.input[_THRESHOLD] = data[_THRESHOLD] = _raised(writer, f"{node.name}/threshold", data[_THRESHOLD])
        if not node.attr["pad_to_max_output_size"].b:  # V3 has none
            _pad(writer, node, data)


def _pad(writer: NodeWriter, node: NodeDef, data: list[str]) -> None:
    """As the padded operator, and slices of what is chosen: its places, and for V5 its scores."""
    op, types = ("NonMaxSuppressionV4" if node.op == "NonMaxSuppressionV3" else node.op), _types(node)
    padded = writer.add(f"{node.name}/padded", op, data, **types)
    writer.by_name[padded].attr["pad_to_max_output_size"].b = True
    first = writer.constant(f"{node.name}/first", [0])
    axis = writer.constant(f"{node.name}/axis", 0)
    number = tensor_name(padded, 2 if op == "NonMaxSuppressionV5" else 1)
    count = writer.add(f"{node.name}/count", "ExpandDims", [number, axis], T=tf.int32, Tdim=tf.int32)
    read = {tensor_name(node.name, 1): number}
    if op == "NonMaxSuppressionV5":
        scores = [tensor_name(padded, 1), first, count]
        read[tensor_name(node.name, 1)] = writer.add(
            f"{node.name}/scores", "Slice", scores, T=types["T"], Index=tf.int32
        )
        read[tensor_name(node.name, 2)] = number
    for other in writer.nodes:
        other.input[:] = [read.get(source, source) for source in other.input]
    become(node, "Slice", [padded, first, count], T=tf.int32, Index=tf.int32)


def _constant(writer: NodeWriter, source: str) -> np.ndarray | None:
    """The value of a constant of float32, also behind an Identity; None of what is none."""
    node = writer.by_name[node_name(source)]
    while node.op == "Identity":
        node = writer.by_name[node_name(node.input[0])]
    if node.op != "Const" or tf.as_dtype(node.attr["dtype"].type) != tf.float32:
        return None
    return tf.make_ndarray(node.attr["value"].tensor)


def _raised(writer: NodeWriter, name: str, source: str) -> str:
    """The next number of float32 in the place of a constant threshold: from there on an overlap is above it."""
    value = _constant(writer, source)
    if value is None:
        return source
    if value >= 1:
        raise UnsupportedError(
            f"{name.rpartition('/')[0]} suppresses boxes that overlap more than wholly, which are none, and TensorFlow Lite's "
            "operator would drop equal ones: leave it out of the model, or write an iou_threshold below 1"
        )
    return writer.constant(name, np.nextafter(value, np.float32(np.inf)), tf.float32)


def _without_empty(writer: NodeWriter, name: str, boxes: str) -> str:
    """The boxes (N, 4), those without an area moved to where no box is, which none overlaps there as here."""

    def add(op: str, *inputs: str, **types: object) -> str:
        return writer.add(f"{name}/{op}", op, inputs, **({"T": tf.float32} | types))

    def halves(tensor: str, axis: str) -> tuple[str, str]:
        first = add("Split", axis, tensor, num_split=2)
        return first, tensor_name(first, 1)

    # The constants first: in a TF1 loop they wait for the boxes.
    axis, zero = writer.constant(f"{name}/one", 1), writer.constant(f"{name}/zero", 0.0, tf.float32)
    down, both = writer.constant(f"{name}/down", 0), writer.constant(f"{name}/both", [0, 1])
    one = writer.constant(f"{name}/least", 1.0, tf.float32)
    corners = writer.constant(f"{name}/corners", [[0.0, 0.0, 0.5, 0.5]], tf.float32)
    first, second = halves(boxes, axis)
    low, high = add("Minimum", first, second), add("Maximum", first, second)
    height, width = halves(add("Sub", high, low), axis)
    has_area = add("Greater", add("Mul", height, width), zero)
    # Places from 1 to 2 times the largest coordinate. By a running sum and one product: the converter (TensorFlow 2.21) crashes
    # at a concatenation of scaled columns.
    rank = add("Cumsum", add("OnesLike", height), down, Tidx=tf.int32)
    count = add("AddV2", add("Max", rank, both, Tidx=tf.int32), one)
    largest = add("Maximum", add("Max", add("Abs", boxes), both, Tidx=tf.int32), one)
    nowhere = add("Mul", add("AddV2", add("RealDiv", add("AddV2", rank, corners), count), one), largest)
    return add("SelectV2", has_area, boxes, nowhere)


def _types(node: NodeDef) -> dict[str, tf.DType]:
    return {key: tf.dtypes.as_dtype(node.attr[key].type) for key in ("T", "T_threshold") if key in node.attr}
