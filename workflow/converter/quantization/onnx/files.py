"""How ONNX files are quantized, checked and run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto

from converter import formats
from converter.contracts import ExportJob, ExportResult
from converter.errors import UnsupportedError
from converter.hub.hub import Hub, Run, TensorSpec
from converter.onnx.core.graphs import model_opset
from converter.quantization.files import LayerError, Samples
from converter.quantization.kinds import Kind
from converter.quantization.layers import Layer
from converter.quantization.onnx.composition import Composition, check, composition
from converter.quantization.onnx.graph import layers_of, read_typed, save
from converter.quantization.onnx.observing import Observed, Ranges
from converter.verification.runtimes import OnnxModel
from converter.wording import first_line

__all__ = ["OnnxFloatFile", "OnnxRunner"]

# Of onnx_opset, the highest that all exporters take: a file of a higher one is rewritten from one that they choose.
_EXPORTERS_OPSET = 18


class OnnxRunner:
    """A file with float inputs and outputs, by the source's names (see `quantization.files.Runner`)."""

    def __init__(self, path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
        with _refusals():
            self._model = OnnxModel(path)
        self.name = self._model.name
        self.inputs, self.outputs = list(inputs), list(outputs)
        names = [spec.name for spec in inputs]
        self._feed = [names.index(spec.name) for spec in self._model.inputs]  # one that nothing uses may be missing
        self._fetch = [self._model.output_places[spec.name] for spec in outputs]

    @property
    def output_steps(self) -> list[float]:
        """All are float."""
        return [0.0] * len(self.outputs)

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs of inputs, both in the source's order."""
        with _refusals():
            results = self._model.run([arrays[place] for place in self._feed])
        return [results[place] for place in self._fetch]


@contextmanager
def _refusals() -> Iterator[None]:
    """What onnxruntime (1.32) says of a file that it cannot run; its exceptions have no common base class of their own."""
    import onnxruntime.capi.onnxruntime_pybind11_state as failures

    known = tuple(
        value for value in vars(failures).values() if isinstance(value, type) and issubclass(value, Exception)
    )
    try:
        yield
    except known as error:
        raise UnsupportedError(
            f"onnxruntime cannot run the quantized file ({first_line(error)}): write the operator's type in "
            "quantization.keep_float"
        ) from error


class OnnxFloatFile:
    """A float ONNX file (see `quantization.files.FloatFile`)."""

    boundary = "float32"  # nothing in an ONNX file would say how integers of its inputs and outputs are meant

    def __init__(self, hub: Hub, job: ExportJob, kind: Kind, path: Path, result: ExportResult) -> None:
        self._kind, self._path, self._result = kind, path, result
        self._asked, self._method = job.onnx_opset, job.quantization.get("calibration", "minmax")
        quantized = formats.target("onnx").quantized
        self._lowest = quantized.lowest_opsets.get(kind.name, 0) if quantized else 0
        self._ranges: Ranges | None = None

    @staticmethod
    def float_job(job: ExportJob) -> ExportJob:
        """At the exporter's own choice of an opset where the one asked for is one that not all exporters write."""
        beyond = job.onnx_opset is not None and job.onnx_opset > _EXPORTERS_OPSET
        return replace(job, onnx_opset=None) if beyond else job

    def not_run(self) -> str | None:
        """What onnxruntime cannot run has no ranges."""
        return None if self._result.verification is not None else self._result.unverified_reason or "it was not run"

    @cached_property
    def _float(self) -> ModelProto:
        """The float model with its values' types, at the opset of the quantized file."""
        return read_typed(self._path, self._lowest, self._asked)

    @cached_property
    def _composition(self) -> Composition:
        return composition(self._copy())

    def _copy(self) -> ModelProto:
        copied = ModelProto()
        copied.CopyFrom(self._float)
        return copied

    def layers(self) -> list[Layer]:
        """Its operators with a float result."""
        return layers_of(self._float)

    def quantize(self, staged: Path, keep: Sequence[Layer], calibration: Samples) -> list[str]:
        """Write `staged`, read what it is made of, and refuse it where it is not of its kind."""
        model, notes = self._quantized({layer.name for layer in keep}, calibration, staged.parent)
        notes += check(model, self._kind.form, self._composition)
        save(model, staged)
        error = _invalid(staged)
        if error is not None and _invalid(self._path) is None:
            raise UnsupportedError(
                f"quantizing makes an invalid model ({first_line(error)}): ask for a .onnx file without a suffix"
            )
        return notes

    def _quantized(self, keep: set[str], calibration: Samples, folder: Path) -> tuple[ModelProto, list[str]]:
        if self._kind.form == "integer":
            from converter.quantization.onnx.full_integer import to_integers

            found = self._with_ranges(self._method, calibration, folder)
            return to_integers(self._float, found, self._kind.name, keep), []
        model = self._copy()
        if self._kind.form == "float16":
            from converter.quantization.onnx.float16 import to_float16

            found = self._with_ranges("minmax", calibration, folder) if self.not_run() is None else {}
            wide = to_float16(model, keep, found)
            return model, [f"operators that stay float32 for their values' range: {_listed(wide)}"] if wide else []
        if self._kind.form == "blocks":
            from converter.quantization.onnx.int4 import to_int4

            to_int4(model, keep)
        else:
            from converter.quantization.onnx.dynamic_range import quantize_weights

            quantize_weights(model, keep)
        return model, []

    def _with_ranges(self, method: str, calibration: Samples, folder: Path) -> Ranges:
        if self._ranges is None:
            from converter.quantization.onnx.calibration import calibrated

            with tempfile.TemporaryDirectory(dir=folder) as temporary:
                observed = Observed(self._float, Path(temporary, "observed.onnx"))
                self._ranges = calibrated(method, observed, calibration, self._input_names)
        return self._ranges

    @property
    def _input_names(self) -> list[str]:
        return [spec.name for spec in self._result.inputs]

    def second_try(self) -> tuple[list[Layer], str]:
        """Softmax in float: an int8 one has steps of 1/256, more than the values of one over a thousand classes."""
        layers = [layer for layer in self.layers() if layer.type == "Softmax"] if self._kind.form == "integer" else []
        return layers, "Softmax stays in float: in 8 bits the outputs came out wrong"

    def float_operators(self, staged: Path) -> dict[str, int]:
        """Read from the file."""
        return dict(sorted(composition(onnx.load(str(staged))).float_operators.items()))

    def opset(self, staged: Path) -> tuple[int | None, str | None]:
        """That of the file; the float file's where the kind needs no higher one."""
        opset = model_opset(self._float)
        if self._asked is not None:
            return opset, None
        if opset in (self._result.opset, 0) or not self._lowest:
            return opset, self._result.opset_reason
        return opset, f"a .{self._kind.name} file needs opset {self._lowest}"

    def runner(self, path: Path) -> OnnxRunner:
        """This file, or a quantized one of it."""
        return OnnxRunner(path, self._result.inputs, self._result.outputs)

    def to_file(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The file has the source's layout."""
        return [np.asarray(array, spec.dtype) for array, spec in zip(arrays, self._result.inputs, strict=True)]

    def reference(self, runs: Sequence[Run]) -> list[Run]:
        """The file takes what the source takes."""
        return list(runs)

    def layer_errors(
        self, keep: Sequence[Layer], calibration: Samples, samples: Samples, folder: Path
    ) -> list[LayerError]:
        """Each operator with its own quantizers, cut out of the quantized model and fed with the float model's values."""
        from converter.quantization.onnx.layer_errors import layer_errors

        found = self._with_ranges(self._method, calibration, folder)
        from converter.quantization.onnx.full_integer import to_integers

        quantized = to_integers(self._float, found, self._kind.name, {layer.name for layer in keep})
        observed = Observed(self._float, folder / "observed.onnx")
        return layer_errors(quantized, self._float, observed, samples(), self._input_names, self.layers())


def _invalid(path: Path) -> Exception | None:
    try:
        onnx.checker.check_model(str(path))
    except onnx.checker.ValidationError as error:
        return error
    return None


def _listed(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
