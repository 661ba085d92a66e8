"""Any source as a C array for TensorFlow Lite Micro: by its verified TensorFlow Lite file, run again in that runtime."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from converter.contracts import Export, ExportJob, ExportResult
from converter.errors import UnsupportedError
from converter.formats.target_formats.micro import MICRO
from converter.hub.hub import Hub, Run
from converter.micro.operators import methods_of
from converter.micro.runtime import MicroModel, measure_arena, resource_variables
from converter.quantization.export import export_variant as export_tflite
from converter.quantization.kinds import Kind
from converter.quantization.model import FloatModel
from converter.quantization.tflite.files import TFLiteFloatFile
from converter.tflite.c_array import CModel, read_array, write
from converter.tflite.flatbuffer import read
from converter.verification.runtimes import TFLiteModel
from converter.verification.tflite import in_order, runs_for
from converter.verification.verify import Verification, verify
from converter.version import __version__
from converter.wording import shape_text

__all__ = ["export_variant"]

# What an #include may hold: ASCII without control characters, quotes, angle brackets and backslashes.
_NAME = re.compile(r"[ !#-;=?-\[\]-~]+")
_FLOAT = Kind("float32", "float", "float32")


def export_variant(hub: Hub, job: ExportJob, staged: Path, export_float: Export) -> ExportResult:
    """Write `staged`, the array of the TensorFlow Lite file that `job.quantization` asks for, and its header beside it.

    That file is verified as every one is; then the array is read back and run in TensorFlow Lite Micro, in an arena of the
    size that the header names. Raises UnsupportedError where that runtime does not run it.
    """
    stem = Path(job.target).stem
    if not _NAME.fullmatch(stem):
        raise UnsupportedError(
            f"the name {stem} cannot stand in an #include: write convert_to with letters, digits, dots and dashes"
        )
    with tempfile.TemporaryDirectory(dir=staged.parent) as folder:
        tflite = Path(folder) / "model.tflite"

        def in_micro(result: ExportResult, model: FloatModel | None) -> ExportResult:
            return _in_micro(hub, job, result, model or FloatModel(hub, job, _FLOAT, tflite, result), tflite, staged)

        as_tflite = replace(job, target=f"{job.target.removesuffix('.cc')}.tflite")
        return export_tflite(hub, as_tflite, tflite, export_float, in_micro)


def _in_micro(
    hub: Hub, job: ExportJob, result: ExportResult, model: FloatModel, tflite: Path, staged: Path
) -> ExportResult:
    """`result` once the file is an array and was run there: right only if that was right too."""
    if result.verification is None:
        raise UnsupportedError(f"nothing here runs the model's TensorFlow Lite file: {result.unverified_reason}")
    free = [spec.name for spec in result.inputs if spec.shape is None or None in spec.shape]
    if free:
        raise UnsupportedError(
            f"input {', '.join(free)} of the file has a size that is free, and TensorFlow Lite Micro takes fixed sizes only: "
            "write its sizes in input_shape"
        )
    data = tflite.read_bytes()
    methods = methods_of(read(data))
    arena = measure_arena(data)
    interface = MicroModel(tflite, arena)
    about = [
        f"{Path(job.target).name}: a model for TensorFlow Lite Micro, made of {Path(hub.source['path'] or '').name}",
        f"(SHA-256 {hub.source['sha256']}) by Converter {__version__} and run in {interface.name}.",
    ]
    stem = Path(job.target).stem
    write(
        staged,
        staged.with_name(f"{staged.name}.{MICRO.beside}"),
        CModel(stem, data, list(methods.values()), arena, resource_variables(data), about, _interface(interface)),
    )
    array = tflite.with_name("array.tflite")
    array.write_bytes(read_array(staged))

    def open_micro(path: Path) -> MicroModel:
        return MicroModel(path, arena)

    if model.kind.form == "float":
        verification = _verify_float(hub, job, (result, result.verification), model, tflite, open_micro(array))
    else:
        verification = _both(
            result.verification, model.measure(array, runner=_file(model).runner(array, open_micro)).verification
        )
    described = {
        "runtime": interface.name,
        "arena_bytes": arena,
        "operators": list(methods),
        "tflite_bytes": len(data),
        "differs_from_litert": _differences(model, tflite, array, open_micro),
    }
    return replace(
        result,
        route=[*result.route, "c_array"],
        verification=verification,
        decisions=[*result.decisions, f"arena {arena} bytes"],
        metadata={**result.metadata, "micro": described},
    )


def _file(model: FloatModel) -> TFLiteFloatFile:
    assert isinstance(model.file, TFLiteFloatFile)
    return model.file


def _interface(model: MicroModel) -> list[str]:
    """What a program must know of the inputs and outputs, in the order in which it finds them."""
    lines = []
    for kind, specs, places, quantization in (
        ("input", model.inputs, model.input_places, model.input_quantization),
        ("output", model.outputs, model.output_places, model.output_quantization),
    ):
        for spec, (scale, zero) in zip(specs, quantization, strict=True):
            meaning = f", value = {float(scale)!r} * (number - ({int(zero)}))" if scale else ""
            lines.append(f"{kind}({places[spec.name]}) {spec.name}: {spec.dtype} {shape_text(spec.shape)}{meaning}")
    return lines


def _both(first: Verification, second: Verification) -> Verification:
    """The second, wrong where either is."""
    messages = [message for message in (first.message, second.message) if message]
    return replace(second, passed=first.passed and second.passed, message="; ".join(dict.fromkeys(messages)) or None)


def _verify_float(
    hub: Hub,
    job: ExportJob,
    by_litert: tuple[ExportResult, Verification],
    model: FloatModel,
    tflite: Path,
    micro: MicroModel,
) -> Verification:
    """How far the array may be from the source at most: LiteRT's difference from it, and this runtime's from LiteRT's."""
    result, first = by_litert
    names = [spec.name for spec in result.inputs], [spec.name for spec in result.outputs]
    inputs, outputs, run_litert = in_order(TFLiteModel(tflite), *names)
    _, _, run_micro = in_order(micro, *names)
    runs = [
        Run(fed, run_litert(fed), run.kind)
        for run in runs_for(inputs, hub.reference())
        for fed in [model.file.to_file(run.inputs)]
    ]
    found = _both(first, verify(outputs, runs, run_micro, job.tolerance, micro.name))
    before = {entry["name"]: entry for entry in first.outputs}
    for entry in found.outputs:
        used = _used(before[entry["name"]]) + _used(entry)
        if not entry["tolerance"]:
            continue
        # In units of this tolerance: each is what its worst kind of samples takes of its own, so no kind takes more.
        entry["max_abs_diff"] = used * entry["tolerance"]
        if entry["passed"] and used > 1:
            entry["passed"] = found.passed = False
            found.message = f"output {entry['name']} differs by up to {used:.2f} times what is allowed"
    return found


def _used(entry: dict[str, Any]) -> float:
    """The share of its tolerance that a difference takes."""
    return entry["max_abs_diff"] / entry["tolerance"] if entry["max_abs_diff"] and entry["tolerance"] else 0.0


def _differences(
    model: FloatModel, tflite: Path, array: Path, open_micro: Callable[[Path], MicroModel]
) -> dict[str, dict[str, Any]]:
    """By output: how far the two runtimes' answers for one and the same file are apart, on the samples that it is measured on.

    steps: in steps of the output, None where it is not quantized.
    """
    litert, micro = _file(model).runner(tflite), _file(model).runner(array, open_micro)
    worst = np.zeros(len(micro.outputs))
    for fed in model.samples()[0]:
        for place, (one, other) in enumerate(zip(litert.run(fed), micro.run(fed), strict=True)):
            apart = np.abs(np.asarray(one, np.float64) - np.asarray(other, np.float64))
            worst[place] = max(worst[place], apart.max(initial=0.0))
    return {
        spec.name: {"max_abs_diff": float(most), "steps": round(float(most) / step, 3) if step else None}
        for spec, most, step in zip(micro.outputs, worst, micro.output_steps, strict=True)
    }
