"""What a format brings for its files to be quantized; all else (data, verdicts, rankings, pages) is common to formats."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from converter.contracts import ExportJob, ExportResult
from converter.hub.hub import Hub, Run, TensorSpec
from converter.quantization.kinds import Kind
from converter.quantization.layers import Layer

__all__ = ["FloatFile", "LayerError", "Runner", "Samples"]

# A fresh pass over samples in the order and layout of the file's inputs, each with the arrays of one invocation.
Samples = Callable[[], Iterator[list[np.ndarray]]]


class Runner(Protocol):
    """A file as a function of float arrays in the source's order of inputs and outputs.

    inputs, outputs: as the file has them. name: of the runtime.
    """

    name: str
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]

    @property
    def output_steps(self) -> list[float]:
        """The smallest difference that each output can express, 0 where it is float."""
        ...

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs of inputs."""
        ...


class FloatFile(Protocol):
    """A float file at `path`, as `result` describes it, and how files of a kind are made of it, checked and run."""

    def __init__(self, hub: Hub, job: ExportJob, kind: Kind, path: Path, result: ExportResult) -> None: ...

    @staticmethod
    def float_job(job: ExportJob) -> ExportJob:
        """The job of the float file that the file of `job` is made from."""
        ...

    @property
    def boundary(self) -> str:
        """Dtype of the quantized file's inputs and outputs that are float32 in the source."""
        ...

    def not_run(self) -> str | None:
        """Why nothing here runs the file for calibration; None where something does."""
        ...

    def layers(self) -> list[Layer]:
        """What can stay in float, in order of execution."""
        ...

    def quantize(self, staged: Path, keep: Sequence[Layer], calibration: Samples) -> list[str]:
        """Write `staged` with these layers in float; notes on what it is made of.

        Raises UnsupportedError where it does not come out as what its kind promises.
        """
        ...

    def second_try(self) -> tuple[list[Layer], str]:
        """Layers to leave in float where a file without any is wrong, and the note that says so; none where nothing helps."""
        ...

    def float_operators(self, staged: Path) -> dict[str, int]:
        """How many operators of each type compute in float in a file of integers."""
        ...

    def opset(self, staged: Path) -> tuple[int | None, str | None]:
        """The opset of the file, and why it is another than the float file's; None where the format has none."""
        ...

    def runner(self, path: Path) -> Runner:
        """This file, or a quantized one of it."""
        ...

    def to_file(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Arrays in the source's layout, in that of the file."""
        ...

    def reference(self, runs: Sequence[Run]) -> list[Run]:
        """The source's runs as they fit the file."""
        ...

    def layer_errors(
        self, keep: Sequence[Layer], calibration: Samples, samples: Samples, folder: Path
    ) -> list[LayerError]:
        """The own error of each layer that is not in `keep`, over the samples, in order of execution.

        `folder` is for files in between.
        """
        ...


@dataclass
class LayerError:
    """Sums over all values of a layer's output: of their squares, and of their differences' squares. scale: its step."""

    layer: Layer
    scale: float
    signal: float = 0.0
    noise: float = 0.0
    largest: float = 0.0
    count: int = 0

    def add(self, expected: np.ndarray, actual: np.ndarray) -> None:
        """Count one more value of the output, computed in float and in integers."""
        expected, difference = expected.astype(np.float64), np.abs(expected.astype(np.float64) - actual)
        self.signal += float(np.square(expected).sum())
        self.noise += float(np.square(difference).sum())
        self.largest = max(self.largest, float(difference.max(initial=0.0)))
        self.count += difference.size

    @property
    def sqnr(self) -> float | None:
        """10 log10(signal / noise) in dB; None where the layer adds no noise (it moves values, or picks some)."""
        exact = self.noise <= 1e-10 * self.signal  # rounding of the float copy
        return None if exact or not self.signal else 10 * float(np.log10(self.signal / self.noise))

    def to_json(self, rank: int) -> dict:
        """As configs/layers.schema.json has it."""
        return {
            "rank": rank,
            "name": self.layer.name,
            "type": self.layer.type,
            "sqnr_db": self.sqnr,
            "rmse_over_scale": float(np.sqrt(self.noise / self.count) / self.scale)
            if self.count and self.scale
            else None,
            "max_abs_error": self.largest,
        }
