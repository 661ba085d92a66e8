"""The source and the converted file as computations, and the sample on which they are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from converter.contracts import ExportJob
from converter.divergence.comparison import Side
from converter.divergence.computation import Computation
from converter.errors import UnsupportedError
from converter.hub.hub import Hub, Run, TensorSpec
from converter.hub.layout import becomes_channels_last

__all__ = ["open_sides"]


@dataclass(frozen=True)
class _Target:
    """`runs`: the hub's, as they fit the file; `orders`: the axes of each output as the file has them."""

    computation: Computation
    runs: list[Run]
    orders: list[tuple[int, ...] | None]


def open_sides(hub: Hub, job: ExportJob, path: Path) -> tuple[Side, Side, Run]:
    """Both sides on the run on which the outputs differ most. Raises UnsupportedError where one cannot be followed."""
    target = _open_target(hub, job, path)
    run = _worst_run(target, job.tolerance.of)
    return Side(_open_source(hub, run.inputs, path.parent), run.inputs), Side(target.computation, run.inputs), run


def _open_source(hub: Hub, arrays: Sequence[np.ndarray], scratch: Path) -> Computation:
    if hub.framework == "tensorflow":
        from converter.divergence.tensorflow_graph import TensorFlowComputation

        return TensorFlowComputation(hub)
    if hub.framework == "onnx":
        from converter.divergence.onnx_file import OnnxComputation

        names = [spec.name for spec in hub.inputs], [spec.name for spec in hub.outputs]
        return OnnxComputation(hub.path / "model.onnx", *names, scratch)
    if hub.extra.get("form") == "exported":
        from converter.divergence.torch_program import ProgramComputation

        return ProgramComputation(hub)
    from converter.divergence.torch_script import ScriptComputation

    return ScriptComputation(hub, arrays)


def _open_target(hub: Hub, job: ExportJob, path: Path) -> _Target:
    inputs, outputs = [spec.name for spec in hub.inputs], [spec.name for spec in hub.outputs]
    extension = Path(job.target).suffix
    if extension == ".onnx":
        from converter.divergence.onnx_file import OnnxComputation

        return _Target(OnnxComputation(path, inputs, outputs), hub.reference(), [None] * len(outputs))
    if extension == ".tflite":
        from converter.divergence.tflite_model import TFLiteComputation
        from converter.verification.tflite import runs_for

        file = TFLiteComputation(path, inputs, outputs, _orders(hub.inputs, hub, job))
        return _Target(file, runs_for(file.specs, hub.reference()), _orders(hub.outputs, hub, job))
    raise UnsupportedError(f"the values within {extension} files are not compared: ask for .onnx or .tflite")


def _orders(specs: Sequence[TensorSpec], hub: Hub, job: ExportJob) -> list[tuple[int, ...]]:
    """The axes of a file's inputs or outputs: TensorFlow Lite files of channels-first models are channels-last."""
    if becomes_channels_last(hub, job.input_layout):
        from converter.torch.program.file_layout import channels_last_order as order
    else:

        def order(rank: int) -> tuple[int, ...]:
            return tuple(range(rank))

    return [order(len(spec.shape or ())) for spec in specs]


def _worst_run(target: _Target, allowed: Any) -> Run:
    """The run whose outputs differ most, as a multiple of what is allowed; one of typical samples if those differ."""

    def excess(run: Run) -> float:
        outputs = target.computation.outputs
        found = dict(target.computation.values(run.inputs, outputs))
        worst = 0.0
        for name, expected, order in zip(outputs, run.outputs, target.orders, strict=True):
            if name not in found:
                continue
            actual = found[name] if order is None else found[name].transpose(np.argsort(order))
            if actual.shape != expected.shape:
                return float("inf")
            wide = np.complex128 if expected.dtype.kind == "c" else np.float64
            difference = np.abs(expected.astype(wide) - actual.astype(wide))
            largest = np.abs(expected[np.isfinite(expected)]).max(initial=0)
            worst = max(worst, float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0)) / allowed(float(largest)))
        return worst

    excesses = [excess(run) for run in target.runs]
    typical = [value if run.kind == "typical" else 0.0 for run, value in zip(target.runs, excesses, strict=True)]
    chosen = typical if max(typical) > 1.0 else excesses
    return target.runs[int(np.argmax(chosen))]
