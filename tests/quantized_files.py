"""What a quantized file must be, read from the file itself, and what its report must say: for acceptance tests."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import numpy as np
from conftest import Project

from converter.tflite.flatbuffer import TENSOR_DTYPES, is_constant, read
from converter.verification.runtimes import TFLiteModel

VARIANTS = ("float16", "dynamic", "int8", "uint8")
TARGETS = ("", *(f".{variant}" for variant in VARIANTS))
LARGE = 1_000_000  # bytes of the float32 file, from which on sizes are promised
SHARES = {"float16": 0.52, "dynamic": 0.30, "int8": 0.30, "uint8": 0.30}


def targets(model: str) -> list[str]:
    return [f"converted/{model}{variant}.tflite" for variant in TARGETS]


def check_variant(project: Project, schema: dict, model: str, variant: str) -> dict:
    """Types of every input and output, types of the weights, size, and verification; returns the report."""
    plain = project.folder / f"converted/{model}.tflite"
    path = project.folder / f"converted/{model}.{variant}.tflite"
    report = project.report(f"{model}.{variant}.tflite")
    jsonschema.Draft202012Validator(schema).validate(report)
    assert report["status"] == "verified", report["reason"]
    before, after = TFLiteModel(plain), TFLiteModel(path)
    boundary = variant if variant in ("int8", "uint8") else "float32"
    for role in ("inputs", "outputs"):
        expected = {s.name: boundary if s.dtype == "float32" else s.dtype for s in getattr(before, role)}
        assert boundary in expected.values()
        assert {spec.name: spec.dtype for spec in getattr(after, role)} == expected
        assert {entry["name"]: entry["dtype"] for entry in report[role]} == expected
    if boundary != "float32":
        quantization = [*after.input_quantization, *after.output_quantization]
        dtypes = [spec.dtype for spec in [*after.inputs, *after.outputs]]
        assert all(scale > 0 for (scale, _), dtype in zip(quantization, dtypes, strict=True) if dtype == boundary)
    assert most_of_weights(path) == ("float16" if variant == "float16" else "int8")
    assert path.stat().st_size == report["file"]["bytes"]
    assert report["metadata"]["quantization"]["float32_bytes"] >= 0.9 * plain.stat().st_size
    if plain.stat().st_size > LARGE:
        assert path.stat().st_size <= SHARES[variant] * plain.stat().st_size
    for entry in report["verification"]["outputs"]:
        assert entry["passed"] and entry["cosine"] > 0.9 and entry["sqnr_db"] > 8
    assert not report["verification"]["weak_evidence"]
    return report


def most_of_weights(path: Path) -> str:
    """The dtype that holds most of the file's weights, of tensors of two dimensions and more."""
    model, counts = read(path.read_bytes()), {}
    for subgraph in model.subgraphs:
        for tensor in subgraph.tensors:
            if is_constant(model, tensor) and tensor.shape is not None and len(tensor.shape) > 1:
                dtype = TENSOR_DTYPES[tensor.type]
                counts[dtype] = counts.get(dtype, 0) + int(np.prod(tensor.shape))
    return max(counts, key=counts.get)
