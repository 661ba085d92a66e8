"""ONNX hubs to TensorFlow Lite, Keras and Protobuf: through a program of torch, with the exporters that PyTorch sources have."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from converter.contracts import Export, ExportJob, ExportResult
from converter.errors import UnsupportedError
from converter.hub.hub import Hub
from converter.onnx.containers import refuse_containers
from converter.onnx.quantized_form import QuantizedForm

__all__ = ["export_keras", "export_protobuf", "export_tflite"]


def export_tflite(hub: Hub, job: ExportJob, staged: Path) -> ExportResult:
    """Write `staged`, verified in LiteRT: of a quantized model in integers with its own scales, unless a quantization is asked
    for. Raises UnsupportedError where no route leads to a file that runs.
    """
    from converter.onnx_to_torch.integers import form_of
    from converter.torch.tflite.export import export

    as_it_is = job.quantization.get("optimization", "none") == "none" and not hub.extra.get("containers")
    form = form_of(hub) if as_it_is else None
    if form is None:
        return _through_torch(hub, job, staged, export)
    try:
        result = _in_integers(hub, form, job, staged)
        if result.verification is not None and result.verification.passed:
            return result
        why = result.verification.message if result.verification is not None else "nothing here runs it"
    except UnsupportedError as error:
        why = str(error)
    result = _through_torch(hub, job, staged, export)
    result.notes.append(f"not in integers: {why}")
    return result


def _in_integers(hub: Hub, form: QuantizedForm, job: ExportJob, staged: Path) -> ExportResult:
    from converter.onnx_to_torch.integers import export_quantized_form

    if hub.extra.get("channels_last"):
        job = replace(job, input_layout="nchw")
    with tempfile.TemporaryDirectory(dir=staged.parent) as folder:
        result = export_quantized_form(hub, form, job, staged, Path(folder))
    result.route = ["onnx_to_torch", *result.route]
    return result


def export_keras(hub: Hub, job: ExportJob, staged: Path) -> ExportResult:
    """Write `staged`, a Keras file of ordinary layers, verified in Keras. Raises UnsupportedError where layers cannot say it."""
    from converter.torch.keras.export import export

    return _through_torch(hub, job, staged, export)


def export_protobuf(hub: Hub, job: ExportJob, staged: Path) -> ExportResult:
    """Write `staged`, a frozen graph, verified in TensorFlow. Raises UnsupportedError as `export_keras` does."""
    return _through_torch(hub, job, staged, _as_graph)


def _as_graph(hub: Hub, job: ExportJob, staged: Path) -> ExportResult:
    from converter.tf.protobuf.export import export
    from converter.torch.exact.exact_program import exact_program
    from converter.torch.program.branches import select_branches
    from converter.torch.program.hub_program import read_program
    from converter.torch.tflite.keras_route import tensorflow_hub

    program = exact_program(select_branches(read_program(hub)))
    with tempfile.TemporaryDirectory(dir=staged.parent) as folder:
        return export(tensorflow_hub(hub, program, Path(folder), channels_last=False), job, staged)


def _through_torch(hub: Hub, job: ExportJob, staged: Path, export: Export) -> ExportResult:
    from converter.onnx_to_torch.lower import torch_hub

    refuse_containers(hub.extra.get("containers", {}))
    if hub.extra.get("channels_last"):  # its images already are what the file's would be
        job = replace(job, input_layout="nchw")
    with tempfile.TemporaryDirectory(dir=staged.parent) as folder:
        lowered = torch_hub(hub, Path(folder))
        result = export(lowered, job, staged)
    result.notes += [note for note in lowered.notes if note not in hub.notes]
    result.decisions += [decision for decision in lowered.decisions if decision not in hub.decisions]
    result.route = ["onnx_to_torch", *result.route]
    return result
