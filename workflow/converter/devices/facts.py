"""What a file asks of a device: operators and versions, arithmetic, sizes that are free, opset, bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Facts", "Operator", "facts_of"]

_FLOATS = ("float16", "float32", "float64", "complex64")


@dataclass(frozen=True)
class Operator:
    """version: of TensorFlow Lite's operators, 0 of ONNX's. count: how often it occurs; floats: how often in float."""

    name: str
    version: int
    count: int
    floats: int


@dataclass(frozen=True)
class Facts:
    """Of one file. free: inputs with a size that is free. oldest: the report's `oldest_runtime`. arena: of a C array."""

    extension: str
    bytes: int
    operators: Sequence[Operator]
    free: Sequence[str]
    oldest: dict[str, Any]
    opset: int | None = None
    ir_version: int | None = None
    arena: int | None = None


def facts_of(path: Path, extension: str, arena: int | None = None) -> Facts:
    """Of a file of this format ("onnx", "tflite", "cc"). Raises ValueError for another."""
    if extension == "onnx":
        return _of_onnx(path)
    if extension == "tflite":
        return _of_tflite(Path(path).read_bytes(), extension, arena)
    if extension == "cc":
        from converter.tflite.c_array import read_array

        return _of_tflite(read_array(path), extension, arena)
    raise ValueError(f"no facts of .{extension} files")


def _of_tflite(data: bytes, extension: str, arena: int | None) -> Facts:
    from converter.hub.runtime_needs import oldest_runtime
    from converter.tflite.flatbuffer import TENSOR_DTYPES, operators, read
    from converter.tflite.oldest_runtime import RUNTIME, needs

    model = read(data)
    counts: dict[tuple[str, int], list[int]] = {}
    for subgraph, operator, name in operators(model):
        used = [subgraph.tensors[index] for index in [*operator.inputs, *operator.outputs] if index >= 0]
        entry = counts.setdefault((name, int(model.operatorCodes[operator.opcodeIndex].version)), [0, 0])
        entry[0] += 1
        entry[1] += any(TENSOR_DTYPES[tensor.type] in _FLOATS for tensor in used)
    inputs = [model.subgraphs[0].tensors[index] for index in model.subgraphs[0].inputs]
    free = [entry.name.decode() for entry in inputs if entry.shapeSignature is not None and -1 in entry.shapeSignature]
    found = [Operator(name, version, *entry) for (name, version), entry in sorted(counts.items())]
    return Facts(extension, len(data), found, free, oldest_runtime(RUNTIME, needs(data)), arena=arena)


def _of_onnx(path: Path) -> Facts:
    import onnx

    from converter.hub.runtime_needs import oldest_runtime
    from converter.onnx.oldest_runtime import RUNTIME, needs
    from converter.onnx.reading import operators

    model = onnx.load(str(path), load_external_data=False)
    initial = {tensor.name for tensor in model.graph.initializer}
    free = [
        entry.name
        for entry in model.graph.input
        if entry.name not in initial
        and any(not size.HasField("dim_value") for size in entry.type.tensor_type.shape.dim)
    ]
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), None)
    found = [Operator(name, 0, count, 0) for name, count in sorted(operators(model).items())]
    oldest = oldest_runtime(RUNTIME, needs(model))
    return Facts("onnx", Path(path).stat().st_size, found, free, oldest, opset, model.ir_version)
