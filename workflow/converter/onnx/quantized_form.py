"""A quantized ONNX model written one way: float operators between pairs of QuantizeLinear and DequantizeLinear.

Operators on integers (QLinearConv and its like, and what only moves integers) become the float operator between such pairs;
inputs and outputs of integers become float ones. Each pair has a name of its own, and a table says with what scale and zero
point it quantizes: that is what a file of integers is made from (`converter.tflite.integers`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from converter.onnx.core.graphs import STANDARD, FreshNames, Scope, inner_graphs, model_opset
from converter.tflite.integers.scales import Grid

__all__ = ["QuantizedForm", "quantized_form"]

_MICROSOFT = "com.microsoft"
_FIRST_OPSET = 10  # the first that has QuantizeLinear
_TYPES: dict[int, str] = {TensorProto.INT8: "int8", TensorProto.UINT8: "uint8"}
# What moves integers without computing with them.
_MOVING = {
    *("MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "Gather", "Identity"),
    *("Expand", "Tile", "DepthToSpace", "SpaceToDepth"),
}


@dataclass
class QuantizedForm:
    """model: all inputs and outputs that were integers with a scale are float32.

    pairs: of each pair of operators, by its name. values: the tensor of the original model that holds the pair's integers.
    weights: the grids that constants lie on. boundary: those inputs and outputs.
    """

    model: onnx.ModelProto
    pairs: dict[str, Grid] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    weights: list[Grid] = field(default_factory=list)
    boundary: dict[str, Grid] = field(default_factory=dict)


class _Unusual(Exception):
    """Integers that have no scale, or several."""


def quantized_form(model: onnx.ModelProto) -> QuantizedForm | None:
    """The model in that form; None where nothing of it is quantized, or integers have another meaning.

    model: with its weights loaded; it stays as it is.
    """
    plain = not model.functions and not any(inner_graphs(node) for node in model.graph.node)
    if not plain or not any(node.op_type.startswith(("QLinear", "QGemm", "Quantize")) for node in model.graph.node):
        return None
    if model_opset(model) < _FIRST_OPSET:
        return None
    try:
        form = _Rewriting(model).form()
    except _Unusual:
        return None
    return form if form.pairs else None


class _Rewriting:
    def __init__(self, model: onnx.ModelProto) -> None:
        self._model, self._scope, self._names = model, Scope(model.graph), FreshNames(model)
        self._inputs = {entry.name: entry for entry in model.graph.input}
        self._outputs = {entry.name for entry in model.graph.output}
        self._nodes: list[NodeProto] = []
        self._initializers: list[TensorProto] = []
        self._grids: dict[str, Grid] = {}  # of integers that are computed, by their name in the model
        self._floats: dict[str, str] = {}  # what stands for such integers
        self._renamed: dict[str, str] = {}  # results of DequantizeLinear
        self._constant: set[str] = set()
        self._kept: list[NodeProto] = []
        self._form = QuantizedForm(onnx.ModelProto())

    def form(self) -> QuantizedForm:
        for node in self._model.graph.node:
            self._rewrite(node)
        model = self._form.model
        model.CopyFrom(self._model)
        graph = model.graph
        for entry in graph.output:
            if entry.name in self._grids:
                self._hand_on(self._float(entry.name), entry)
                self._form.boundary[entry.name] = self._grids[entry.name]
            elif entry.name in self._renamed:
                self._hand_on(self._renamed[entry.name], entry)
        for entry in graph.input:
            if entry.name in self._form.boundary:
                entry.type.tensor_type.elem_type = TensorProto.FLOAT
        if any(name in self._form.boundary for node in self._kept for name in node.input):
            raise _Unusual
        del graph.node[:]
        graph.node.extend(self._nodes)
        graph.initializer.extend(self._initializers)
        del graph.value_info[:]
        return self._form

    def _hand_on(self, name: str, entry: onnx.ValueInfoProto) -> None:
        entry.type.tensor_type.elem_type = TensorProto.FLOAT
        self._nodes.append(helper.make_node("Identity", [name], [entry.name]))

    def _rewrite(self, node: NodeProto) -> None:
        name, standard = node.op_type, node.domain in STANDARD
        if all(self._is_constant(entry) for entry in node.input if entry):
            self._constant.update(node.output)
            self._note_weights(node)
            self._keep(node)
        elif name == "QuantizeLinear" and (grid := self._grid(node.input[1], _at(node, 2))) is not None:
            self._quantized(node, grid)
        elif name == "DequantizeLinear" and self._is_integer(node.input[0]):
            grid = self._grid(node.input[1], _at(node, 2))
            if grid is None:
                raise _Unusual
            self._renamed[node.output[0]] = self._real(node.input[0], grid)
        elif (write := _WRITTEN.get(name)) is not None and (not standard or name in ("QLinearConv", "QLinearMatMul")):
            write(self, node)
        elif standard and name in _MOVING and self._is_integer(node.input[0]):
            self._moved(node)
        else:
            if any(entry in self._grids for entry in node.input):
                raise _Unusual
            self._keep(node)

    # -- what values are ----------------------------------------------------------------------------------------------

    def _is_constant(self, name: str) -> bool:
        return name in self._constant or self._scope.constant(name) is not None

    def _is_integer(self, name: str) -> bool:
        """Whether it is integers of 8 bits that are computed, or an input of such."""
        if name in self._grids:
            return True
        return name in self._inputs and self._inputs[name].type.tensor_type.elem_type in _TYPES

    def _grid(self, scale: str, zero: str, like: str = "") -> Grid | None:
        """What the constants of these names say; None where they are computed, or are others than of 8 bits.

        like: integers that the zero point, left out, has the type of.
        """
        steps, zeros = self._scope.constant(scale), self._scope.constant(zero) if zero else None
        if steps is None or steps.dtype != np.float32 or (zero and zeros is None):
            return None
        if zeros is None:
            dtype = self._grids[like].dtype if like in self._grids else "uint8"
            zeros = np.zeros(steps.shape, dtype)
        if (
            zeros.dtype.name not in _TYPES.values()
            or steps.size != 1
            or zeros.size != 1
            or not float(steps.flat[0]) > 0
        ):
            return None
        return Grid(steps.reshape(1), zeros.reshape(1).astype(np.int64), zeros.dtype.name)

    def _note_weights(self, node: NodeProto) -> None:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            steps = self._scope.constant(node.input[1])
            zeros = self._scope.constant(node.input[2]) if _at(node, 2) else None
            if steps is None or steps.dtype != np.float32:
                return
            first = self._scope.constant(node.input[0])
            dtype = zeros.dtype.name if zeros is not None else first.dtype.name if first is not None else "uint8"
            if dtype in _TYPES.values():
                zeros = np.zeros(steps.shape) if zeros is None else zeros
                self._form.weights.append(Grid(steps.reshape(-1), zeros.reshape(-1).astype(np.int64), dtype))

    # -- what is written ----------------------------------------------------------------------------------------------

    def _keep(self, node: NodeProto) -> None:
        kept = NodeProto()
        kept.CopyFrom(node)
        for position, name in enumerate(kept.input):
            kept.input[position] = self._renamed.get(name, name)
        self._nodes.append(kept)
        self._kept.append(kept)

    def _quantized(self, node: NodeProto, grid: Grid) -> None:
        source = self._renamed.get(node.input[0], node.input[0])
        self._pair(source, node.output[0], grid)

    def _pair(self, source: str, name: str, grid: Grid) -> None:
        """Quantize and dequantize `source`; `name` is that of the integers in the original model."""
        zero, scale = self._names(f"{name}_zero"), self._names(f"{name}_scale")
        self._initializers += [
            numpy_helper.from_array(grid.scale.reshape(()), scale),
            numpy_helper.from_array(grid.zero.astype(grid.dtype).reshape(()), zero),
        ]
        integers, real = self._names(f"{name}_integers"), self._names(f"{name}_float")
        pair = f"fixed_scale_{len(self._form.pairs)}"
        self._nodes.append(helper.make_node("QuantizeLinear", [source, scale, zero], [integers]))
        self._nodes.append(helper.make_node("DequantizeLinear", [integers, scale, zero], [real], name=pair))
        self._form.pairs[pair], self._form.values[pair] = grid, name
        self._grids[name], self._floats[name] = grid, real

    def _float(self, name: str) -> str:
        return self._floats[name]

    def _real(self, name: str, grid: Grid) -> str:
        """The float tensor that stands for these integers, which are read with that grid."""
        if name in self._grids:
            if not self._grids[name].equals(grid):
                raise _Unusual
            return self._float(name)
        if not self._is_integer(name):
            raise _Unusual
        self._form.boundary[name] = grid
        self._pair(name, name, grid)
        return self._float(name)

    def operand(self, node: NodeProto, position: int, axis: int = 0) -> str:
        """Of the integers at that place of a node, with scale and zero point behind them; axis: of a constant's scales."""
        name, scale, zero = (_at(node, position + offset) for offset in range(3))
        array = self._scope.constant(name)
        if array is None:
            grid = self._grid(scale, zero, name)
            if grid is None:
                raise _Unusual
            return self._real(name, grid)
        steps = self._scope.constant(scale)
        zeros = self._scope.constant(zero) if zero else np.zeros(1, array.dtype)
        if steps is None or zeros is None:
            raise _Unusual
        self._form.weights.append(Grid(steps.reshape(-1), zeros.reshape(-1).astype(np.int64), array.dtype.name))
        shape = [-1 if place == axis % array.ndim else 1 for place in range(array.ndim)]
        steps, zeros = (part.reshape(shape if part.size > 1 else [1] * array.ndim) for part in (steps, zeros))
        return self.constant(name, (array.astype(np.float32) - zeros.astype(np.float32)) * steps)

    def bias(self, node: NodeProto, position: int, x: int, w: int) -> list[str]:
        """An int32 bias in steps of the product of two scales."""
        if not _at(node, position):
            return []
        array, first, second = (self._scope.constant(node.input[place]) for place in (position, x, w))
        if array is None or first is None or second is None:
            raise _Unusual
        return [
            self.constant(node.input[position], array.astype(np.float32) * (first.reshape(-1) * second.reshape(-1)))
        ]

    def constant(self, stem: str, array: np.ndarray) -> str:
        """The name of a new float constant."""
        name = self._names(f"{stem}_float")
        self._initializers.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def result(
        self, node: NodeProto, name: str, inputs: list[str], position: int, like: str, **attributes: object
    ) -> None:
        """Write a float operator and quantize what it gives by the scale and zero point at that place of the node."""
        made = self._names(f"{node.output[0]}_exact")
        kept = helper.make_node(name, inputs, [made], name=node.name)
        kept.attribute.extend(entry for entry in node.attribute if entry.name not in ("opset", "channels_last"))
        kept.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self._nodes.append(kept)
        grid = self._grid(node.input[position], _at(node, position + 1), like)
        if grid is None:
            raise _Unusual
        self._pair(made, node.output[0], grid)

    def opset(self) -> int:
        return model_opset(self._model)

    def _moved(self, node: NodeProto) -> None:
        if node.input[0] not in self._grids:
            raise _Unusual  # an input whose scale stands at a later operator
        grid = self._grids[node.input[0]]
        if node.op_type == "MaxPool" and len(node.output) > 1:
            raise _Unusual
        made = [self._names(f"{name}_exact") for name in node.output]
        kept = NodeProto()
        kept.CopyFrom(node)
        kept.input[0] = self._float(node.input[0])
        del kept.output[:]
        kept.output.extend(made)
        self._nodes.append(kept)
        for source, name in zip(made, node.output, strict=True):
            self._pair(source, name, grid)


