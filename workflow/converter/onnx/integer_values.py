"""The integers within a quantized ONNX model, as onnxruntime computes them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

from converter.verification.runtimes import OnnxModel

__all__ = ["IntegerValues"]


class IntegerValues:
    """Called with arrays in the order of the model's inputs: its own answers, and by name the values of some tensors within."""

    def __init__(self, model: onnx.ModelProto, names: Sequence[str], folder: Path) -> None:
        """model: with its weights loaded. names: of integers that nodes compute, or of inputs."""
        self._inputs = [entry.name for entry in model.graph.input]
        given = set(self._inputs)
        self._answers = len(model.graph.output)
        known = {entry.name for entry in model.graph.output}
        self._within = [name for name in dict.fromkeys(names) if name not in given | known]
        wide = onnx.ModelProto()
        wide.CopyFrom(model)
        wide.graph.output.extend(onnx.ValueInfoProto(name=name) for name in self._within)
        with tempfile.TemporaryDirectory(dir=folder) as inner:
            path = Path(inner) / "model.onnx"
            onnx.save_model(wide, str(path), save_as_external_data=True, location="weights.bin", size_threshold=1024)
            self._runtime = OnnxModel(path)
        self._names = [entry.name for entry in model.graph.output] + self._within

    def __call__(self, arrays: Sequence[np.ndarray]) -> tuple[list[np.ndarray], Mapping[str, np.ndarray]]:
        """The answers, and all integers by name."""
        results = self._runtime.run(arrays)
        values = dict(zip(self._inputs, arrays, strict=True)) | dict(zip(self._names, results, strict=True))
        return results[: self._answers], values
