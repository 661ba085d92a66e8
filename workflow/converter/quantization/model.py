"""A verified float file, ready to be quantized in several ways, each measured against it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from converter import formats
from converter.contracts import ExportJob, ExportResult
from converter.errors import UnsupportedError
from converter.hub.hub import Hub, Run
from converter.hub.informative import typical
from converter.quantization.files import FloatFile, Runner
from converter.quantization.kinds import Kind
from converter.quantization.layers import Layer, chosen
from converter.quantization.representative import RepresentativeData
from converter.quantization.verify import Thresholds, thresholds_for, verify_quantized
from converter.verification.verify import Verification

__all__ = ["FloatModel", "Measured", "float_job"]


def _files(target: str) -> type[FloatFile]:
    """How files of this target's format are quantized."""
    quantized = formats.target(target.rpartition(".")[2]).quantized
    if quantized is None:
        raise ValueError(f"{target}: files of its format are not quantized")
    return formats.load(quantized.files)


def float_job(job: ExportJob) -> ExportJob:
    """The job of the float file that a quantized one is made from."""
    return _files(job.target).float_job(job)


@dataclass(frozen=True)
class Measured:
    """A quantized file: its verdict against the float file, what it was measured on, and its inputs and outputs."""

    verification: Verification
    evaluated_on: str
    runner: Runner


class FloatModel:
    """The float file at `path`, as `result` describes it, and how `kind` is made of it.

    Raises UnsupportedError where the kind needs calibration and nothing here runs the file, ParameterError for
    representative data that do not fit and for entries of `keep_float` that name nothing.
    """

    def __init__(self, hub: Hub, job: ExportJob, kind: Kind, path: Path, result: ExportResult) -> None:
        self._hub, self._job, self.kind, self.path, self.result = hub, job, kind, path, result
        block, extension = job.quantization, path.suffix[1:]
        self.file: FloatFile = _files(path.name)(hub, job, kind, path, result)
        self.data: RepresentativeData | None = None
        self.notes = list(result.notes)
        if kind.form == "integer":
            if why := self.file.not_run():
                raise UnsupportedError(
                    f"the float model cannot be run for calibration, {why}: ask for a .float16.{extension} or "
                    f".dynamic.{extension} file"
                )
            self.data = RepresentativeData(Path(block["load"]), hub.inputs, by_row=hub.batch_dynamic)
            self.notes += self.data.notes
        elif "load" in block:
            self.notes.append(f"quantization.load is not used for {kind.name}")
        self.kept = chosen(self.file.layers(), block.get("keep_float", []))

    @property
    def thresholds(self) -> Thresholds:
        """How far the quantized file may be from the float one: those of its kind, replaced by the job's own."""
        return thresholds_for(self.kind.name, self._job.quantization.get("thresholds", {}))

    def quantize(self, staged: Path, keep: Sequence[Layer]) -> list[str]:
        """Write `staged` with these layers in float; notes on what it is made of.

        Raises UnsupportedError where it does not come out as what its kind promises.
        """
        return self.file.quantize(staged, keep, self.calibration)

    def calibration(self) -> Iterator[list[np.ndarray]]:
        """The representative samples to calibrate on, in the file's layout; without such data the reference's."""
        samples = self.data.calibration() if self.data else (run.inputs for run in self.reference())
        return map(self.file.to_file, samples)

    def held_out(self, limit: int) -> Iterator[list[np.ndarray]]:
        """The representative samples that are not calibrated on, at most `limit`, in the file's layout."""
        if self.data is None:
            raise ValueError(f"{self.kind.name} has no representative data")
        return map(self.file.to_file, self.data.evaluation(limit))

    def measure(self, staged: Path, limit: int = 200, runner: Runner | None = None) -> Measured:
        """Run both files on the user's samples, else on representative data (at most `limit`), else on seeded inputs.

        runner: of the quantized file, where another runtime is to run it than its format's.
        """
        quantized = runner or self.file.runner(staged)
        samples, evaluated_on = self.samples(limit)
        runs = self._runs(self.file.runner(self.path), quantized, samples)
        verification = verify_quantized(
            self.result.outputs, runs, self.thresholds, quantized.name, quantized.output_steps
        )
        return Measured(verification, evaluated_on, quantized)

    def samples(self, limit: int = 200) -> tuple[Iterator[list[np.ndarray]], str]:
        """Samples to measure on, in the file's layout and the source's order of inputs, and what they are."""
        if self._job.reference_inputs is None and self.data is not None:
            part = " held out from calibration" if self.data.holds_out else ""
            free = self._hub.batch_dynamic and all(spec.shape and spec.shape[0] is None for spec in self.result.inputs)
            samples = map(self.file.to_file, self.data.evaluation(limit))
            return _batches(samples) if free else samples, f"samples of {self.data.path}{part}"
        name = "the seeded inputs" if self._job.reference_inputs is None else f"samples of {self._job.reference_inputs}"
        return (self.file.to_file(run.inputs) for run in self.reference()), name

    def reference(self) -> list[Run]:
        """The source's own runs on ordinary values, as they fit the file: special ones leave the ranges it is calibrated for."""
        return self.file.reference(typical(self._hub.reference()))

    def run_reference(self, runner: Runner) -> list[Run]:
        """The same runs by `runner`."""
        return [Run(run.inputs, runner.run(self.file.to_file(run.inputs)), run.kind) for run in self.reference()]

    @staticmethod
    def _runs(
        reference: Runner, quantized: Runner, samples: Iterable[list[np.ndarray]]
    ) -> Iterator[tuple[int, list[np.ndarray], list[np.ndarray]]]:
        for sample in samples:
            sizes = {array.shape[0] if array.ndim else 1 for array in sample}
            yield sizes.pop() if len(sizes) == 1 else 1, reference.run(sample), quantized.run(sample)


def _batches(samples: Iterable[list[np.ndarray]]) -> Iterator[list[np.ndarray]]:
    """Samples of one row each, by turns alone and three at once: a file with a free batch is to be right for any."""
    remaining = iter(samples)
    while rows := list(itertools.islice(remaining, 4)):
        yield rows[0]
        if len(rows) > 1:
            yield [np.concatenate(arrays) for arrays in zip(*rows[1:], strict=True)]
