"""Faults put into exported files: one operator of an ONNX or TensorFlow Lite file made to compute something else."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from converter.tflite.flatbuffer import constant, is_constant, operator_name, read, schema, write


@dataclass
class Fault:
    """`output`: the tensor that the spoilt operator gives, as the comparison names it. `write` makes the spoilt file."""

    kind: str
    operator: str
    output: str
    write: Callable[[Path], None]

    def __str__(self) -> str:
        return f"{self.kind} of {self.operator} {self.output}"


def onnx_faults(path: Path) -> Iterator[Fault]:
    """Every fault that one operator of the file can have, in order of execution."""
    model = onnx.load(path)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    used = [name for node in model.graph.node for name in node.input]
    for position, node in enumerate(model.graph.node):

        def fault(kind: str, change: Callable, position: int = position, node: onnx.NodeProto = node) -> Fault:
            def spoil(target: Path) -> None:
                spoilt = onnx.load(path)
                change(spoilt.graph, spoilt.graph.node[position])
                onnx.save(spoilt, target)

            return Fault(kind, node.op_type, next(filter(None, node.output)), spoil)

        for name in node.input:
            array = weights.get(name)
            if array is not None and array.dtype.kind == "f" and array.size > 3 and used.count(name) == 1:
                yield fault("weight", lambda graph, _, name=name: _scale(graph, name, slice(None), 1.05))
                yield fault("channel", lambda graph, _, name=name: _scale(graph, name, slice(1), 1.5))
        for kind, change in _ONNX_CHANGES.get(node.op_type, []):
            yield fault(kind, lambda _, node, change=change: change(node))


def _scale(graph: onnx.GraphProto, name: str, part: slice, factor: float) -> None:
    (tensor,) = (tensor for tensor in graph.initializer if tensor.name == name)
    array = np.array(numpy_helper.to_array(tensor))
    array[..., part] *= factor
    tensor.CopyFrom(numpy_helper.from_array(array, name))


def _becomes(name: str, **attributes: object) -> Callable:
    def change(node: onnx.NodeProto) -> None:
        node.op_type = name
        del node.attribute[:]
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())

    return change


def _attribute(name: str, change: Callable, default: object = None) -> Callable:
    def apply(node: onnx.NodeProto) -> None:
        old = next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)
        kept = [a for a in node.attribute if a.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, change(old))])

    return apply


def _swap(node: onnx.NodeProto) -> None:
    node.input[0], node.input[1] = node.input[1], node.input[0]


def _without_second(node: onnx.NodeProto) -> None:
    node.op_type = "Identity"
    del node.input[1:]
    del node.attribute[:]


def _shifted(pads: list[int] | None) -> list[int]:
    """The same sizes, with all padding at the far ends."""
    pads = list(pads or [])
    half = len(pads) // 2
    return [0] * half + [pads[i] + pads[i + half] for i in range(half)]


_ONNX_CHANGES: dict[str, list[tuple[str, Callable]]] = {
    "Relu": [("activation", _becomes("Sigmoid")), ("activation", _becomes("LeakyRelu", alpha=0.2))],
    "Tanh": [("activation", _becomes("Sigmoid"))],
    "Sigmoid": [("activation", _becomes("HardSigmoid"))],
    "Erf": [("activation", _becomes("Tanh"))],
    "Softmax": [("axis", _attribute("axis", lambda axis: 1))],
    "BatchNormalization": [("epsilon", _attribute("epsilon", lambda epsilon: 0.05))],
    "LayerNormalization": [("epsilon", _attribute("epsilon", lambda epsilon: 0.2))],
    "Conv": [("padding", _attribute("pads", _shifted))],
    "MaxPool": [("activation", _becomes("AveragePool", kernel_shape=[2, 2], strides=[2, 2]))],
    "Sub": [("swapped", _swap)],
    "Add": [("missing", _without_second)],
    "Mul": [("missing", _without_second)],
}


def tflite_faults(path: Path) -> Iterator[Fault]:
    """The same for a TensorFlow Lite file."""
    data = path.read_bytes()
    model = read(data)
    subgraph = model.subgraphs[0]
    used = [int(index) for operator in subgraph.operators for index in operator.inputs]
    for position, operator in enumerate(subgraph.operators):
        name = operator_name(model, operator)
        index = int(operator.outputs[0])
        output = f"{subgraph.tensors[index].name.decode()}#{index}"

        def fault(
            kind: str, change: Callable, position: int = position, name: str = name, output: str = output
        ) -> Fault:
            def spoil(target: Path) -> None:
                spoilt = read(data)
                change(spoilt, spoilt.subgraphs[0].operators[position])
                write(target, spoilt)

            return Fault(kind, name, output, spoil)

        for index in operator.inputs:
            tensor = subgraph.tensors[index] if index >= 0 else None
            if tensor is None or not is_constant(model, tensor) or tensor.type != schema.TensorType.FLOAT32:
                continue
            if used.count(int(index)) == 1 and constant(model, tensor).size > 3:
                yield fault("weight", lambda m, o, index=index: _scale_tflite(m, index, slice(None), 1.05))
                yield fault("channel", lambda m, o, index=index: _scale_tflite(m, index, slice(1), 1.5))
        activation = getattr(operator.builtinOptions, "fusedActivationFunction", None)
        if activation == schema.ActivationFunctionType.RELU:
            for other in (schema.ActivationFunctionType.NONE, schema.ActivationFunctionType.TANH):
                # LiteRT has no kernel of a convolution with tanh.
                if other == schema.ActivationFunctionType.NONE or name in ("ADD", "MUL"):
                    yield fault("activation", lambda m, o, other=other: _activate(o, other))
        for becomes in _TFLITE_KINDS.get(name, []):
            yield fault("activation", lambda m, o, becomes=becomes: _becomes_tflite(m, o, becomes))
        if name in ("SUB", "DIV", "BATCH_MATMUL"):
            yield fault("swapped", lambda m, o: _swap_tflite(o))


def _scale_tflite(model: schema.ModelT, index: int, part: slice, factor: float) -> None:
    tensor = model.subgraphs[0].tensors[index]
    array = np.array(constant(model, tensor))
    array[part] *= factor
    buffer = copy.copy(model.buffers[tensor.buffer])
    buffer.data = array
    model.buffers.append(buffer)
    tensor.buffer = len(model.buffers) - 1


def _activate(operator: schema.OperatorT, activation: int) -> None:
    operator.builtinOptions.fusedActivationFunction = activation


_TFLITE_KINDS = {
    "TANH": ["LOGISTIC"],
    "LOGISTIC": ["TANH"],
    "RELU": ["RELU6", "LOGISTIC"],
    "RSQRT": ["SQRT"],
    "SOFTMAX": ["LOG_SOFTMAX"],
    "MAX_POOL_2D": ["AVERAGE_POOL_2D"],
    "ADD": ["SUB"],
    "MUL": ["ADD"],
    "SUB": ["ADD"],
    "GELU": ["TANH"],
}


def _becomes_tflite(model: schema.ModelT, operator: schema.OperatorT, name: str) -> None:
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, name)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.version = 1
    model.operatorCodes.append(code)
    operator.opcodeIndex = len(model.operatorCodes) - 1
    options = {"ADD": ("AddOptions", schema.AddOptionsT), "SUB": ("SubOptions", schema.SubOptionsT)}
    if name == "AVERAGE_POOL_2D":
        return  # the options of both pools are the same
    kind, make = options.get(name, ("NONE", None))
    activation = getattr(operator.builtinOptions, "fusedActivationFunction", 0)
    operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
    operator.builtinOptions = make() if make else None
    if make:
        operator.builtinOptions.fusedActivationFunction = activation


def _swap_tflite(operator: schema.OperatorT) -> None:
    operator.inputs = np.array([operator.inputs[1], operator.inputs[0], *operator.inputs[2:]])
