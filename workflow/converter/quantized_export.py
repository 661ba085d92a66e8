"""Quantized TensorFlow Lite files, from either framework: a verified float file, quantized, checked and measured."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from converter.errors import ParameterError, UnsupportedError
from converter.hub import Hub
from converter.quantized_run import FloatRunner
from converter.quantized_verify import thresholds_for, verify_quantized
from converter.representative import RepresentativeData
from converter.step import ExportJob, ExportResult
from converter.tflite_check import runs_for
from converter.tflite_compact import drop_unused
from converter.tflite_file import read, schema, write
from converter.tflite_quantized_check import check, composition

__all__ = ["Kind", "export_quantized", "kind_of"]

Export = Callable[[Hub, ExportJob, Path], ExportResult]


@dataclass(frozen=True)
class Kind:
    """name: a key of quantized_verify.THRESHOLDS. form: float16, dynamic or integer. boundary: dtype of what is float32."""

    name: str
    form: str
    boundary: str


def kind_of(block: dict) -> Kind | None:
    """What a resolved quantization block asks for; None for float32. Raises ParameterError for a contradiction."""
    if block.get("optimization", "none") == "none":
        if block.get("opsset") == "int8":
            raise ParameterError(
                "quantization.opsset int8 allows integer kernels only, and optimization none leaves all in float: "
                "write optimization default"
            )
        return None
    dtype = block.get("type", "float32")
    if dtype == "float16":
        if block.get("opsset") == "int8":
            raise ParameterError(
                "quantization.opsset int8 allows integer kernels only, and type float16 computes in float: "
                "write type int8, or opsset tflite"
            )
        return Kind("float16", "float16", "float32")
    if dtype == "float32":
        return Kind("int8", "integer", "float32") if "load" in block else Kind("dynamic", "dynamic", "float32")
    return Kind(dtype, "integer", dtype)


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
        return _quantized(hub, job, staged, kind, float_path, float_result)


def _quantized(
    hub: Hub, job: ExportJob, staged: Path, kind: Kind, float_path: Path, float_result: ExportResult
) -> ExportResult:
    block = job.quantization
    layout = _Layout(hub, job, float_result)
    data = None
    notes = list(float_result.notes)
    if kind.form == "integer":
        if float_result.verification is None:
            raise UnsupportedError(
                f"the float model cannot be run for calibration, {float_result.unverified_reason}: "
                "ask for a .float16.tflite or .dynamic.tflite file"
            )
        data = RepresentativeData(Path(block["load"]), hub.inputs, by_row=hub.batch_dynamic)
        notes += data.notes
    elif "load" in block:
        notes.append(f"quantization.load is not used for {kind.name}")
    keep_float = block.get("keep_float", [])
    before = composition(read(float_path.read_bytes()))

    def attempt(keep: list[str]) -> ExportResult:
        model = _quantize(kind, keep, float_path, data, layout)
        found = check(model, kind.form, kind.boundary, block.get("opsset", "tflite"), before)
        drop_unused(model)
        write(staged, model)
        return _measured(hub, block, staged, kind, float_path, float_result, data, layout, [*notes, *found])

    result = attempt(keep_float)
    can_keep = kind.form == "integer" and kind.boundary == "float32" and block.get("opsset") != "int8"
    if can_keep and not result.verification.passed and before.float_operators["SOFTMAX"] and not keep_float:
        # An int8 softmax has steps of 1/256, more than the values of one over a thousand classes.
        result = attempt(["SOFTMAX"])
        result.notes.append("SOFTMAX stays in float: in int8 the outputs came out wrong")
    return result


def _quantize(
    kind: Kind, keep_float: list[str], path: Path, data: RepresentativeData | None, layout: _Layout
) -> schema.ModelT:
    float_model = read(path.read_bytes())
    if kind.form == "float16":
        from converter.tflite_float16 import to_float16

        to_float16(float_model)
        return float_model
    if kind.form == "dynamic":
        from converter.tflite_dynamic import quantize_weights

        return quantize_weights(path, keep_float)
    from converter.tflite_integer import quantize_to_integers

    order = _subgraph_order(float_model, [spec.name for spec in layout.inputs])
    return read(
        quantize_to_integers(
            path,
            lambda: ([sample[i] for i in order] for sample in map(layout.to_file, data.calibration())),
            kind.boundary,
            keep_float,
        )
    )


def _subgraph_order(model: schema.ModelT, names: Sequence[str]) -> list[int]:
    """For each input of the first subgraph, which of `names` it is."""
    by_index = {entry.tensorIndex: entry.name.decode() for entry in model.signatureDefs[0].inputs}
    return [list(names).index(by_index[int(index)]) for index in model.subgraphs[0].inputs]


def _measured(
    hub: Hub,
    block: dict,
    staged: Path,
    kind: Kind,
    float_path: Path,
    float_result: ExportResult,
    data: RepresentativeData | None,
    layout: _Layout,
    notes: list[str],
) -> ExportResult:
    inputs, outputs = [spec.name for spec in float_result.inputs], [spec.name for spec in float_result.outputs]
    route = [*float_result.route, f"quantize_{kind.name}"]
    if float_result.verification is None:
        return replace(float_result, route=route, notes=notes)
    floats = (
        {spec.name for spec in float_result.inputs if spec.dtype == "float32"},
        {spec.name for spec in float_result.outputs if spec.dtype == "float32"},
    )
    reference = FloatRunner(float_path, inputs, outputs, *floats)
    quantized = FloatRunner(staged, inputs, outputs, *floats)
    if data is not None:
        samples: Iterable[list[np.ndarray]] = map(layout.to_file, data.evaluation())
        evaluated_on = f"samples of {block['load']}" + (" held out from calibration" if data.count >= 10 else "")
    else:
        samples = (layout.to_file(run.inputs) for run in runs_for(float_result.inputs, hub.reference()))
        evaluated_on = "the seeded inputs"
    thresholds = thresholds_for(kind.name, block.get("thresholds", {}))
    verification = verify_quantized(
        float_result.outputs, _runs(reference, quantized, samples), thresholds, quantized.name, quantized.output_steps
    )
    after = composition(read(staged.read_bytes()))
    metadata = {
        "quantization": {
            "kind": kind.name if kind.boundary != "float32" or kind.form != "integer" else "int8, float in and out",
            "evaluated_on": evaluated_on,
            "thresholds": {"cosine": thresholds.cosine, "sqnr_db": thresholds.sqnr, "top1": thresholds.top1},
            "float32_bytes": float_path.stat().st_size,
            "float_operators": dict(sorted(after.float_operators.items())) if kind.form == "integer" else {},
            "calibration_samples": data.count if data is not None else None,
        }
    }
    return ExportResult(
        route,
        quantized.inputs,
        quantized.outputs,
        verification,
        notes=notes,
        metadata={**float_result.metadata, **metadata},
    )


def _runs(
    reference: FloatRunner, quantized: FloatRunner, samples: Iterable[list[np.ndarray]]
) -> Iterator[tuple[int, list[np.ndarray], list[np.ndarray]]]:
    for sample in samples:
        sizes = {array.shape[0] if array.ndim else 1 for array in sample}
        yield sizes.pop() if len(sizes) == 1 else 1, reference.run(sample), quantized.run(sample)


class _Layout:
    """From the source's inputs to the file's: their axes, where a PyTorch model was made channels-last, and dtypes."""

    def __init__(self, hub: Hub, job: ExportJob, result: ExportResult) -> None:
        self.inputs = result.inputs
        self._orders: list[Sequence[int]] = [range(len(spec.shape or ())) for spec in hub.inputs]
        if hub.framework == "pytorch" and job.input_layout == "nhwc":
            from converter.torch.tflite_export import channels_last_order

            self._orders = [channels_last_order(len(spec.shape or ())) for spec in hub.inputs]

    def to_file(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [
            np.ascontiguousarray(np.transpose(array, order), dtype=spec.dtype)
            for array, order, spec in zip(arrays, self._orders, self.inputs, strict=True)
        ]