def _at(node: NodeProto, position: int) -> str:
    return node.input[position] if position < len(node.input) else ""


def _attribute(node: NodeProto, name: str, default: int) -> int:
    return next((entry.i for entry in node.attribute if entry.name == name), default)


def _conv(write: _Rewriting, node: NodeProto) -> None:
    _channels_first(node)
    inputs = [write.operand(node, 0), write.operand(node, 3), *write.bias(node, 8, 1, 4)]
    write.result(node, "Conv", inputs, 6, node.input[0])


def _matmul(write: _Rewriting, node: NodeProto) -> None:
    write.result(node, "MatMul", [write.operand(node, 0), write.operand(node, 3, axis=-1)], 6, node.input[0])


def _gemm(write: _Rewriting, node: NodeProto) -> None:
    axis = 0 if _attribute(node, "transB", 0) else 1
    if not _at(node, 7) or any(entry.name == "alpha" and entry.f != 1 for entry in node.attribute):
        raise _Unusual
    inputs = [write.operand(node, 0), write.operand(node, 3, axis=axis), *write.bias(node, 6, 1, 4)]
    write.result(node, "Gemm", inputs, 7, node.input[0])


def _binary(name: str) -> Callable[[_Rewriting, NodeProto], None]:
    def write_binary(write: _Rewriting, node: NodeProto) -> None:
        write.result(node, name, [write.operand(node, 0), write.operand(node, 3)], 6, node.input[0])

    return write_binary


