"""Run a TensorFlow Lite file on float arrays, whatever the types of its inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from converter.hub.hub import TensorSpec
from converter.verification.runtimes import TFLiteModel, open_tflite

if TYPE_CHECKING:
    from converter.tf.runtime.flex_model import FlexModel

__all__ = ["FloatRunner", "OpenModel", "dequantize", "quantize"]

# Opens a file in a runtime.
OpenModel = Callable[[Path], "TFLiteModel | FlexModel"]


def quantize(array: np.ndarray, dtype: str, scale: float, zero_point: int) -> np.ndarray:
    """round(array / scale) + zero_point, saturated to the integers of `dtype`."""
    limits = np.iinfo(dtype)
    return np.clip(np.rint(array / scale) + zero_point, limits.min, limits.max).astype(dtype)


def dequantize(array: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    """scale * (q - zero_point) as float32, TensorFlow Lite's quantization scheme (one scale for the whole tensor)."""
    return ((array.astype(np.float32) - zero_point) * np.float32(scale)).astype(np.float32)


class FloatRunner:
    """A file as a function of float arrays, in the order of these names.

    `float_inputs`, `float_outputs`: which of them are float in the model that was quantized; those are quantized on the
    way in, and dequantized on the way out, by the file's own scales. The others pass as they are.
    """

    def __init__(
        self,
        path: Path,
        inputs: Sequence[str],
        outputs: Sequence[str],
        float_inputs: set[str],
        float_outputs: set[str],
        open_model: OpenModel = open_tflite,
    ) -> None:
        self._model = open_model(path)
        self.name = self._model.name
        by_input = {spec.name: i for i, spec in enumerate(self._model.inputs)}
        by_output = {spec.name: i for i, spec in enumerate(self._model.outputs)}
        self._feed = [list(inputs).index(spec.name) for spec in self._model.inputs]
        self._fetch = [by_output[name] for name in outputs]
        self.inputs: list[TensorSpec] = [self._model.inputs[by_input[name]] for name in inputs]
        self.outputs: list[TensorSpec] = [self._model.outputs[i] for i in self._fetch]
        self._quantize = [
            _quantizer(spec, parameters) if spec.name in float_inputs else None
            for spec, parameters in zip(self._model.inputs, self._model.input_quantization, strict=True)
        ]
        self._dequantize = [
            parameters if spec.name in float_outputs and spec.dtype != "float32" else None
            for spec, parameters in zip(self._model.outputs, self._model.output_quantization, strict=True)
        ]

    @property
    def output_steps(self) -> list[float]:
        """The smallest difference that each output can express: its scale, 0 for a float output."""
        found = [self._dequantize[place] for place in self._fetch]
        return [float(parameters[0]) if parameters else 0.0 for parameters in found]

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs of float inputs, both in the order and the dtypes of the source: quantized before, dequantized after."""
        fed = [arrays[i] if q is None else q(arrays[i]) for i, q in zip(self._feed, self._quantize, strict=True)]
        results = self._model.run(fed)
        floats = [
            array.copy() if parameters is None else dequantize(array, *parameters)
            for array, parameters in zip(results, self._dequantize, strict=True)
        ]
        return [floats[i] for i in self._fetch]


def _quantizer(spec: TensorSpec, parameters: tuple[float, int]) -> Callable[[np.ndarray], np.ndarray] | None:
    if spec.dtype == "float32":
        return None
    return lambda array: quantize(array, spec.dtype, *parameters)
