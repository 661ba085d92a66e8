"""Run a TensorFlow Lite file that holds Select-TF (Flex) operators, which no interpreter of today's packages links.

Each Flex node carries the operator of TensorFlow that it stands for; the delegate that phones link executes it with
TensorFlow's kernel. Here that is done node by node, while LiteRT prepares and runs what lies between them, and the
branches and loops around both are followed.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import tensorflow as tf
from flatbuffers import flexbuffers
from tensorflow.python.framework import op_def_registry

from converter.hub.hub import TensorSpec
from converter.tf.graph.errors import reason
from converter.tf.graph.graph import GraphDef, NodeDef
from converter.tf.trust.refused_operators import refuse
from converter.tflite.flatbuffer import TENSOR_DTYPES, constant, is_constant, operator_name, read, schema

__all__ = ["FlexModel"]

_CONTROL = ("IF", "WHILE")
# What refers to state that lies outside of the tensors, or to other subgraphs in ways that are not followed here.
_REFUSED = ("CALL", "CALL_ONCE", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "HASHTABLE", "HASHTABLE_FIND")
_UNTRANSFERABLE = ("resource", "variant")


@dataclass
class _Step:
    """Builtin operators in a row, or one Flex operator, or one of _CONTROL."""

    kind: str
    operators: list[schema.OperatorT] = field(default_factory=list)


def _places(specs: Sequence[TensorSpec], tensors: Sequence[int], order: Sequence[int]) -> dict[str, int]:
    """Where the tensor behind each name stands in the subgraph's own order."""
    known = list(dict.fromkeys(map(int, order)))
    return {spec.name: known.index(int(tensor)) for spec, tensor in zip(specs, tensors, strict=True)}


