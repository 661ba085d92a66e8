"""The cases, and which of them no TensorFlow Lite file can hold at all, with the reason."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from converter.onnx.core.registry import adapter
from converter.onnx.opset import HIGHEST_OPSET, LOWEST_OPSET

__all__ = ["Case", "all_cases", "cannot_be_written", "cannot_hold", "other_opsets"]


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
_RANDOM = "random numbers, no two runs of which agree"
_OPERATORS = {
    **dict.fromkeys(("Adagrad", "Adam", "Momentum", "Gradient"), "training of weights"),
    **dict.fromkeys(("Bernoulli", "RandomUniformLike", "RandomNormalLike", "Multinomial"), _RANDOM),
    "ImageDecoder": "decoding of image files",
    "TreeEnsemble": "ensembles of trees",
    "TfIdfVectorizer": "counts of word sequences",
    "LabelEncoder": "tables of texts",
}


def _drops(case: Case) -> bool:
    """Whether it is Dropout in training that drops something: its ratio, of 0.5 where it is left out, is not 0."""
    given = {entry.name: value for entry, value in zip(case.model.graph.input, case.inputs, strict=True)}
    for node in case.model.graph.node:
        if node.op_type == "Dropout" and len(node.input) > 2 and np.any(given.get(node.input[2], False)):
            return bool(np.any(given.get(node.input[1], True)))
    return False


def other_opsets(case: Case) -> list[int]:
    """Two, of those that are written: the next below and above the case's own, or where one of these is none or cannot hold
    the case, the next but one above or below. Nothing for a case of other domains alone.
    """
    own = _opset(case)
    if own is None:
        return []
    below = list(range(min(own - 1, HIGHEST_OPSET), LOWEST_OPSET - 1, -1))
    above = list(range(max(own + 1, LOWEST_OPSET), HIGHEST_OPSET + 1))
    wanted = [*below[:1], *above[:2], *below[1:2], *above[2:3]]
    return sorted(wanted, key=lambda opset: cannot_be_written(case, opset) is not None)[:2]


def _opset(case: Case) -> int | None:
    return next((entry.version for entry in case.model.opset_import if entry.domain in ("", "ai.onnx")), None)


def cannot_be_written(case: Case, opset: int) -> str | None:
    """Why no ONNX file of that opset can be this case: it has the operator, or the type, not yet, nor is it defined by others."""
    if _drops(case) or any(_OPERATORS.get(node.op_type) == _RANDOM for node in case.model.graph.node):
        return _RANDOM
    own = _opset(case)
    types = {entry.name: entry.type.tensor_type.elem_type for entry in case.model.graph.input}
    for node in case.model.graph.node:
        if node.domain not in ("", "ai.onnx") or own is None or opset > own:
            continue
        schema = onnx.defs.get_schema(node.op_type, own)
        is_defined = schema.has_function or schema.has_context_dependent_function
        reduction = next((entry.s.decode() for entry in node.attribute if entry.name == "reduction"), "")
        if reduction in _LATE_REDUCTIONS and opset < _LATE_REDUCTIONS[reduction] <= own:
            return f"{node.op_type} with the reduction {reduction}, new in opset {_LATE_REDUCTIONS[reduction]}"
        if adapter(node.op_type, schema.since_version, upwards=False) is not None:
            continue
        if is_defined:
            missing = _missing_in_definition(schema, opset)
            if missing is not None and opset < schema.since_version:
                return f"the operator {node.op_type}, which is defined by {missing}"
            continue
        try:
            older = onnx.defs.get_schema(node.op_type, opset)
        except onnx.defs.SchemaError:
            return f"the operator {node.op_type}, new in opset {schema.since_version} and not defined by others"
        held = {constraint.type_param_str: constraint.allowed_type_strs for constraint in older.type_constraints}
        kind = types.get(node.input[0]) if node.input else None
        for text in _containers(case):
            own_types, older_types = (
                {t for c in s.type_constraints for t in c.allowed_type_strs} for s in (schema, older)
            )
            if text in own_types and text not in older_types:
                return f"{node.op_type} of sequences or optionals, new in opset {schema.since_version}"
        if node.op_type == "BitShift" and kind in _SIGNED and not any(map(_is_signed, held["T"])):
            return f"BitShift of signed integers, new in opset {schema.since_version}"
        if node.op_type == "Equal" and kind == TensorProto.STRING and "tensor(string)" not in held["T"]:
            return f"Equal of texts, new in opset {schema.since_version}"
    return None


def _missing_in_definition(schema: Any, opset: int) -> str | None:
    """An operator of the plain definition, if there is one, that the opset lacks and nothing replaces; else None."""
    for node in schema.function_body.node if schema.has_function else ():
        first = _first_versions()[node.op_type]
        defined = onnx.defs.get_schema(node.op_type).has_function
        if first > opset and not defined and adapter(node.op_type, first, upwards=False) is None:
            return f"{node.op_type}, new in opset {first}"
    return None


@functools.cache
def _first_versions() -> dict[str, int]:
    versions: dict[str, int] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if not schema.domain:
            versions[schema.name] = min(versions.get(schema.name, schema.since_version), schema.since_version)
    return versions


def _containers(case: Case) -> set[str]:
    """The types of inputs and outputs that are no tensors, as ONNX writes them."""
    entries = [*case.model.graph.input, *case.model.graph.output]
    return {_type_text(entry.type) for entry in entries if not entry.type.HasField("tensor_type")}


def _type_text(kind: onnx.TypeProto) -> str:
    form = kind.WhichOneof("value")
    if form == "tensor_type":
        return f"tensor({TensorProto.DataType.Name(kind.tensor_type.elem_type).lower()})"
    name = {"sequence_type": "seq", "optional_type": "optional"}[str(form)]
    return f"{name}({_type_text(getattr(kind, str(form)).elem_type)})"


_LATE_REDUCTIONS = {"min": 18, "max": 18}
_SIGNED = (TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64)


def _is_signed(kind: str) -> bool:
    return kind.startswith("tensor(int")


def cannot_hold(case: Case) -> str | None:
    """Why no TensorFlow Lite file can be this case; None where one could be."""
    for node in case.model.graph.node:
        if node.op_type in _OPERATORS:
            return _OPERATORS[node.op_type]
    if _drops(case):
        return _RANDOM
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
