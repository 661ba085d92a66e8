"""Dynamic range quantization of an ONNX model: int8 weights, float inputs and outputs, ranges taken at run time.

Products and convolutions with constant weights are computed in integers (MatMulInteger, ConvInteger behind a
DynamicQuantizeLinear); tables are looked up as int8; the weights of other operators are int8 with a DequantizeLinear.
One scale for each channel throughout. onnxruntime's own quantizer (1.32) takes one for a whole convolution, which loses
depthwise ones, leaves Gemm alone where its weights are transposed, and writes operators that are not ONNX's for LSTM.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from converter.onnx.core.graphs import STANDARD, FreshNames, Scope, replace_fields
from converter.onnx.simplify import remove_unused
from converter.quantization.onnx.graph import scopes, weight
from converter.quantization.onnx.weights import per_channel

__all__ = ["quantize_weights"]

# Which input of an operator holds weights, and along which axis its results lie.
_UNFOLDED = {"LSTM": {1: 1, 2: 1}, "GRU": {1: 1, 2: 1}, "RNN": {1: 1, 2: 1}, "ConvTranspose": {1: 1}, "MatMul": {0: 0}}


def quantize_weights(model: ModelProto, keep_float: Collection[str] = ()) -> None:
    """Do so in place, to the weights of SMALL elements or more of a typed model. `keep_float`: names of nodes."""
    names = FreshNames(model)
    for graph, scope in reversed(list(scopes(model.graph))):  # inner ones first: the nodes around them are copied
        _Quantizer(model, graph, scope, names).run(set(keep_float))
    remove_unused(model)


class _Quantizer:
    def __init__(self, model: ModelProto, graph: GraphProto, scope: Scope, names: FreshNames) -> None:
        self._model, self._graph, self._scope, self._names = model, graph, scope, names
        self._nodes: list[NodeProto] = []
        self._activations: dict[str, tuple[str, str, str]] = {}
        self._unfolded: dict[tuple[str, int], str] = {}

    def run(self, keep: set[str]) -> None:
        for node in list(self._graph.node):
            kept = node.name in keep or node.domain not in STANDARD
            if not kept and self._replaced(node):
                continue
            if not kept:
                self._unfold_weights(node)
            self._nodes.append(node)
        if len(self._nodes) != len(self._graph.node) or self._unfolded:
            replace_fields(self._graph.node, self._nodes)

    def _replaced(self, node: NodeProto) -> bool:
        """Write the node in integers, where that can be."""
        match node.op_type:
            case "MatMul" if (values := weight(self._scope, node.input[1], rank=2)) is not None:
                self._product(node, node.input[0], values, node.output[0])
            case "Gemm":
                return self._gemm(node)
            case "Conv" if (values := weight(self._scope, node.input[1])) is not None:
                self._convolution(node, values)
            case "Gather" if _axis(node, 0) == 0 and (values := weight(self._scope, node.input[0], rank=2)) is not None:
                self._table(node, values)
            case _:
                return False
        return True

    def _product(self, node: NodeProto, left: str, values: np.ndarray, result: str, factor: float = 1.0) -> None:
        """left (..., K) times values (K, N), times a factor."""
        integers, scales = per_channel(values, 1)
        quantized, scale, zero = self._quantized(left)
        stem = node.input[1]
        summed = self._emit("MatMulInteger", [quantized, self._constant(integers, f"{stem}_int8"), zero], node.name)
        self._rescale(summed, scale, self._constant(scales * np.float32(factor), f"{stem}_scale"), result)

    def _gemm(self, node: NodeProto) -> bool:
        """alpha * A * B + beta * C, with the factors within the scales and the constant."""
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        values = weight(self._scope, node.input[1], rank=2)
        if values is None or attributes.get("transA", 0):
            return False
        values = values.T if attributes.get("transB", 0) else values
        added = node.input[2] if len(node.input) > 2 else ""
        product = self._names(f"{node.output[0]}_product") if added else node.output[0]
        self._product(node, node.input[0], values, product, attributes.get("alpha", 1.0))
        if added:
            if (beta := attributes.get("beta", 1.0)) != 1.0:
                added = self._emit("Mul", [added, self._constant(np.array(beta, np.float32), "beta")], added)
            self._nodes.append(helper.make_node("Add", [product, added], [node.output[0]], name=f"{node.name}_bias"))
        return True

    def _convolution(self, node: NodeProto, values: np.ndarray) -> None:
        integers, scales = per_channel(values, 0)
        quantized, scale, zero = self._quantized(node.input[0])
        shape = [-1, *[1] * (values.ndim - 2)]
        # onnxruntime (1.32) has no kernel for int8 weights: the same integers, shifted by the zero point 128.
        shifted = (integers.astype(np.int16) + 128).astype(np.uint8)
        stem = node.input[1]
        weights = [self._constant(shifted, f"{stem}_uint8"), zero, self._constant(np.array(128, np.uint8), "middle")]
        summed = self._emit("ConvInteger", [quantized, *weights], node.name, node)
        scales = self._constant(scales.reshape(shape), f"{stem}_scale")
        bias = node.input[2] if len(node.input) > 2 else ""
        result = self._names(f"{node.output[0]}_product") if bias else node.output[0]
        self._rescale(summed, scale, scales, result)
        if bias:
            to = self._constant(np.array(shape, np.int64), "per_channel")
            spread = self._emit("Reshape", [bias, to], bias)
            self._nodes.append(helper.make_node("Add", [result, spread], [node.output[0]], name=f"{node.name}_bias"))

    def _table(self, node: NodeProto, values: np.ndarray) -> None:
        """Rows of a table (rows, columns), looked up as int8, with a scale for each row."""
        integers, scales = per_channel(values, 0)
        stem, indices = node.input[0], node.input[1]
        rows = self._emit("Gather", [self._constant(integers, f"{stem}_int8"), indices], node.name)
        scale = self._emit(
            "Gather", [self._constant(scales.reshape(-1, 1), f"{stem}_scale"), indices], f"{node.name}_scale"
        )
        wide = self._emit("Cast", [rows], f"{node.name}_float", to=TensorProto.FLOAT)
        self._nodes.append(helper.make_node("Mul", [wide, scale], [node.output[0]], name=f"{node.name}_rows"))

    def _unfold_weights(self, node: NodeProto) -> None:
        """int8 weights with a DequantizeLinear, for operators that have no form in integers."""
        for place, axis in _UNFOLDED.get(node.op_type, {}).items():
            name = node.input[place] if len(node.input) > place else ""
            values = weight(self._scope, name)
            if values is None:
                continue
            if (name, axis) not in self._unfolded:
                integers, scales = per_channel(values, axis)
                stored = [self._constant(integers, f"{name}_int8"), self._constant(scales, f"{name}_scale")]
                self._unfolded[name, axis] = self._emit("DequantizeLinear", stored, name, axis=axis)
            node.input[place] = self._unfolded[name, axis]

    def _quantized(self, name: str) -> tuple[str, str, str]:
        """Names of a value's uint8 form, of its scale and of its zero point; one operator for all that read it."""
        if name not in self._activations:
            results = tuple(self._names(f"{name}_{part}") for part in ("uint8", "scale", "zero_point"))
            made = helper.make_node(
                "DynamicQuantizeLinear", [name], list(results), name=self._names(f"{name}_DynamicQuantizeLinear")
            )
            self._nodes.append(made)
            self._activations[name] = (results[0], results[1], results[2])
        return self._activations[name]

    def _rescale(self, summed: str, activation_scale: str, weight_scales: str, result: str) -> None:
        """The product of integers as float: times both scales. In the form that onnxruntime fuses."""
        wide = self._emit("Cast", [summed], f"{summed}_float", to=TensorProto.FLOAT)
        scales = self._emit("Mul", [activation_scale, weight_scales], f"{summed}_scales")
        self._nodes.append(helper.make_node("Mul", [wide, scales], [result], name=self._names(f"{summed}_rescale")))

    def _emit(
        self, operator: str, inputs: list[str], stem: str, like: NodeProto | None = None, **attributes: int
    ) -> str:
        """Add a node, with the attributes of `like`; the name of its result."""
        result = self._names(f"{stem}_{operator}")
        node = helper.make_node(operator, inputs, [result], name=self._names(f"{stem}_{operator}"))
        node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
        if like is not None:
            node.attribute.extend(like.attribute)
        self._nodes.append(node)
        return result

    def _constant(self, values: np.ndarray, stem: str) -> str:
        """The name of an initializer of the main graph, which inner ones see."""
        name = self._names(stem)
        self._model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name


def _axis(node: NodeProto, default: int) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), default)
