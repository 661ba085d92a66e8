"""Recurrent loops of TensorFlow 1 without tensor arrays, so that TFLite takes them at all.

The loops of TF1 (Enter, Merge, Switch, NextIteration, Exit) read their time steps from TensorArrayV3 and write them to
it; the TFLite converter makes such loops functional, and has no kernel for the arrays (TensorFlow 2.21). An array's
operators hand on a scalar, the "flow", that orders them. Here the flow becomes the array's contents, a tensor (T, ...):

    TensorArrayScatterV3(handle, range(T), value, flow)   value
    TensorArrayV3(T)                                      zeros (T, ...), see dense_steps.zeros
    TensorArrayReadV3(handle, t, flow)                    flow[t]
    TensorArrayWriteV3(handle, t, item, flow)             where(range(T) == t, item, flow)
    TensorArrayGatherV3(handle, range(T), flow)           flow
    TensorArraySizeV3(handle, flow)                       T
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from converter.tf.graph.dense_steps import NodeWriter, become, length_of, read_step, write_step, zeros
from converter.tf.graph.graph import GraphDef, NodeDef, node_name, prune, split_tensor

__all__ = ["has_tensor_arrays", "without_tensor_arrays"]

_PASSING = ("Enter", "Merge", "Switch", "NextIteration", "Exit", "Identity", "RefEnter")
_KNOWN = {f"TensorArray{name}V3" for name in ("", "Scatter", "Read", "Write", "Gather", "Size")}


class _NotDense(Exception):
    """The graph does with an array what a tensor cannot do."""


def has_tensor_arrays(graph_def: GraphDef) -> bool:
    """Whether the graph has TensorFlow 1's TensorArrays."""
    return any(node.op.startswith("TensorArray") for node in graph_def.node)


def without_tensor_arrays(
    graph_def: GraphDef,
    outputs: Sequence[str],
    inputs: Sequence[str],
    batched_input: str | None,
    batch: int | None = None,
) -> GraphDef | None:
    """A copy whose arrays are tensors, pruned to `outputs` (tensors) and `inputs` (nodes); None where that cannot be.

    `batched_input`: an input node with an unknown dimension 0, or None where all are known; then `batch` stands for the
    first dimension of elements for which the graph does not say it.
    """
    result = GraphDef()
    result.CopyFrom(graph_def)
    try:
        _rewrite(result, outputs, batched_input, batch)
    except _NotDense:
        return None
    return prune(result, outputs, inputs)


def _rewrite(graph_def: GraphDef, outputs: Sequence[str], batched_input: str | None, batch: int | None) -> None:
    writer = NodeWriter(graph_def.node)
    operations = [node for node in graph_def.node if node.op.startswith("TensorArray")]
    if unknown := {node.op for node in operations} - _KNOWN:
        raise _NotDense(", ".join(unknown))
    arrays = {node.name: node for node in operations if node.op == "TensorArrayV3"}
    users = [(node, _array_of(writer, arrays, node.input[0])) for node in operations if node.op != "TensorArrayV3"]
    dtypes = {name: tf.dtypes.as_dtype(node.attr["dtype"].type) for name, node in arrays.items()}
    for name, array in arrays.items():
        if array.attr["dynamic_size"].b:
            raise _NotDense("an array that grows")
        _pass_contents(graph_def, [name, *(user.name for user, owner in users if owner == name)], dtypes[name])
    elements = _elements(graph_def, arrays, users, outputs)
    for node, owner in users:
        if node.op == "TensorArrayWriteV3" and owner not in elements:
            raise _NotDense("an array of elements of unknown rank")
    for name in {owner: None for node, owner in users if node.op == "TensorArrayWriteV3"}:
        if batched_input is None and elements[name][:1] == [None]:
            elements[name][0] = batch
        _start(writer, arrays[name], elements[name], batched_input)
    for node, owner in users:
        _rewrite_user(writer, node, dtypes[owner], len(elements.get(owner, [])))


def _array_of(writer: NodeWriter, arrays: dict[str, NodeDef], handle: str) -> str:
    name = node_name(handle)
    while name not in arrays:
        node = writer.by_name[name]
        if node.op not in _PASSING:
            raise _NotDense(node.op)
        name = node_name(node.input[0])
    return name


def _pass_contents(graph_def: GraphDef, sources: Sequence[str], dtype: tf.DType) -> None:
    """What passes a flow on, a float32 scalar, passes contents of this dtype on."""
    if dtype == tf.float32:
        return
    reached = set(sources)
    grown = True
    while grown:
        grown = False
        for node in graph_def.node:
            if node.name in reached or node.op not in _PASSING or not node.input:
                continue
            # Of an array's own node, output 0 is the handle, output 1 the flow.
            if any(node_name(s) in reached and not _is_handle(node, s) for s in node.input):
                node.attr["T"].type = dtype.as_datatype_enum
                reached.add(node.name)
                grown = True


