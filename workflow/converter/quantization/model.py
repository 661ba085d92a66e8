"""A verified float TensorFlow Lite file, ready to be quantized in several ways, each measured against it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from converter.contracts import ExportJob, ExportResult
from converter.errors import ParameterError, UnsupportedError
from converter.hub.hub import Hub, Run
from converter.hub.informative import typical
from converter.hub.layout import becomes_channels_last
from converter.planning.variants import is_dynamic
from converter.quantization.composition import Composition, check, composition
from converter.quantization.representative import RepresentativeData
from converter.quantization.run import FloatRunner
from converter.quantization.verify import Thresholds, thresholds_for, verify_quantized
from converter.tflite.flatbuffer import read, schema, write
from converter.tflite.layers import Layer, chosen, still_quantized
from converter.tflite.prune import drop_unused
from converter.verification.runtimes import TFLiteModel
from converter.verification.tflite import runs_for
from converter.verification.verify import Verification

__all__ = ["FloatModel", "Kind", "Measured", "kind_of"]


@dataclass(frozen=True)
class Kind:
    """name: a key of quantization.verify.THRESHOLDS. form: float16, dynamic or integer.

    boundary: dtype of the file's inputs and outputs that are float32 in the source.
    """

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
    if block.get("opsset") == "int8" and block.get("keep_float"):
        raise ParameterError(
            "quantization.opsset int8 allows integer kernels only, and keep_float asks for float ones: write opsset tflite"
        )
    if dtype == "float16":
        if block.get("opsset") == "int8":
            raise ParameterError(
                "quantization.opsset int8 allows integer kernels only, and type float16 computes in float: "
                "write type int8, or opsset tflite"
            )
        return Kind("float16", "float16", "float32")
    if dtype == "float32":
        return Kind("dynamic", "dynamic", "float32") if is_dynamic(block) else Kind("int8", "integer", "float32")
    return Kind(dtype, "integer", dtype)


@dataclass(frozen=True)
class Measured:
    """A quantized file: its verdict against the float file, what it was measured on, and its inputs and outputs."""

    verification: Verification
    evaluated_on: str
    runner: FloatRunner


class FloatModel:
    """The float file at `path`, as `result` describes it, and how `kind` is made of it.

    Raises UnsupportedError where the kind needs calibration and nothing here runs the file, ParameterError for
    representative data that do not fit and for entries of `keep_float` that name nothing.
    """

    def __init__(self, hub: Hub, job: ExportJob, kind: Kind, path: Path, result: ExportResult) -> None:
        self._hub, self._job, self.kind, self.path, self.result = hub, job, kind, path, result
        block = job.quantization
        self.data: RepresentativeData | None = None
        self.notes = list(result.notes)
        if kind.form == "integer":
            if result.verification is None or TFLiteModel.uses_flex(path):
                why = result.unverified_reason or "LiteRT's calibrator does not run Select-TF operators"
                raise UnsupportedError(
                    f"the float model cannot be run for calibration, {why}: ask for a .float16.tflite or .dynamic.tflite file"
                )
            self.data = RepresentativeData(Path(block["load"]), hub.inputs, by_row=hub.batch_dynamic)
            self.notes += self.data.notes
        elif "load" in block:
            self.notes.append(f"quantization.load is not used for {kind.name}")
        self._orders = _file_axes(hub, job)
        self.kept = chosen(self.model(), block.get("keep_float", []))

    def model(self) -> schema.ModelT:
        """A fresh copy of the float model, to be changed in place."""
        return read(self.path.read_bytes())

    @cached_property
    def composition(self) -> Composition:
        """What the quantized file is made of."""
        return composition(self.model())

    @property
    def thresholds(self) -> Thresholds:
        """How far the quantized file may be from the float one: those of its kind, replaced by the job's own."""
        return thresholds_for(self.kind.name, self._job.quantization.get("thresholds", {}))

    def quantize(self, staged: Path, keep: Sequence[Layer]) -> list[str]:
        """Write `staged` with these layers in float; notes on what it is made of.

        Raises UnsupportedError where it does not come out as what its kind promises.
        """
        model = self._quantized({layer.name for layer in keep})
        found = check(
            model, self.kind.form, self.kind.boundary, self._job.quantization.get("opsset", "tflite"), self.composition
        )
        if self.kind.form == "integer" and (left := still_quantized(model, keep)):
            raise UnsupportedError(
                f"quantization.keep_float: TensorFlow's quantizer does not leave {left[0].type} {left[0].name} in float: "
                "leave it out of keep_float"
            )
        drop_unused(model)
        write(staged, model)
        return found

    def _quantized(self, keep: set[str]) -> schema.ModelT:
        if self.kind.form == "float16":
            from converter.quantization.float16 import to_float16

            model = self.model()
            to_float16(model, keep)
            return model
        if self.kind.form == "dynamic":
            from converter.quantization.dynamic_range import quantize_weights

            return quantize_weights(self.path, sorted(keep))
        from converter.quantization.full_integer import to_integers

        return read(to_integers(self.calibrated, self.kind.boundary, keep))

    @cached_property
    def calibrated(self) -> bytes:
        """The float model with the ranges of its tensors over the samples for calibration."""
        from converter.quantization.full_integer import calibrate

        return calibrate(self.path, lambda: self.in_file_order(self.data.calibration()))

    def in_file_order(self, samples: Iterable[Sequence[np.ndarray]]) -> Iterator[list[np.ndarray]]:
        """Samples in the source's order and layout, as the invocations of the file's first subgraph."""
        model = self.model()
        names = [spec.name for spec in self.result.inputs]
        by_index = {entry.tensorIndex: entry.name.decode() for entry in model.signatureDefs[0].inputs}
        order = [names.index(by_index[int(index)]) for index in model.subgraphs[0].inputs]
        return ([sample[i] for i in order] for sample in map(self._to_file, samples))

    def _to_file(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Arrays in the source's layout, in that of the file: channels-last where a PyTorch model was made so."""
        return [
            np.ascontiguousarray(np.transpose(array, order), dtype=spec.dtype)
            for array, order, spec in zip(arrays, self._orders, self.result.inputs, strict=True)
        ]

    def runner(self, path: Path) -> FloatRunner:
        """This file, or a quantized one of it, as a function of float arrays."""
        inputs, outputs = self.result.inputs, self.result.outputs
        return FloatRunner(
            path,
            [spec.name for spec in inputs],
            [spec.name for spec in outputs],
            {spec.name for spec in inputs if spec.dtype == "float32"},
            {spec.name for spec in outputs if spec.dtype == "float32"},
        )

    def measure(self, staged: Path, limit: int = 200) -> Measured:
        """Run both files on the user's samples, else on representative data (at most `limit`), else on seeded inputs."""
        quantized = self.runner(staged)
        samples, evaluated_on = self.samples(limit)
        runs = self._runs(self.runner(self.path), quantized, samples)
        verification = verify_quantized(
            self.result.outputs, runs, self.thresholds, quantized.name, quantized.output_steps
        )
        return Measured(verification, evaluated_on, quantized)

    def samples(self, limit: int = 200) -> tuple[Iterator[list[np.ndarray]], str]:
        """Samples to measure on, in the file's layout and the source's order of inputs, and what they are."""
        if self._job.reference_inputs is None and self.data is not None:
            part = " held out from calibration" if self.data.holds_out else ""
            return map(self._to_file, self.data.evaluation(limit)), f"samples of {self.data.path}{part}"
        name = "the seeded inputs" if self._job.reference_inputs is None else f"samples of {self._job.reference_inputs}"
        return (self._to_file(run.inputs) for run in self.reference()), name

    def reference(self) -> list[Run]:
        """The source's own runs on ordinary values, as they fit the file: special ones leave the ranges it is calibrated for."""
        return runs_for(self.result.inputs, typical(self._hub.reference()))

    def run_reference(self, runner: FloatRunner) -> list[Run]:
        """The same runs by `runner`."""
        return [Run(run.inputs, runner.run(self._to_file(run.inputs)), run.kind) for run in self.reference()]

    @staticmethod
    def _runs(
        reference: FloatRunner, quantized: FloatRunner, samples: Iterable[list[np.ndarray]]
    ) -> Iterator[tuple[int, list[np.ndarray], list[np.ndarray]]]:
        for sample in samples:
            sizes = {array.shape[0] if array.ndim else 1 for array in sample}
            yield sizes.pop() if len(sizes) == 1 else 1, reference.run(sample), quantized.run(sample)


def _file_axes(hub: Hub, job: ExportJob) -> list[Sequence[int]]:
    """For each input the source's axes in the order of the file's."""
    if becomes_channels_last(hub, job.input_layout):
        from converter.torch.program.file_layout import channels_last_order

        return [channels_last_order(len(spec.shape or ())) for spec in hub.inputs]
    return [range(len(spec.shape or ())) for spec in hub.inputs]
