"""How TensorFlow Lite files are quantized, checked and run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from converter.contracts import ExportJob, ExportResult
from converter.errors import UnsupportedError
from converter.hub.hub import Hub, Run
from converter.hub.layout import becomes_channels_last
from converter.quantization.files import LayerError, Samples
from converter.quantization.kinds import Kind
from converter.quantization.layers import Layer, chosen
from converter.quantization.tflite.composition import Composition, check, composition
from converter.quantization.tflite.layers import layers, still_quantized
from converter.quantization.tflite.run import FloatRunner, OpenModel
from converter.tflite.flatbuffer import read, schema, write
from converter.tflite.prune import drop_unused
from converter.verification.runtimes import TFLiteModel, open_tflite
from converter.verification.tflite import runs_for

__all__ = ["TFLiteFloatFile"]


class TFLiteFloatFile:
    """A float TensorFlow Lite file (see `quantization.files.FloatFile`)."""

    def __init__(self, hub: Hub, job: ExportJob, kind: Kind, path: Path, result: ExportResult) -> None:
        self._kind, self._path, self._result = kind, path, result
        self._opsset = job.quantization.get("opsset", "tflite")
        self._orders = _file_axes(hub, job)
        self._calibrated: bytes | None = None

    @staticmethod
    def float_job(job: ExportJob) -> ExportJob:
        """The same: how it will be quantized decides which operators the float file has."""
        return job

    @property
    def boundary(self) -> str:
        """Quantized inputs and outputs are of the kind's own type: their scales stand in the file."""
        return self._kind.boundary

    def not_run(self) -> str | None:
        """LiteRT's calibrator runs whatever LiteRT runs by itself."""
        if self._result.verification is None or TFLiteModel.uses_flex(self._path):
            return self._result.unverified_reason or "LiteRT's calibrator does not run Select-TF operators"
        return None

    def _model(self) -> schema.ModelT:
        """A fresh copy of the float model, to be changed in place."""
        return read(self._path.read_bytes())

    @cached_property
    def _composition(self) -> Composition:
        return composition(self._model())

    def layers(self) -> list[Layer]:
        """Its operators with a float result."""
        return layers(self._model())

    def quantize(self, staged: Path, keep: Sequence[Layer], calibration: Samples) -> list[str]:
        """Write `staged`, read back what it is made of, and refuse it where it is not of its kind."""
        model = self._quantized({layer.name for layer in keep}, calibration)
        found = check(model, self._kind.form, self.boundary, self._opsset, self._composition)
        if self._kind.form == "integer" and (left := still_quantized(model, keep)):
            raise UnsupportedError(
                f"quantization.keep_float: TensorFlow's quantizer does not leave {left[0].type} {left[0].name} in float: "
                "leave it out of keep_float"
            )
        drop_unused(model)
        write(staged, model)
        return found

    def _quantized(self, keep: set[str], calibration: Samples) -> schema.ModelT:
        if self._kind.form == "float16":
            from converter.quantization.tflite.float16 import to_float16

            model = self._model()
            to_float16(model, keep)
            return model
        if self._kind.form == "dynamic":
            from converter.quantization.tflite.dynamic_range import quantize_weights

            return quantize_weights(self._path, sorted(keep))
        from converter.quantization.tflite.full_integer import to_integers

        return read(to_integers(self._with_ranges(calibration), self.boundary, keep))

    def _with_ranges(self, calibration: Samples) -> bytes:
        """The float model with the ranges of its tensors over the samples for calibration."""
        if self._calibrated is None:
            from converter.quantization.tflite.full_integer import calibrate

            self._calibrated = calibrate(self._path, lambda: self._in_subgraph_order(calibration()))
        return self._calibrated

    def _in_subgraph_order(self, samples: Iterator[list[np.ndarray]]) -> Iterator[list[np.ndarray]]:
        """Samples in the source's order of inputs, as invocations of the file's first subgraph."""
        model = self._model()
        names = [spec.name for spec in self._result.inputs]
        by_index = {entry.tensorIndex: entry.name.decode() for entry in model.signatureDefs[0].inputs}
        order = [names.index(by_index[int(index)]) for index in model.subgraphs[0].inputs]
        return ([sample[i] for i in order] for sample in samples)

    def second_try(self) -> tuple[list[Layer], str]:
        """Softmax in float, where the file may have float operators: an int8 one has steps of 1/256, more than the values of
        one over a thousand classes.
        """
        can_keep = self._kind.form == "integer" and self.boundary == "float32" and self._opsset != "int8"
        if not can_keep or not self._composition.float_operators["SOFTMAX"]:
            return [], ""
        return chosen(self.layers(), ["SOFTMAX"]), "SOFTMAX stays in float: in int8 the outputs came out wrong"

    def float_operators(self, staged: Path) -> dict[str, int]:
        """Read from the file."""
        return dict(sorted(composition(read(staged.read_bytes())).float_operators.items()))

    def opset(self, staged: Path) -> tuple[int | None, str | None]:
        """The format has none."""
        return None, None

    def runner(self, path: Path, open_model: OpenModel = open_tflite) -> FloatRunner:
        """This file, or a quantized one of it, as a function of float arrays, in the runtime that `open_model` opens it in."""
        inputs, outputs = self._result.inputs, self._result.outputs
        return FloatRunner(
            path,
            [spec.name for spec in inputs],
            [spec.name for spec in outputs],
            {spec.name for spec in inputs if spec.dtype == "float32"},
            {spec.name for spec in outputs if spec.dtype == "float32"},
            open_model,
        )

    def to_file(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Channels-last where a PyTorch model was made so."""
        return [
            np.ascontiguousarray(np.transpose(array, order), dtype=spec.dtype)
            for array, order, spec in zip(arrays, self._orders, self._result.inputs, strict=True)
        ]

    def reference(self, runs: Sequence[Run]) -> list[Run]:
        """Row by row where the file's batch is fixed at 1."""
        return runs_for(self._result.inputs, runs)

    def layer_errors(
        self, keep: Sequence[Layer], calibration: Samples, samples: Samples, folder: Path
    ) -> list[LayerError]:
        """By the comparing mode of TensorFlow's quantizer."""
        from converter.quantization.tflite.layer_errors import layer_errors

        return layer_errors(
            self._with_ranges(calibration),
            [layer.name for layer in keep],
            self.layers(),
            self._in_subgraph_order(samples()),
            folder / "compared.tflite",
        )


def _file_axes(hub: Hub, job: ExportJob) -> list[Sequence[int]]:
    """For each input the source's axes in the order of the file's."""
    if becomes_channels_last(hub, job.input_layout):
        from converter.torch.program.file_layout import channels_last_order

        return [channels_last_order(len(spec.shape or ())) for spec in hub.inputs]
    return [range(len(spec.shape or ())) for spec in hub.inputs]
