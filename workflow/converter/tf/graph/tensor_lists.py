"""Recurrent loops without tensor lists, so that TFLite takes them with a free batch.

TensorFlow's loops read their time steps from, and write them to, lists of tensors (TensorListGetItem and the like). The
TFLite converter makes each list one tensor, but only if the shape of its elements is known: not where the batch is
free (TensorFlow 2.21: "requires element_shape to be static"). Here the lists become tensors (T, N, units) in the graph:

    TensorListFromTensor(tensor)      the tensor
    TensorListReserve(shape, T)       zeros (T, ...), an unknown dimension as 1: the first write broadcasts it
    TensorListGetItem(list, t)        list[t]
    TensorListSetItem(list, t, item)  where(range(T) == t, item, list)
    TensorListStack(list)             the list
    TensorListLength(list)            T
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from converter.tf.graph.dense_steps import NodeWriter, become, length_of, read_step, write_step, zeros
from converter.tf.graph.graph import GraphDef, NodeDef, split_tensor

__all__ = ["fix_element_shapes", "has_tensor_lists", "without_tensor_lists"]

_LOOPS = ("While", "StatelessWhile")
_ELEMENT_SHAPE_INPUT = {
    "TensorListReserve": 0,
    "TensorListFromTensor": 1,
    "TensorListStack": 1,
    "TensorListGetItem": 2,
    "EmptyTensorList": 0,
}


class _NotDense(Exception):
    """The graph does with a list, or another variant, what a tensor cannot do."""


@dataclass(frozen=True)
class _List:
    """What is known of a list: the dtype of its elements, and their rank where the list was reserved."""

    dtype: int
    rank: int | None


def has_tensor_lists(graph_def: GraphDef) -> bool:
    """Whether the graph, or a function in it, has tensor lists."""
    return any(node.op.startswith("TensorList") for body in _bodies(graph_def) for node in body)


def _bodies(graph_def: GraphDef) -> list:
    return [graph_def.node, *(function.node_def for function in graph_def.library.function)]


def fix_element_shapes(graph_def: GraphDef) -> GraphDef:
    """A copy in which a constant element shape whose first dimension is unknown says 1 there: for a batch of 1."""
    result = GraphDef()
    result.CopyFrom(graph_def)
    for body in _bodies(result):
        constants = {node.name: node for node in body if node.op == "Const"}
        for node in list(body):
            position = _ELEMENT_SHAPE_INPUT.get(node.op)
            if position is None:
                continue
            constant = constants.get(node.input[position].partition(":")[0])
            shape = tf.make_ndarray(constant.attr["value"].tensor) if constant is not None else np.zeros(0)
            if shape.ndim == 1 and shape.size and shape[0] == -1:
                fixed = np.concatenate([np.ones(1, shape.dtype), shape[1:]])
                constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(fixed))
    return result


def without_tensor_lists(graph_def: GraphDef, batched_input: str) -> GraphDef | None:
    """A copy whose lists are tensors, or None where that cannot be. `batched_input`: a node with an unknown dimension 0."""
    result = GraphDef()
    result.CopyFrom(graph_def)
    try:
        _Rewriter(result, batched_input).rewrite()
    except _NotDense:
        return None
    return result


class _Rewriter:
    def __init__(self, graph_def: GraphDef, batched_input: str) -> None:
        self.functions = {function.signature.name: function for function in graph_def.library.function}
        self.main = _Body(graph_def.node, {}, is_function=False)
        self.batched_input = batched_input
        self.done: dict[str, tuple] = {}

    def rewrite(self) -> None:
        self._body(self.main)

    def _body(self, body: _Body) -> None:
        # Every list's type is read off before anything changes.
        loops = [(node, self._loop_lists(body, node)) for node in body.original if node.op in _LOOPS]
        steps = []
        for node in body.original:
            if node.op in _REWRITES:
                steps.append((node, _REWRITES[node.op], self._argument(body, node)))
            elif node.op == "Identity" and _is_variant(node.attr["T"]):
                steps.append((node, _identity, body.list_of(node.input[0])))
            elif node.op not in _LOOPS and _mentions_variants(node):
                raise _NotDense(node.op)
        for node, lists in loops:
            self._loop(node, lists)
        for node, rewrite, argument in steps:
            rewrite(self, body, node, argument)

    @staticmethod
    def _argument(body: _Body, node: NodeDef) -> _List:
        if node.op in ("TensorListReserve", "TensorListFromTensor"):
            return body.list_of(node.name)
        return body.list_of(node.input[0])

    @staticmethod
    def _loop_lists(body: _Body, node: NodeDef) -> dict[int, _List]:
        types = node.attr["T"].list.type
        return {i: body.list_of(node.input[i]) for i, kind in enumerate(types) if kind == _VARIANT}

    def _loop(self, node: NodeDef, lists: dict[int, _List]) -> None:
        """Give the loop, its condition and its body tensors in place of lists."""
        for position, entry in lists.items():
            node.attr["T"].list.type[position] = entry.dtype
        # What was inferred for the lists is wrong now, and the converter infers it again.
        del node.attr["output_shapes"]
        for role in ("cond", "body"):
            self._function(node.attr[role].func.name, lists, returns_lists=role == "body")

    def _function(self, name: str, lists: dict[int, _List], *, returns_lists: bool) -> None:
        known = tuple(sorted((position, entry.dtype, entry.rank) for position, entry in lists.items()))
        if self.done.setdefault(name, known) != known:
            raise _NotDense("a function called with lists of two types")
        function = self.functions[name]
        signature = function.signature
        if known and signature.input_arg[known[0][0]].type != _VARIANT:
            return  # done before, by another loop
        arguments = {signature.input_arg[position].name: entry for position, entry in lists.items()}
        body = _Body(function.node_def, arguments, is_function=True)
        self._body(body)
        for position, entry in lists.items():
            signature.input_arg[position].type = entry.dtype
            if returns_lists:
                signature.output_arg[position].type = entry.dtype
        for key, source in function.ret.items():
            function.ret[key] = body.renamed(source)


_VARIANT = tf.variant.as_datatype_enum


def _is_variant(value: Any) -> bool:
    return value.type == _VARIANT or _VARIANT in value.list.type


def _mentions_variants(node: NodeDef) -> bool:
    return node.op.startswith(("TensorList", "EmptyTensorList")) or any(_is_variant(v) for v in node.attr.values())


class _Body(NodeWriter):
    """The nodes of the graph or of one function, with the lists among its arguments."""

    def __init__(self, nodes: object, arguments: dict[str, _List], *, is_function: bool) -> None:
        super().__init__(nodes, is_function=is_function)
        self.arguments = arguments
        self.original = list(nodes)
        self.outputs: dict[str, str] = {}

    def list_of(self, source: str) -> _List:
        """The list behind an input. Raises _NotDense where it comes from anything but the operators above."""
        if source in self.arguments:
            return self.arguments[source]
        node = self.by_name.get(source.partition(":")[0])
        if node is None:
            raise _NotDense(source)
        if node.op == "TensorListReserve":
            shape = self.constant_value(node.input[0])
            return _List(node.attr["element_dtype"].type, None if shape is None or shape.ndim != 1 else shape.size)
        if node.op == "TensorListFromTensor":
            return _List(node.attr["element_dtype"].type, None)
        if node.op in ("TensorListSetItem", "Identity"):
            return self.list_of(node.input[0])
        if node.op in _LOOPS:
            index = int(source.rpartition(":")[2]) if self.is_function else split_tensor(source)[1]
            return self.list_of(node.input[index])
        raise _NotDense(node.op)

    def constant_value(self, source: str) -> np.ndarray | None:
        node = self.by_name.get(source.partition(":")[0])
        return tf.make_ndarray(node.attr["value"].tensor) if node is not None and node.op == "Const" else None

    def rename_output(self, node: NodeDef, old: str, new: str = "output") -> None:
        """The node's output has another name now: tell its consumers, in a function the only ones that name outputs."""
        if self.is_function and old != new:
            before, after = f"{node.name}:{old}:0", f"{node.name}:{new}:0"
            self.outputs[before] = after
            for consumer in self.nodes:
                for position, source in enumerate(consumer.input):
                    if source == before:
                        consumer.input[position] = after

    def renamed(self, source: str) -> str:
        return self.outputs.get(source, source)


