"""A TensorFlow Lite file as an ONNX model that computes the same.

Inputs and outputs keep their names, order, dtypes and layout (channels last). Quantized tensors become pairs of
QuantizeLinear and DequantizeLinear around operators of float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from converter.errors import SourceError, UnsupportedError
from converter.file_limits import MAX_BYTES
from converter.tflite.flatbuffer import schema
from converter.tflite_to_onnx import structure
from converter.tflite_to_onnx.core.cleaning import cleaned
from converter.tflite_to_onnx.core.graph import Constants, Graph
from converter.tflite_to_onnx.core.values import Value, known_shape
from converter.tflite_to_onnx.subgraphs import Model, Scope

__all__ = ["read_model"]


def read_model(path: Path) -> onnx.ModelProto:
    """An ONNX model, of opset 17 where its operators need no later one, that computes what LiteRT computes of the file.

    Raises SourceError for a damaged file, UnsupportedError for operators and types that ONNX cannot express.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return _model(data)
    except SourceError as error:
        raise SourceError(f"{path} is damaged: {error}") from error


def _model(data: bytes) -> onnx.ModelProto:
    source = structure.load(data)
    inputs, outputs = _interface(source)
    model = Model(source, len(data))
    model.constants.reserve([*inputs, *outputs])
    graph = Graph(model.constants)
    described = Scope(model, 0, graph, [Value("", np.dtype(np.float32), ())] * len(inputs))
    places = [int(index) for index in source.subgraphs[0].inputs] if inputs else []
    values = [described.described(index) for index in places]
    for name, value in zip(inputs, values, strict=True):
        value.stored = model.constants.declare(name, value.dtype, value.shape)
    scope = Scope(model, 0, graph, values)
    scope.run()
    results = [(name, scope.value(index)) for name, index in outputs.items()]
    for name, value in results:
        graph.nodes.append(onnx.helper.make_node("Identity", [scope.stored(value)], [name], name=name))
    if not any(None in value.shape for value in values):  # then the file's own shapes hold
        for _, value in results:
            value.shape = known_shape(value)
    nodes = cleaned(graph.nodes, list(outputs), list(inputs), model.constants)
    return _written(
        nodes,
        [_info(name, value) for name, value in zip(inputs, values, strict=True)],
        [_info(name, value) for name, value in results],
        model.constants,
    )


def _written(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Constants,
) -> onnx.ModelProto:
    used = _names_read(nodes)
    arrays = {name: array for name, array in constants.arrays.items() if name in used}
    size = sum(array.nbytes for array in arrays.values())
    if size > MAX_BYTES:
        raise UnsupportedError(
            f"the model's constants take {size / 1e9:.1f} GB, and an ONNX model in memory holds 2 GB"
        )
    initializers = [onnx.numpy_helper.from_array(np.asarray(array, order="C"), name) for name, array in arrays.items()]
    graph = onnx.helper.make_graph(nodes, "model", inputs, outputs, initializers)
    opsets = [onnx.helper.make_opsetid("", constants.opset)]
    version = onnx.helper.find_min_ir_version_for(opsets)
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=version, producer_name="converter")
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise SourceError(f"its shapes and types do not fit its operators ({error})") from error
    return model


def _names_read(nodes: Sequence[onnx.NodeProto]) -> set[str]:
    names = set()
    for node in nodes:
        names.update(node.input)
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                names |= _names_read(attribute.g.node) | {entry.name for entry in attribute.g.output}
    return names


def _info(name: str, value: Value) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)


def _interface(model: schema.ModelT) -> tuple[list[str], dict[str, int]]:
    """Names of the main subgraph's inputs, in its order, and its outputs' names with their tensors (see TFLiteModel)."""
    subgraph = model.subgraphs[0]
    inputs = [] if subgraph.inputs is None else [int(index) for index in subgraph.inputs]
    outputs = [] if subgraph.outputs is None else [int(index) for index in subgraph.outputs]
    if not outputs:
        raise SourceError("it has no outputs")
    if model.signatureDefs:
        signature = model.signatureDefs[0]
        if signature.subgraphIndex != 0:
            raise UnsupportedError("the TensorFlow Lite file's first signature is not that of its main subgraph")
        given, results = _named(signature.inputs), _named(signature.outputs)
    else:
        given = [(structure.text(subgraph.tensors[index].name), index) for index in inputs]
        results = [(structure.text(subgraph.tensors[index].name), index) for index in outputs]
    by_tensor = {index: name for name, index in given}
    if (
        len(by_tensor) != len(given)
        or set(by_tensor) != set(inputs)
        or not {index for _, index in results} <= set(outputs)
    ):
        raise SourceError("its signature does not name its inputs and outputs once each")
    names = [by_tensor[index] for index in inputs]
    results.sort(key=lambda result: (outputs.index(result[1]), result[0]))
    found = dict(results)
    if len(set(names)) != len(names) or len(found) != len(results) or "" in (*names, *found):
        raise UnsupportedError("the TensorFlow Lite file has inputs or outputs without names of their own")
    if set(names) & set(found):
        both = ", ".join(sorted(set(names) & set(found)))
        raise UnsupportedError(
            f"the TensorFlow Lite file has inputs and outputs of one name, which ONNX cannot have: {both}"
        )
    return names, found


def _named(entries: Sequence[schema.TensorMapT] | None) -> list[tuple[str, int]]:
    return [(structure.text(entry.name), int(entry.tensorIndex)) for entry in entries or []]
