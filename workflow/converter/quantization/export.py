"""Quantized files of every format, from every framework: a verified float file, quantized, checked and measured."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from converter.contracts import Export, ExportJob, ExportResult
from converter.errors import ParameterError
from converter.hub.hub import Hub
from converter.quantization.kinds import Kind, kind_of
from converter.quantization.labels import accuracies, read_labels
from converter.quantization.layers import Layer
from converter.quantization.model import FloatModel, Measured, float_job

__all__ = ["Check", "export_quantized", "export_variant"]

# What is done with the file that was written, while the float file that it was quantized from (None: it is one) is there.
Check = Callable[[ExportResult, FloatModel | None], ExportResult]


def _nothing_more(result: ExportResult, model: FloatModel | None) -> ExportResult:
    return result


def export_variant(
    hub: Hub, job: ExportJob, staged: Path, export_float: Export, check: Check = _nothing_more
) -> ExportResult:
    """Write `staged` as `job.quantization` asks: the float file of `export_float`, or that file quantized."""
    kind = kind_of(job.quantization)
    if kind is not None:
        return export_quantized(hub, job, staged, kind, export_float, check)
    result = check(export_float(hub, job, staged), None)
    for key in ("load", "keep_float", "calibration"):
        if key in job.quantization:
            result.notes.append(f"quantization.{key} is not used for float32")
    return result


def export_quantized(
    hub: Hub, job: ExportJob, staged: Path, kind: Kind, export_float: Export, check: Check = _nothing_more
) -> ExportResult:
    """Write `staged`: the file of `export_float`, quantized. Its verification measures it against that float file.

    A float file that is wrong already is returned as it is, with its own verdict.
    """
    with tempfile.TemporaryDirectory(dir=staged.parent) as folder:
        float_path = (Path(folder) / "float32").with_suffix(Path(job.target).suffix)
        float_result = export_float(hub, float_job(job), float_path)
        if float_result.verification is not None and not float_result.verification.passed:
            shutil.copyfile(float_path, staged)
            return check(float_result, None)
        model = FloatModel(hub, job, kind, float_path, float_result)
        return check(_quantized(model, job, staged), model)


def _quantized(model: FloatModel, job: ExportJob, staged: Path) -> ExportResult:
    kind = model.kind

    def attempt(keep: Sequence[Layer]) -> ExportResult:
        notes = [*model.notes, *model.quantize(staged, keep)]
        route = [*model.result.route, f"quantize_{kind.name}"]
        opset, why = model.file.opset(staged)
        if model.result.verification is None:
            return replace(model.result, route=route, notes=notes, opset=opset, opset_reason=why)
        measured = model.measure(staged)
        described, more = _description(model, job, staged, measured, keep)
        verification = measured.verification
        if job.accuracy_drop is not None and (lost := _lost(described.get("accuracy"), job.accuracy_drop)):
            message = "; ".join([*([verification.message] if verification.message else []), lost])
            verification = replace(verification, passed=False, message=message)
        return ExportResult(
            route,
            measured.runner.inputs,
            measured.runner.outputs,
            verification,
            opset=opset,
            opset_reason=why,
            notes=[*notes, *more],
            metadata={**model.result.metadata, "quantization": described},
        )

    result = attempt(model.kept)
    if result.verification is not None and not result.verification.passed and not model.kept:
        layers, note = model.file.second_try()
        if layers:
            result = attempt(layers)
            result.notes.append(note)
    return result


def _lost(accuracy: list[dict] | None, allowed: float) -> str | None:
    """How much more of its accuracy the file lost than is allowed. Raises ParameterError where it was not measured."""
    if not accuracy:
        raise ParameterError(
            "verify.accuracy_drop needs labels that fit an output: give the samples' classes as an array labels in the file of "
            "verify.inputs"
        )
    falls = [
        f"output {entry['output']} has an accuracy of {entry['after']:.1%} instead of {entry['before']:.1%}, and {allowed:.1%} "
        "less were allowed"
        for entry in accuracy
        if entry["before"] - entry["after"] > allowed + 1e-9  # shares of a count, as binary fractions
    ]
    return "; ".join(falls) or None


def _description(
    model: FloatModel, job: ExportJob, staged: Path, measured: Measured, keep: Sequence[Layer]
) -> tuple[dict, list[str]]:
    """What the report says of the quantization, and notes."""
    kind, thresholds = model.kind, model.thresholds
    in_between = kind.form == "integer" and model.file.boundary == "float32"
    described = {
        "kind": f"{kind.name}, float in and out" if in_between else kind.name,
        "evaluated_on": measured.evaluated_on,
        "thresholds": {"cosine": thresholds.cosine, "sqnr_db": thresholds.sqnr, "top1": thresholds.top1},
        "float32_bytes": model.path.stat().st_size,
        "float_operators": {},
        "kept_float": [layer.name for layer in keep],
        "calibration_samples": model.data.calibration_count if model.data is not None else None,
    }
    if kind.form == "integer":
        described["float_operators"] = model.file.float_operators(staged)
    if "calibration" in job.quantization:
        described["calibration"] = job.quantization["calibration"]
    labels = read_labels(job.reference_inputs) if job.reference_inputs is not None else None
    if labels is None:
        return described, []
    described["accuracy"] = accuracies(
        model.result.outputs, model.reference(), model.run_reference(measured.runner), labels
    )
    if not described["accuracy"]:
        return described, [f"the labels of {job.reference_inputs} fit no output of the model"]
    return described, []