def _is_handle(node: NodeDef, source: str) -> bool:
    return node.attr["T"].type in (tf.resource.as_datatype_enum, tf.string.as_datatype_enum) or source.startswith("^")


def _shapes(graph_def: GraphDef, outputs: Sequence[str]) -> Callable[[str], list[int | None] | None]:
    """The shape of a tensor, None for an unknown rank: by grappler, which follows loops, as importing a graph does not."""
    from tensorflow.python.grappler import item

    meta = tf.compat.v1.MetaGraphDef()
    meta.graph_def.CopyFrom(graph_def)
    for node in meta.graph_def.node:
        # What may be fed has an unknown shape to grappler (TensorFlow 2.21), whatever it says.
        if node.op == "Placeholder":
            node.op = "ImmutableConst"
            node.attr["memory_region_name"].s = b"input"
    meta.collection_def["train_op"].node_list.value.extend(node_name(output) for output in outputs)
    properties = item.Item(meta).GetOpProperties()

    def shape(source: str) -> list[int | None] | None:
        name, index = split_tensor(source)
        found = properties[name][index].shape if len(properties.get(name, [])) > index else None
        if found is None or found.unknown_rank:
            return None
        return [dim.size if dim.size >= 0 else None for dim in found.dim]

    return shape


def _elements(
    graph_def: GraphDef, arrays: dict[str, NodeDef], users: Sequence[tuple[NodeDef, str]], outputs: Sequence[str]
) -> dict[str, list[int | None]]:
    """The shape of each array's elements, where it can be known, from what is scattered or written to it.

    A known one is noted in the array, as what is read from it, and written to another, may depend on it.
    """
    elements: dict[str, list[int | None]] = {}
    while True:
        shapes, before = _shapes(graph_def, outputs), dict(elements)
        for node, owner in users:
            if node.op not in ("TensorArrayWriteV3", "TensorArrayScatterV3"):
                continue
            shape = shapes(node.input[2])
            if shape is not None:
                elements[owner] = shape if node.op == "TensorArrayWriteV3" else shape[1:]
                arrays[owner].attr["element_shape"].shape.CopyFrom(tf.TensorShape(elements[owner]).as_proto())
        if elements == before:
            return elements


def _start(writer: NodeWriter, array: NodeDef, element: list[int | None], batched_input: str | None) -> None:
    """Give an array that is written to its first contents, in place of its flow."""
    if None in element and batched_input is None:
        raise _NotDense("an array of elements of unknown size in a model without a free batch")
    dtype = tf.dtypes.as_dtype(array.attr["dtype"].type)
    start = writer.by_name[writer.add(f"{array.name}/contents", "Fill", [])]
    zeros(writer, start, array.input[0], element, dtype, batched_input)
    for node in list(writer.nodes):
        for position, source in enumerate(node.input):
            if source == f"{array.name}:1":
                node.input[position] = start.name


def _rewrite_user(writer: NodeWriter, node: NodeDef, dtype: tf.DType, rank: int) -> None:
    inputs = [source for source in node.input if not source.startswith("^")]
    flow = inputs[-1]
    writer.after = node_name(
        inputs[1]
    )  # the index, or the flow of TensorArraySizeV3: within the loop where the node is
    if node.op == "TensorArrayReadV3":
        read_step(writer, node, flow, inputs[1], dtype)
    elif node.op == "TensorArrayWriteV3":
        write_step(writer, node, flow, inputs[1], inputs[2], rank, dtype)
    elif node.op == "TensorArraySizeV3":
        become(node, "Identity", [length_of(writer, node.name, flow, dtype)], T=tf.int32)
    elif not _counts_up(writer, inputs[1]):
        raise _NotDense("an array scattered to, or gathered from, in another order")
    else:
        become(node, "Identity", [inputs[2] if node.op == "TensorArrayScatterV3" else flow], T=dtype)


def _counts_up(writer: NodeWriter, source: str) -> bool:
    """Whether a tensor is range(0, n, 1)."""
    node = writer.by_name[node_name(source)]
    while node.op in ("Identity", "Enter"):
        node = writer.by_name[node_name(node.input[0])]
    if node.op == "Const":
        values = tf.make_ndarray(node.attr["value"].tensor).reshape(-1).tolist()
        return values == list(range(len(values)))
    if node.op != "Range":
        return False
    ends = [writer.by_name[node_name(node.input[i])] for i in (0, 2)]
    return [_scalar(end) for end in ends] == [0, 1]


def _scalar(node: NodeDef) -> int | None:
    return int(tf.make_ndarray(node.attr["value"].tensor)) if node.op == "Const" else None