class FlexModel:
    """As `converter.verification.runtimes.TFLiteModel`: arrays in the order of `inputs` in, arrays in the order of `outputs` out.

    Its inputs and outputs are not quantized. Raises RuntimeError, here or in `run`, where the file refers to something that
    it does not hold, or a part of it cannot be prepared or run, and UntrustedError where an operator reads files and such.
    """

    def __init__(self, path: Path) -> None:
        self._model = read(Path(path).read_bytes())
        self._steps = [self._plan(subgraph) for subgraph in self._model.subgraphs]
        self._segments: dict[int, _Segment] = {}
        self._functions: dict[int, Callable] = {}
        litert, tensorflow = (importlib.metadata.version(package) for package in ("ai-edge-litert", "tensorflow"))
        self.name = f"ai-edge-litert {litert}, Select-TF operators one by one in tensorflow {tensorflow}"
        main, signature = self._model.subgraphs[0], self._model.signatureDefs[0]
        self.inputs = self._specs(main.inputs, signature.inputs)
        self._outputs = [entry.tensorIndex for entry in signature.outputs]
        self.outputs = self._specs(self._outputs, signature.outputs)
        self.input_places = _places(self.inputs, main.inputs, main.inputs)
        self.output_places = _places(self.outputs, self._outputs, main.outputs)
        self.input_quantization = [(0.0, 0)] * len(self.inputs)
        self.output_quantization = [(0.0, 0)] * len(self.outputs)
        refuse(
            path, (_node(o) for steps in self._steps for step in steps if step.kind == "flex" for o in step.operators)
        )

    def _specs(self, indices: Sequence[int], signature: Sequence[schema.TensorMapT]) -> list[TensorSpec]:
        names = {entry.tensorIndex: [] for entry in signature}
        for entry in signature:
            names[entry.tensorIndex].append(entry.name.decode())
        specs = []
        for index in indices:
            tensor = self._model.subgraphs[0].tensors[index]
            shape = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
            dims = tuple(None if dim == -1 else int(dim) for dim in ([] if shape is None else shape))
            specs.append(TensorSpec(names[index].pop(0), dims, TENSOR_DTYPES[tensor.type]))
        return specs

    def _plan(self, subgraph: schema.SubGraphT) -> list[_Step]:
        steps: list[_Step] = []
        for operator in subgraph.operators or []:
            name = operator_name(self._model, operator)
            if name in _REFUSED:
                raise RuntimeError(f"it holds {name}, whose state is not in the file")
            kind = "flex" if name.startswith("Flex") else "control" if name in _CONTROL else "builtin"
            if kind != "builtin" or not steps or steps[-1].kind != "builtin":
                steps.append(_Step(kind))
            steps[-1].operators.append(operator)
        return steps

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs of inputs, both in the order of the file's main subgraph."""
        main = self._model.subgraphs[0]
        values = self._run(0, dict(zip(main.inputs, arrays, strict=True)))
        return [_array(values[index]) for index in self._outputs]

    def _run(self, number: int, values: dict) -> dict:
        """The values of all tensors of a subgraph that leave a step, by index; `values`: of its inputs."""
        subgraph = self._model.subgraphs[number]
        for index in {*self._wanted(subgraph)}:
            if is_constant(self._model, subgraph.tensors[index]):
                values[index] = self._constant(subgraph.tensors[index])
        for step in self._steps[number]:
            operator = step.operators[0]
            if step.kind == "builtin":
                if id(operator) not in self._segments:
                    self._segments[id(operator)] = _Segment(self._model, subgraph, step.operators)
                values |= self._segments[id(operator)].run(values)
                continue
            inputs = [values[index] for index in operator.inputs if index != -1]
            results = self._flex(operator, inputs) if step.kind == "flex" else self._control(operator, inputs)
            for index, result in zip(operator.outputs if operator.outputs is not None else [], results, strict=True):
                self._check(subgraph.tensors[index], result)
                values[index] = result
        return values

    def _wanted(self, subgraph: schema.SubGraphT) -> list[int]:
        """Tensors that something other than LiteRT reads."""
        found = list(subgraph.outputs)
        for operator in subgraph.operators or []:
            if operator_name(self._model, operator).startswith(("Flex", *_CONTROL)):
                found += [index for index in operator.inputs if index != -1]
        return found

    def _constant(self, tensor: schema.TensorT) -> np.ndarray:
        if TENSOR_DTYPES[tensor.type] != "string":
            return constant(self._model, tensor)
        data = np.asarray(self._model.buffers[tensor.buffer].data).reshape(-1).view(np.uint8).tobytes()
        count = int.from_bytes(data[:4], "little")
        offsets = np.frombuffer(data, np.int32, count + 1, 4)
        texts = [data[start:end] for start, end in zip(offsets[:-1], offsets[1:], strict=True)]
        return np.array(texts, object).reshape([] if tensor.shape is None else tensor.shape)

    def _check(self, tensor: schema.TensorT, value: Any) -> None:
        dtype = value.dtype.name if isinstance(value, tf.Tensor) else _dtype(value)
        if dtype != TENSOR_DTYPES[tensor.type]:
            raise RuntimeError(
                f"{tensor.name.decode()} is {TENSOR_DTYPES[tensor.type]} in the file, and computed as {dtype}"
            )

    def _control(self, operator: schema.OperatorT, inputs: list) -> list:
        options = operator.builtinOptions
        if operator_name(self._model, operator) == "IF":
            chosen = bool(_array(inputs[0]).reshape(()))
            return self._call(options.thenSubgraphIndex if chosen else options.elseSubgraphIndex, inputs[1:])
        while bool(_array(self._call(options.condSubgraphIndex, inputs)[0]).reshape(())):
            inputs = self._call(options.bodySubgraphIndex, inputs)
        return inputs

    def _call(self, number: int, inputs: list) -> list:
        subgraph = self._model.subgraphs[number]
        values = self._run(number, dict(zip(subgraph.inputs, inputs, strict=True)))
        return [values[index] for index in subgraph.outputs]

    def _flex(self, operator: schema.OperatorT, inputs: list) -> list:
        tensors = [value if isinstance(value, tf.Tensor) else tf.constant(value) for value in inputs]
        if id(operator) not in self._functions:
            self._functions[id(operator)] = _function(_node(operator), [tensor.dtype for tensor in tensors])
        try:
            return self._functions[id(operator)](tensors)
        except (tf.errors.OpError, ValueError, TypeError) as error:
            raise RuntimeError(f"{operator_name(self._model, operator)}: {reason(error)}") from error


def _dtype(value: np.ndarray) -> str:
    return "string" if value.dtype.kind in "OSU" else value.dtype.name


def _array(value: Any) -> np.ndarray:
    if isinstance(value, tf.Tensor):
        if value.dtype.name in _UNTRANSFERABLE:
            raise RuntimeError(f"a {value.dtype.name} leaves the operators of Select-TF")
        return value.numpy() if value.shape.rank else np.asarray(value.numpy())
    return np.asarray(value)


def _node(operator: schema.OperatorT) -> NodeDef:
    """The operator of TensorFlow in a Flex node: a flexbuffer of its name and its NodeDef."""
    options = flexbuffers.GetRoot(bytes(operator.customOptions)).AsVector
    return NodeDef.FromString(bytes(options[1].AsStringBytes))


