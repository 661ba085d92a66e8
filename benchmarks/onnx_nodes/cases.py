"""The cases, and which of them no TensorFlow Lite file can hold at all, with the reason."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

__all__ = ["Case", "all_cases", "cannot_hold"]


@dataclass(frozen=True)
class Case:
    """One model with its inputs and what the test expects, all by position."""

    name: str
    model: onnx.ModelProto
    inputs: list[Any]
    expected: list[Any]

    @property
    def operator(self) -> str:
        """What the case is about: its only node, or the name in the case's own for those that are written out."""
        nodes = self.model.graph.node
        return nodes[0].op_type if len(nodes) == 1 else self.name.removeprefix("test_").split("_")[0]


def all_cases() -> Iterator[Case]:
    """In the package's own order; the first data set of each."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for test in load_model_tests(kind="node"):
            inputs, expected = test.data_sets[0]
            yield Case(test.name, test.model, list(inputs), list(expected))


# What the format's tensors hold (schema.fbs): no bfloat16 or complex arithmetic, no float8, no 4-bit inputs.
_TYPES = {
    TensorProto.STRING: "texts",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.COMPLEX64: "complex numbers",
    TensorProto.COMPLEX128: "complex numbers",
    TensorProto.FLOAT8E4M3FN: "float8",
    TensorProto.FLOAT8E4M3FNUZ: "float8",
    TensorProto.FLOAT8E5M2: "float8",
    TensorProto.FLOAT8E5M2FNUZ: "float8",
    TensorProto.FLOAT8E8M0: "float8",
    TensorProto.FLOAT4E2M1: "float4",
    TensorProto.INT4: "four-bit integers as inputs or outputs",
    TensorProto.UINT4: "four-bit integers as inputs or outputs",
    TensorProto.UINT16: "arithmetic of uint16, uint32 or uint64",
    TensorProto.UINT32: "arithmetic of uint16, uint32 or uint64",
    TensorProto.UINT64: "arithmetic of uint16, uint32 or uint64",
}
for _name in ("INT2", "UINT2"):
    if hasattr(TensorProto, _name):
        _TYPES[getattr(TensorProto, _name)] = "two-bit integers"
_OPERATORS = {
    **dict.fromkeys(("Adagrad", "Adam", "Momentum", "Gradient"), "training of weights"),
    **dict.fromkeys(
        ("Bernoulli", "RandomUniformLike", "RandomNormalLike", "Multinomial"),
        "random numbers, no two runs of which agree",
    ),
    "ImageDecoder": "decoding of image files",
    "TreeEnsemble": "ensembles of trees",
    "TfIdfVectorizer": "counts of word sequences",
    "LabelEncoder": "tables of texts",
}


def cannot_hold(case: Case) -> str | None:
    """Why no TensorFlow Lite file can be this case; None where one could be."""
    for node in case.model.graph.node:
        if node.op_type in _OPERATORS:
            return _OPERATORS[node.op_type]
    for entry in (*case.model.graph.input, *case.model.graph.output):
        form = entry.type.WhichOneof("value")
        if form != "tensor_type":
            return f"inputs or outputs that are {str(form).removesuffix('_type')}s"
        found = _TYPES.get(entry.type.tensor_type.elem_type)
        if found is not None:
            return found
    for node in case.model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in _TYPES:
                return _TYPES[attribute.i]
    if any(np.asarray(array).size == 0 for array in (*case.inputs, *case.expected)):
        return "tensors without elements, of which nothing could be compared"
    return None