def _identity(_: _Rewriter, __: _Body, node: NodeDef, known: _List) -> None:
    node.attr["T"].type = known.dtype


def _from_tensor(_: _Rewriter, body: _Body, node: NodeDef, known: _List) -> None:
    become(node, "Identity", [node.input[0]], T=tf.dtypes.as_dtype(known.dtype))
    body.rename_output(node, "output_handle")


def _stack(_: _Rewriter, body: _Body, node: NodeDef, known: _List) -> None:
    become(node, "Identity", [node.input[0]], T=tf.dtypes.as_dtype(known.dtype))
    body.rename_output(node, "tensor")


def _reserve(rewriter: _Rewriter, body: _Body, node: NodeDef, known: _List) -> None:
    shape = body.constant_value(node.input[0])
    if shape is None or shape.ndim != 1:
        raise _NotDense("a list of elements of unknown rank")
    if body.is_function and (shape < 0).any():
        raise _NotDense("a list of unknown shape within a loop")
    zeros(body, node, node.input[1], shape.tolist(), tf.dtypes.as_dtype(known.dtype), rewriter.batched_input)
    body.rename_output(node, "handle")


def _get_item(_: _Rewriter, body: _Body, node: NodeDef, known: _List) -> None:
    read_step(body, node, *node.input[:2], tf.dtypes.as_dtype(known.dtype))
    body.rename_output(node, "item")


def _set_item(_: _Rewriter, body: _Body, node: NodeDef, known: _List) -> None:
    if known.rank is None or node.attr["resize_if_index_out_of_bounds"].b:
        raise _NotDense("a list that grows, or of elements of unknown rank")
    write_step(body, node, *node.input[:3], known.rank, tf.dtypes.as_dtype(known.dtype))
    body.rename_output(node, "output_handle")


def _length(_: _Rewriter, body: _Body, node: NodeDef, known: _List) -> None:
    become(node, "Identity", [length_of(body, node.name, node.input[0], tf.dtypes.as_dtype(known.dtype))], T=tf.int32)
    body.rename_output(node, "length")


_REWRITES: dict[str, Callable[[_Rewriter, _Body, NodeDef, _List], None]] = {
    "TensorListFromTensor": _from_tensor,
    "TensorListReserve": _reserve,
    "TensorListGetItem": _get_item,
    "TensorListSetItem": _set_item,
    "TensorListStack": _stack,
    "TensorListLength": _length,
}
