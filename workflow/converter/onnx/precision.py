"""Models of half precision, and of float64, as the same computation in float32, which targets have kernels for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from converter.hub.hub import Hub, Run, TensorSpec
from converter.verification.runtimes import OnnxModel

__all__ = ["float32_note", "float32_reference", "float32_runner", "in_float32", "rounded_reference", "widened"]

_HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
_DOUBLE = (TensorProto.DOUBLE,)
# Attributes that name an element type, by operator.
_TYPES = {
    "Cast": "to",
    "EyeLike": "dtype",
    "SequenceEmpty": "dtype",
    "QuantizeLinear": "precision",
    "DequantizeLinear": "output_dtype",
    "Attention": "softmax_precision",
}


def in_float32(model: onnx.ModelProto, *, doubles: bool = False) -> list[str]:
    """Make all tensors of half precision float32, in place, inputs and outputs too; the names of those types, or nothing.

    doubles: those of float64 instead.
    """
    kinds, found = _DOUBLE if doubles else _HALVES, set[int]()
    for graph in _graphs(model.graph):
        for entry in (*graph.input, *graph.output, *graph.value_info):
            _widen_type(entry.type, kinds, found)
        for tensor in graph.initializer:
            _widen(tensor, kinds, found)
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.TENSOR:
                    _widen(attribute.t, kinds, found)
                elif attribute.name == _TYPES.get(node.op_type) and attribute.i in kinds:
                    found.add(attribute.i)
                    attribute.i = TensorProto.FLOAT
    return sorted(TensorProto.DataType.Name(number).lower() for number in found)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from _graphs(inner)


def _widen_type(kind: onnx.TypeProto, kinds: Collection[int], found: set[int]) -> None:
    form = kind.WhichOneof("value")
    if form == "tensor_type" and kind.tensor_type.elem_type in kinds:
        found.add(kind.tensor_type.elem_type)
        kind.tensor_type.elem_type = TensorProto.FLOAT
    elif form in ("sequence_type", "optional_type"):
        _widen_type(getattr(kind, form).elem_type, kinds, found)


def _widen(tensor: onnx.TensorProto, kinds: Collection[int], found: set[int]) -> None:
    if tensor.data_type in kinds:
        found.add(tensor.data_type)
        array = onnx.numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))


_NARROW = ("float16", "bfloat16")
_OTHERS = (*_NARROW, "float64")


def widened(spec: TensorSpec) -> TensorSpec:
    """An input or output as it is once the model is computed in float32."""
    return replace(spec, dtype="float32") if spec.dtype in _OTHERS else spec


def float32_note(names: Sequence[str]) -> str:
    """The report's sentence. names: what `in_float32` found."""
    return f"its {' and '.join(names)} is computed with in float32, and the file compared with that"


def float32_runner(model: onnx.ModelProto, folder: Path) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
    """onnxruntime's computation of a model that `in_float32` made, by way of a file in `folder`; the model keeps its weights."""
    stored = onnx.ModelProto()
    stored.CopyFrom(model)  # what is saved so loses them
    path = folder / "float32.onnx"
    onnx.save_model(stored, str(path), save_as_external_data=True, location="float32.weights")
    return OnnxModel(path).run


def float32_reference(hub: Hub, run: Callable[[Sequence[np.ndarray]], list[np.ndarray]]) -> list[Run]:
    """The hub's samples and what `run` answers to them."""
    runs = [replace(entry, inputs=[_float32(x) for x in entry.inputs]) for entry in hub.reference()]
    return [replace(entry, outputs=[np.asarray(y) for y in run(entry.inputs)]) for entry in runs]


def rounded_reference(hub: Hub) -> list[Run]:
    """The hub's own samples and answers, in float32 where they are of float64."""
    return [
        replace(entry, inputs=[_float32(x) for x in entry.inputs], outputs=[_float32(y) for y in entry.outputs])
        for entry in hub.reference()
    ]


def _float32(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype.name in _OTHERS else array
