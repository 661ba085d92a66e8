"""Run an IR of OpenVINO, on CPU, in one thread and in float32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from converter.hub.hub import TensorSpec

__all__ = ["OpenVINOModel"]


class OpenVINOModel:
    """The .xml file at `path` with its weights: beside it as .bin, or wherever `weights` says.

    Takes arrays in the order of `inputs` and returns arrays in the order of `outputs`; `name` is the runtime and its version.
    """

    def __init__(self, path: Path, weights: Path | None = None) -> None:
        import openvino

        core = openvino.Core()
        model = core.read_model(path, weights or path.with_suffix(".bin"))
        self.inputs = [_spec(port) for port in model.inputs]
        self.outputs = [_spec(port) for port in model.outputs]
        self.input_places = {spec.name: place for place, spec in enumerate(self.inputs)}
        self.output_places = {spec.name: place for place, spec in enumerate(self.outputs)}
        # Processors with bfloat16 would compute in it; one thread, since jobs run side by side.
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
        self._compiled = core.compile_model(model, "CPU", settings)
        self.name = f"openvino {openvino.__version__.partition('-')[0]}"

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs of inputs, both in the file's order."""
        results = self._compiled([np.ascontiguousarray(array) for array in arrays])
        return [np.array(results[place]) for place in range(len(self.outputs))]


def _spec(port: Any) -> TensorSpec:
    shape = port.partial_shape
    sizes = None if shape.rank.is_dynamic else tuple(None if dim.is_dynamic else dim.get_length() for dim in shape)
    return TensorSpec(_name(port), sizes, port.element_type.to_dtype().name)


def _name(port: Any) -> str:
    """Of an input or output. A tensor that operators only hand through has theirs too, in no certain order."""
    name = port.node.friendly_name.removesuffix("/sink_port_0")
    return name if name in port.names else min(port.names, default=name)
