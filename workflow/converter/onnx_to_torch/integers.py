"""Quantized ONNX models to TensorFlow Lite files of integers, with the scales that the model has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from converter.contracts import ExportJob, ExportResult
from converter.hub.hub import Hub, TensorSpec
from converter.onnx.integer_values import IntegerValues
from converter.onnx.interface import with_steps
from converter.onnx.quantized_form import QuantizedForm, quantized_form
from converter.onnx_to_torch.lower import torch_hub
from converter.torch.tflite.integers import IntegerSource, export_integers, reference_runs

__all__ = ["export_quantized_form", "form_of"]


def form_of(hub: Hub) -> QuantizedForm | None:
    """The hub's model with its scales in a table; None where it has none, or they are not such as TensorFlow Lite has."""
    return quantized_form(onnx.load(str(hub.path / "model.onnx")))


def export_quantized_form(hub: Hub, form: QuantizedForm, job: ExportJob, staged: Path, folder: Path) -> ExportResult:
    """Write `staged`, verified in LiteRT. folder: for files on the way. Raises UnsupportedError where no such file is right."""
    model = onnx.load(str(hub.path / "model.onnx"))
    own = IntegerValues(model, list(form.values.values()), folder)
    float_folder, program_folder = folder / "float", folder / "program"
    float_folder.mkdir()
    program_folder.mkdir()
    between = replace(
        hub,
        path=float_folder,
        inputs=[_as_float(spec, form) for spec in hub.inputs],
        outputs=[_as_float(spec, form) for spec in hub.outputs],
    )
    between.write_reference(reference_runs(hub, form.boundary))
    lowered = torch_hub(between, program_folder, form.model)

    def values(arrays: Sequence[np.ndarray]) -> tuple[list[np.ndarray], Mapping[str, np.ndarray]]:
        answers, found = own(arrays)
        return answers, {pair: found[name] for pair, name in form.values.items()}

    stepped = replace(hub, outputs=with_steps(model, hub.outputs))
    source = IntegerSource(stepped, form.pairs, form.weights, form.boundary, values)
    return export_integers(lowered, source, job, staged)


def _as_float(spec: TensorSpec, form: QuantizedForm) -> TensorSpec:
    return replace(spec, dtype="float32") if spec.name in form.boundary else spec
