"""What all passes over a float ONNX model start from: its types, its layers, and how it is read and written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
from onnx import GraphProto, ModelProto, TensorProto

from converter.errors import UnsupportedError
from converter.file_limits import MAX_BYTES
from converter.onnx.core.graphs import (
    STANDARD,
    Scope,
    all_graphs,
    constant_tensor,
    forget_types,
    inferred,
    inner_graphs,
    model_opset,
    replace_fields,
)
from converter.onnx.opset import convert_opset
from converter.quantization.layers import Layer

__all__ = ["SMALL", "add_types", "is_float", "layers_of", "read_typed", "save", "scopes", "weight"]

SMALL = 1024
"""Elements; smaller weights are not worth an operator more."""

# They convert, move or make values, or hold operators: nothing that could stay in float.
_NO_ARITHMETIC = {
    *("Cast", "CastLike", "Constant", "ConstantOfShape", "DequantizeLinear", "DynamicQuantizeLinear", "If", "Loop"),
    *("QuantizeLinear", "Range", "Scan", "Shape", "Size"),
}


def read_typed(path: Path, lowest_opset: int, asked: int | None = None) -> ModelProto:
    """The model with the types of all its values, at the opset asked for, else at its own or the lowest one that is needed.

    Functions are written out, constants are initializers, and nodes have names of their own.
    """
    model = onnx.load(str(path))
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    model = convert_opset(model, asked or max(model_opset(model), lowest_opset))
    for graph in all_graphs(model.graph):
        _constants_to_initializers(graph)
    _name_nodes(model)
    add_types(model)
    return model


def add_types(model: ModelProto) -> None:
    """Note the types of all values, as far as inference finds them, in place."""
    typed = inferred(model)
    for graph, with_types in zip(all_graphs(model.graph), all_graphs(typed.graph), strict=True):
        replace_fields(graph.value_info, list(with_types.value_info))


def _constants_to_initializers(graph: GraphProto) -> None:
    kept = []
    for node in graph.node:
        tensor = constant_tensor(node) if node.op_type == "Constant" and node.domain in STANDARD else None
        if tensor is None:
            kept.append(node)
        else:
            made = graph.initializer.add()
            made.CopyFrom(tensor)
            made.name = node.output[0]
    if len(kept) < len(graph.node):
        replace_fields(graph.node, kept)


def _name_nodes(model: ModelProto) -> None:
    """Each node its own name, which is what `keep_float` and rankings call it: the file's, else that of its first result."""
    nodes = [node for graph in all_graphs(model.graph) for node in graph.node]
    counts = Counter(node.name for node in nodes)
    taken = {name for name, count in counts.items() if count == 1}
    for node in nodes:
        if not node.name or counts[node.name] > 1:
            stem = next((name for name in node.output if name), node.op_type)
            name, number = stem, 0
            while name in taken:
                number += 1
                name = f"{stem}_{number}"
            node.name = name
            taken.add(name)


def scopes(graph: GraphProto, parent: Scope | None = None) -> Iterator[tuple[GraphProto, Scope]]:
    """The graph and all inside of it, each with what its nodes see."""
    scope = Scope(graph, parent)
    yield graph, scope
    for node in graph.node:
        for inner in inner_graphs(node):
            yield from scopes(inner, scope)


def is_float(scope: Scope, name: str) -> bool:
    """Whether the value is a float32 tensor."""
    kind = scope.type(name) if name else None
    return kind is not None and kind.HasField("tensor_type") and kind.tensor_type.elem_type == TensorProto.FLOAT


def layers_of(model: ModelProto) -> list[Layer]:
    """The operators of a typed model with a float result, in all graphs, in order of execution."""
    return [
        Layer(node.name, node.op_type, tuple(name.removesuffix(":0") for name in node.output if name != node.name))
        for graph, scope in scopes(model.graph)
        for node in graph.node
        if node.op_type not in _NO_ARITHMETIC and any(is_float(scope, name) for name in node.output)
    ]


def save(model: ModelProto, path: Path) -> None:
    """Write the model without the types of values inside, always the same bytes. Raises UnsupportedError above 2 GB."""
    forget_types(model)
    if model.ByteSize() > MAX_BYTES:
        raise UnsupportedError("an ONNX file holds at most 2 GB, and the quantized model is larger")
    path.write_bytes(model.SerializeToString(deterministic=True))


def weight(scope: Scope, name: str, rank: int | None = None) -> np.ndarray | None:
    """The value of a float32 constant of SMALL elements or more, of this rank if one is given; None for all else."""
    if not name or not is_float(scope, name):
        return None
    array = scope.constant(name)
    if array is None or array.size < SMALL or (rank is not None and array.ndim != rank):
        return None
    return array
