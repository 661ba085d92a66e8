"""Fewer transposes: operators of images are channels-first in ONNX, those of TensorFlow Lite channels-last.

Each image operator is written between two transposes. Here a transpose is not written where it stands but remembered: operators
that work element by element, along one axis or over some take the tensor from before it, and it is remembered of their
result. Two that undo each other vanish, and one is written where an operator needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx

from converter.errors import SourceError
from converter.tflite_to_onnx.core.graph import Constants

__all__ = ["with_few_transposes"]

# Element by element, of inputs that are broadcast to each other.
_ELEMENTWISE = {
    *(
        "Abs",
        "Add",
        "And",
        "BitwiseXor",
        "Cast",
        "Ceil",
        "Cos",
        "Div",
        "Elu",
        "Equal",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "Greater",
    ),
    *(
        "GreaterOrEqual",
        "HardSwish",
        "LeakyRelu",
        "Less",
        "LessOrEqual",
        "Log",
        "Max",
        "Min",
        "Mod",
        "Mul",
        "Neg",
        "Not",
        "Or",
    ),
    *("PRelu", "Pow", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Sin", "Sqrt", "Sub", "Tanh", "Where", "Xor"),
}
# The same of their first input; the others are numbers, or vectors along an axis.
_OF_FIRST = {"Clip", "QuantizeLinear", "DequantizeLinear", "Softmax", "LogSoftmax"}
_REDUCTIONS = {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL2"}


def with_few_transposes(
    nodes: Sequence[onnx.NodeProto], outputs: Sequence[str], constants: Constants
) -> list[onnx.NodeProto]:
    """Nodes that compute the same; every output keeps its name."""
    return _Pass(outputs, constants).run(nodes)


class _Pass:
    def __init__(self, outputs: Sequence[str], constants: Constants) -> None:
        self._outputs, self._constants = set(outputs), constants
        self._nodes: list[onnx.NodeProto] = []
        self._remembered: dict[str, tuple[str, list[int]]] = {}  # name -> what it is a transpose of, and the order
        self._written: set[str] = set()
        self._same: dict[str, str] = {}  # a name that is written -> that of an equal tensor
        self._dequantized: dict[str, onnx.NodeProto] = {}  # constants that are stored as integers

    def run(self, nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
        for node in nodes:
            inner = [entry for entry in node.attribute if entry.type == onnx.AttributeProto.GRAPH]
            for place, name in enumerate(node.input):
                node.input[place] = self._same.get(name, name)
            if node.op_type == "DequantizeLinear" and node.input[0] in self._constants.arrays:
                self._dequantized[node.output[0]] = node
            if node.op_type == "Transpose":
                self._remember(node)
            elif node.op_type == "Shape" and node.input[0] in self._remembered:
                self._rearrange_shape(node)
            elif inner:
                self._inner(inner)
                self._keep(node)
            elif not self._moved(node):
                self._keep(node)
        return self._nodes

    def _inner(self, graphs: Sequence[onnx.AttributeProto]) -> None:
        for entry in graphs:
            results = [output.name for output in entry.g.output]
            kept = _Pass(results, self._constants).run(list(entry.g.node))
            del entry.g.node[:]
            entry.g.node.extend(kept)
            self._write_captured(entry.g)

    def _write_captured(self, graph: onnx.GraphProto) -> None:
        """Names of this graph that a graph within it reads."""
        for output in graph.output:
            output.name = self._read_within(output.name)
        for node in graph.node:
            for place, name in enumerate(node.input):
                node.input[place] = self._read_within(name)
            for entry in node.attribute:
                if entry.type == onnx.AttributeProto.GRAPH:
                    self._write_captured(entry.g)

    def _read_within(self, name: str) -> str:
        name = self._same.get(name, name)
        self._write(name)
        return name

    def _remember(self, node: onnx.NodeProto) -> None:
        (source,), (result,) = node.input, node.output
        perm = list(node.attribute[0].ints)
        if source in self._constants.arrays:
            if self._constants.arrays[source].ndim != len(perm):
                raise SourceError("it has an operator that turns a tensor of another number of axes")
            turned = np.ascontiguousarray(self._constants.arrays[source].transpose(perm))
            self._same[result] = self._constants.add(turned, source)
            if result in self._outputs:
                self._copy(self._same[result], result)
            return
        if source in self._remembered:
            source, before = self._remembered[source]
            perm = [before[axis] for axis in perm]
        if perm == sorted(perm):
            self._same[result] = source
            if result in self._outputs:
                self._copy(source, result)
            return
        self._remembered[result] = (source, perm)
        if result in self._outputs:
            self._write(result)

    def _rearrange_shape(self, node: onnx.NodeProto) -> None:
        source, perm = self._remembered[node.input[0]]
        before = self._constants.name("Shape")
        self._nodes.append(onnx.helper.make_node("Shape", [source], [before], name=before))
        order = self._constants.add(np.array(perm, np.int64))
        self._nodes.append(onnx.helper.make_node("Gather", [before, order], list(node.output), name=node.name))

    def _copy(self, source: str, result: str) -> None:
        self._write(source)
        self._nodes.append(onnx.helper.make_node("Identity", [source], [result], name=result))

    def _write(self, name: str) -> None:
        if name in self._remembered and name not in self._written:
            self._written.add(name)
            source, perm = self._remembered[name]
            self._nodes.append(onnx.helper.make_node("Transpose", [source], [name], name=name, perm=perm))

    def _keep(self, node: onnx.NodeProto) -> None:
        for name in node.input:
            self._write(name)
        self._nodes.append(node)

    def _moved(self, node: onnx.NodeProto) -> bool:
        """Write the node before the transpose that its inputs have in common, if it can be."""
        orders = [self._remembered[name][1] for name in node.input if name in self._remembered]
        if not orders or any(order != orders[0] for order in orders):
            return False
        perm, kind = orders[0], node.op_type
        if kind in _ELEMENTWISE:
            inputs = [self._before(name, perm, broadcast=True) for name in node.input]
        elif kind == "Concat":
            inputs = [self._before(name, perm, broadcast=False) for name in node.input]
        elif kind in _OF_FIRST | _REDUCTIONS | {"Pad", "Split", "Slice"} and node.input[0] in self._remembered:
            inputs = [self._remembered[node.input[0]][0], *node.input[1:]]
        else:
            return False
        if any(name is None for name in inputs):
            return False
        moved = onnx.NodeProto()
        moved.CopyFrom(node)
        del moved.input[:]
        moved.input.extend(name or "" for name in inputs)
        after = _REARRANGED.get(kind, _along_axis)(moved, perm, self._constants)
        if after is None:
            return False
        for place, name in enumerate(node.output):
            if after == sorted(after):
                continue
            moved.output[place] = self._constants.name(f"{name}_turned")
            self._remembered[name] = (moved.output[place], after)
        moved.name = moved.output[0]
        self._nodes.append(moved)
        for name in node.output:
            if name in self._outputs:
                self._write(name)
        return True

    def _before(self, name: str, perm: Sequence[int], *, broadcast: bool) -> str | None:
        """An input as it is before the transpose; None where it has no such form."""
        if name in self._remembered:
            return self._remembered[name][0]
        dequantized = self._dequantized.get(name)
        stored = name if dequantized is None else dequantized.input[0]
        array = self._constants.arrays.get(stored)
        if array is None or array.ndim > len(perm) or (array.ndim < len(perm) and not broadcast):
            return None
        if broadcast and array.size == 1 and array.ndim < 2:
            return name
        missing = len(perm) - array.ndim
        full = array.reshape((1,) * missing + array.shape)
        turned = self._constants.add(np.ascontiguousarray(full.transpose(np.argsort(perm))), stored)
        if dequantized is None:
            return turned
        node = onnx.NodeProto()
        node.CopyFrom(dequantized)
        node.input[0], node.output[0] = turned, self._constants.name(name)
        node.name = node.output[0]
        for entry in node.attribute:
            entry.i = perm[entry.i + missing]
        self._nodes.append(node)
        return node.output[0]


def _attribute(node: onnx.NodeProto, name: str) -> onnx.AttributeProto | None:
    return next((entry for entry in node.attribute if entry.name == name), None)


def _along_axis(node: onnx.NodeProto, perm: list[int], constants: Constants) -> list[int] | None:
    """The order of the result's axes, with the node's own axis, if it has one, as it is before the transpose."""
    axis = _attribute(node, "axis")
    if axis is not None:
        axis.i = perm[axis.i]
    return list(perm)


def _reduced(node: onnx.NodeProto, perm: list[int], constants: Constants) -> list[int] | None:
    axes = _attribute(node, "axes")
    if axes is None and len(node.input) < 2:
        return None
    found = list(axes.ints) if axes is not None else constants.arrays[node.input[1]].tolist()
    before = sorted(perm[axis] for axis in found)
    if axes is not None:
        axes.ints[:] = before
    else:
        node.input[1] = constants.add(np.array(before, np.int64))
    keepdims = _attribute(node, "keepdims")
    if keepdims is None or keepdims.i:
        return list(perm)
    left = [axis for axis in perm if axis not in before]
    return [sorted(left).index(axis) for axis in left]


def _padded(node: onnx.NodeProto, perm: list[int], constants: Constants) -> list[int] | None:
    pads = constants.arrays.get(node.input[1])
    if pads is None:
        return None
    order = np.argsort(perm)
    node.input[1] = constants.add(pads.reshape(2, -1)[:, order].reshape(-1))
    return list(perm)


def _sliced(node: onnx.NodeProto, perm: list[int], constants: Constants) -> list[int] | None:
    axes = constants.arrays.get(node.input[3]) if len(node.input) > 3 else None
    if axes is None:
        return None
    node.input[3] = constants.add(np.array([perm[axis] for axis in axes.tolist()], np.int64))
    return list(perm)


_Rearranged = Callable[[onnx.NodeProto, list[int], Constants], "list[int] | None"]
_REARRANGED: dict[str, _Rearranged] = {
    **dict.fromkeys(_REDUCTIONS, _reduced),
    "Pad": _padded,
    "Slice": _sliced,
}