def _function(node: NodeDef, dtypes: list[tf.DType]) -> Callable[[list[tf.Tensor]], list[tf.Tensor]]:
    if op_def_registry.get(node.op) is None:
        raise RuntimeError(f"TensorFlow has no operator {node.op}")
    graph_def = GraphDef()
    names = [f"input_{index}" for index in range(len(dtypes))]
    for name, dtype in zip(names, dtypes, strict=True):
        graph_def.node.add(name=name, op="Placeholder").attr["dtype"].type = dtype.as_datatype_enum
    copied = graph_def.node.add()
    copied.CopyFrom(node)
    copied.name = "operator"
    del copied.input[:]
    copied.input.extend(names)

    def call(*arguments: tf.Tensor) -> list[tf.Tensor] | tf.Operation:
        feeds = {f"{name}:0": argument for name, argument in zip(names, arguments, strict=True)}
        (operation,) = tf.import_graph_def(graph_def, input_map=feeds, return_elements=["operator"])
        return list(operation.outputs) or operation

    wrapped = tf.compat.v1.wrap_function(call, [tf.TensorSpec(None, dtype) for dtype in dtypes])
    return lambda tensors: list(wrapped(*tensors) or [])


class _Segment:
    """Builtin operators in a row, as a file of their own in LiteRT."""

    def __init__(self, model: schema.ModelT, subgraph: schema.SubGraphT, operators: list[schema.OperatorT]) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._inputs, self._outputs, part = _part(model, subgraph, operators)
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(part.Pack(builder), b"TFL3")
        self._interpreter = Interpreter(model_content=bytes(builder.Output()), num_threads=1)

    def run(self, values: dict) -> dict:
        interpreter = self._interpreter
        entries = interpreter.get_input_details()
        arrays = [_array(values[index]) for index in self._inputs]
        for entry, array in zip(entries, arrays, strict=True):
            interpreter.resize_tensor_input(entry["index"], list(array.shape))
        interpreter.allocate_tensors()
        interpreter.reset_all_variables()
        for entry, array in zip(entries, arrays, strict=True):
            interpreter.set_tensor(entry["index"], array)
        interpreter.invoke()
        results = [interpreter.get_tensor(entry["index"]) for entry in interpreter.get_output_details()]
        return dict(zip(self._outputs, results, strict=True))


def _part(
    model: schema.ModelT, subgraph: schema.SubGraphT, operators: list[schema.OperatorT]
) -> tuple[list[int], list[int], schema.ModelT]:
    """(the tensors it reads, the tensors it makes for others, the operators as a model that takes and gives these)."""
    made = {index for operator in operators for index in operator.outputs}
    read_ = [index for operator in operators for index in operator.inputs if index != -1]
    inputs = [
        index
        for index in dict.fromkeys(read_)
        if index not in made
        and not is_constant(model, subgraph.tensors[index])
        and not subgraph.tensors[index].isVariable
    ]
    own = {id(operator) for operator in operators}
    elsewhere = set(subgraph.outputs)
    for operator in subgraph.operators:
        if id(operator) not in own:
            elsewhere |= set(operator.inputs)
    outputs = [index for index in dict.fromkeys(i for o in operators for i in o.outputs) if index in elsewhere]
    for index in (*inputs, *outputs):
        if TENSOR_DTYPES[subgraph.tensors[index].type] in _UNTRANSFERABLE:
            name = subgraph.tensors[index].name.decode()
            raise RuntimeError(f"{name}, which Select-TF and other operators share, cannot be handed over between them")

    part = schema.ModelT()
    part.version = model.version
    part.description = "part"
    part.buffers, part.operatorCodes = [schema.BufferT()], []
    graph = schema.SubGraphT()
    graph.tensors, graph.operators = [], []
    places: dict[int, int] = {-1: -1}
    for index in dict.fromkeys([*inputs, *read_, *(i for o in operators for i in o.outputs)]):
        tensor = _copy(subgraph.tensors[index])
        buffer = model.buffers[tensor.buffer]
        tensor.buffer = 0
        if is_constant(model, subgraph.tensors[index]):
            tensor.buffer = len(part.buffers)
            part.buffers.append(schema.BufferT())
            part.buffers[-1].data = np.asarray(buffer.data).reshape(-1).view(np.uint8)
        places[index] = len(graph.tensors)
        graph.tensors.append(tensor)
    codes: dict[int, int] = {}
    for operator in operators:
        copied = _copy(operator)
        if operator.opcodeIndex not in codes:
            codes[operator.opcodeIndex] = len(part.operatorCodes)
            part.operatorCodes.append(model.operatorCodes[operator.opcodeIndex])
        copied.opcodeIndex = codes[operator.opcodeIndex]
        copied.inputs = np.array([places[index] for index in operator.inputs], np.int32)
        copied.outputs = np.array([places[index] for index in operator.outputs], np.int32)
        graph.operators.append(copied)
    graph.inputs = np.array([places[index] for index in inputs], np.int32)
    graph.outputs = np.array([places[index] for index in outputs], np.int32)
    part.subgraphs = [graph]
    return inputs, outputs, part


def _copy(table: object) -> object:
    """A shallow copy of an object of the schema."""
    copied = type(table)()
    copied.__dict__.update(vars(table))
    return copied
