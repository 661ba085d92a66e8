"""PyTorch models by way of their ONNX form: for what torch.export cannot follow, and what no other route can write."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from converter.contracts import Export, ExportJob, ExportResult
from converter.errors import UnsupportedError
from converter.hub.hub import Hub

__all__ = ["export_keras", "export_tflite"]


# Where control flow is written as If and Loop with all that onnxruntime has.
_OPSET = 18
_ADVICE = ": ask for an .onnx file"


def export_tflite(hub: Hub, job: ExportJob, staged: Path) -> ExportResult:
    """Write `staged`, verified in LiteRT, as PyTorch programs are or by ONNX. Raises UnsupportedError with each reason."""
    from converter.torch.tflite.export import export

    return _first_or_by_onnx(hub, job, staged, export)


def export_keras(hub: Hub, job: ExportJob, staged: Path) -> ExportResult:
    """Write `staged`, a Keras file of ordinary layers, likewise: by ONNX what could be kept as TorchScript only."""
    from converter.torch.keras.export import export

    if hub.extra.get("form") == "exported":
        return export(hub, job, staged)
    return _first_or_by_onnx(hub, job, staged, export)


def _first_or_by_onnx(hub: Hub, job: ExportJob, staged: Path, export: Export) -> ExportResult:
    from converter.torch.program.eager_program import ValueRead

    try:
        return export(hub, job, staged)
    except ValueRead:
        raise  # in ONNX too
    except UnsupportedError as error:
        first = str(error).removesuffix(_ADVICE)
    with tempfile.TemporaryDirectory(dir=staged.parent) as folder:
        advice = ""
        try:
            form = _onnx_form(hub, job, Path(folder))
            advice = "" if "ask for" in first else _ADVICE
            result = export(_program_of(form, Path(folder)), job, staged)
        except UnsupportedError as error:
            reason = _without_repetition(str(error), first)
            raise UnsupportedError(f"{first}; by way of ONNX: {reason}{advice}") from error
    result.route = ["export_onnx", "onnx_to_torch", *result.route]
    result.notes.append(f"made by way of ONNX: {first}")
    return result


def _without_repetition(reason: str, first: str) -> str:
    return "for the same reason" if reason in first or first in reason else reason


def _onnx_form(hub: Hub, job: ExportJob, folder: Path) -> Hub:
    """A hub of the model's ONNX file. Raises UnsupportedError where there is none that is verified."""
    from converter.torch.onnx.export import export

    inner = folder / "onnx"
    inner.mkdir()
    result = export(hub, replace(job, target="model.onnx", onnx_opset=_OPSET, quantization={}), inner / "model.onnx")
    if result.verification is None or not result.verification.passed:
        why = result.verification.message if result.verification else result.unverified_reason
        raise UnsupportedError(f"its ONNX form comes out wrong: {why}")
    shutil.copyfile(hub.path / "reference.npz", inner / "reference.npz")
    return replace(hub, path=inner, framework="onnx", extra={"kind": "onnx"})


def _program_of(form: Hub, folder: Path) -> Hub:
    """A hub of a torch.export program of it. Raises UnsupportedError where torch has no way for one of its operators."""
    from converter.onnx_to_torch.lower import torch_hub

    outer = folder / "program"
    outer.mkdir()
    return torch_hub(form, outer)
