"""Quantized TensorFlow Lite files, from either framework: a verified float file, quantized, checked and measured."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from converter.contracts import ExportJob, ExportResult
from converter.hub.hub import Hub
from converter.quantization.composition import composition
from converter.quantization.labels import accuracies, read_labels
from converter.quantization.model import FloatModel, Kind, Measured, kind_of
from converter.tflite.flatbuffer import read
from converter.tflite.layers import Layer, chosen

__all__ = ["Export", "export_quantized", "export_variant"]

Export = Callable[[Hub, ExportJob, Path], ExportResult]


def export_variant(hub: Hub, job: ExportJob, staged: Path, export_float: Export) -> ExportResult:
    """Write `staged` as `job.quantization` asks: the float file of `export_float`, or that file quantized."""
    kind = kind_of(job.quantization)
    if kind is not None:
        return export_quantized(hub, job, staged, kind, export_float)
    result = export_float(hub, job, staged)
    for key in ("load", "keep_float"):
        if key in job.quantization:
            result.notes.append(f"quantization.{key} is not used for float32")
    return result


def export_quantized(hub: Hub, job: ExportJob, staged: Path, kind: Kind, export_float: Export) -> ExportResult:
    """Write `staged`: the file of `export_float`, quantized. Its verification measures it against that float file.

    A float file that is wrong already is returned as it is, with its own verdict.
    """
    with tempfile.TemporaryDirectory(dir=staged.parent) as folder:
        float_path = Path(folder) / "float32.tflite"
        float_result = export_float(hub, job, float_path)
        if float_result.verification is not None and not float_result.verification.passed:
            shutil.copyfile(float_path, staged)
            return float_result
        return _quantized(FloatModel(hub, job, kind, float_path, float_result), job, staged)


def _quantized(model: FloatModel, job: ExportJob, staged: Path) -> ExportResult:
    kind = model.kind

    def attempt(keep: Sequence[Layer]) -> ExportResult:
        notes = [*model.notes, *model.quantize(staged, keep)]
        route = [*model.result.route, f"quantize_{kind.name}"]
        if model.result.verification is None:
            return replace(model.result, route=route, notes=notes)
        measured = model.measure(staged)
        described, more = _description(model, job, staged, measured, keep)
        return ExportResult(
            route,
            measured.runner.inputs,
            measured.runner.outputs,
            measured.verification,
            notes=[*notes, *more],
            metadata={**model.result.metadata, "quantization": described},
        )

    result = attempt(model.kept)
    can_keep = kind.form == "integer" and kind.boundary == "float32" and job.quantization.get("opsset") != "int8"
    softmax = chosen(model.model(), ["SOFTMAX"]) if model.composition.float_operators["SOFTMAX"] else []
    if can_keep and not result.verification.passed and softmax and not model.kept:
        # An int8 softmax has steps of 1/256, more than the values of one over a thousand classes.
        result = attempt(softmax)
        result.notes.append("SOFTMAX stays in float: in int8 the outputs came out wrong")
    return result


def _description(
    model: FloatModel, job: ExportJob, staged: Path, measured: Measured, keep: Sequence[Layer]
) -> tuple[dict, list[str]]:
    """What the report says of the quantization, and notes."""
    kind, thresholds = model.kind, model.thresholds
    described = {
        "kind": kind.name if kind.boundary != "float32" or kind.form != "integer" else "int8, float in and out",
        "evaluated_on": measured.evaluated_on,
        "thresholds": {"cosine": thresholds.cosine, "sqnr_db": thresholds.sqnr, "top1": thresholds.top1},
        "float32_bytes": model.path.stat().st_size,
        "float_operators": {},
        "kept_float": [layer.name for layer in keep],
        "calibration_samples": model.data.calibration_count if model.data is not None else None,
    }
    if kind.form == "integer":
        after = composition(read(staged.read_bytes()))
        described["float_operators"] = dict(sorted(after.float_operators.items()))
    labels = read_labels(job.reference_inputs) if job.reference_inputs is not None else None
    if labels is None:
        return described, []
    described["accuracy"] = accuracies(
        model.result.outputs, model.reference(), model.run_reference(measured.runner), labels
    )
    if not described["accuracy"]:
        return described, [f"the labels of {job.reference_inputs} fit no output of the model"]
    return described, []