def _unary(name: str) -> Callable[[_Rewriting, NodeProto], None]:
    def write_unary(write: _Rewriting, node: NodeProto) -> None:
        _channels_first(node)
        if name == "Softmax" and (_attribute(node, "opset", 13) < 13) != (write.opset() < 13):
            raise _Unusual
        write.result(node, name, [write.operand(node, 0)], 3, node.input[0])

    return write_unary


def _concat(write: _Rewriting, node: NodeProto) -> None:
    parts = [write.operand(node, place) for place in range(2, len(node.input), 3)]
    write.result(node, "Concat", parts, 0, node.input[2])


def _channels_first(node: NodeProto) -> None:
    if _attribute(node, "channels_last", 0):
        raise _Unusual


_WRITTEN: dict[str, Callable[[_Rewriting, NodeProto], None]] = {
    "QLinearConv": _conv,
    "QLinearMatMul": _matmul,
    "QGemm": _gemm,
    "QLinearAdd": _binary("Add"),
    "QLinearMul": _binary("Mul"),
    "QLinearConcat": _concat,
    "QLinearSigmoid": _unary("Sigmoid"),
    "QLinearLeakyRelu": _unary("LeakyRelu"),
    "QLinearSoftmax": _unary("Softmax"),
    "QLinearGlobalAveragePool": _unary("GlobalAveragePool"),
    "QLinearAveragePool": _unary("AveragePool"),
}
