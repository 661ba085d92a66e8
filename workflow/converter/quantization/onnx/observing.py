"""The values of all float tensors of a model, run on samples: what ranges are taken from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper

from converter.onnx.core.graphs import Scope
from converter.quantization.onnx.graph import is_float, save

__all__ = ["Observed", "Ranges", "ranges"]

Ranges = Mapping[str, tuple[float, float]]
"""The smallest and the largest value of tensors, by name."""


class Observed:
    """A typed model, written to `path`, such that each run gives the float tensors of its main graph, inputs included."""

    def __init__(self, model: ModelProto, path: Path) -> None:
        import onnxruntime

        scope = Scope(model.graph)
        self.inputs = [value.name for value in model.graph.input]
        known = {value.name for value in model.graph.output}
        made = [name for node in model.graph.node for name in node.output if name and is_float(scope, name)]
        self.names = [*(name for name in self.inputs if is_float(scope, name)), *made]
        observed = ModelProto()
        observed.CopyFrom(model)
        for name in made:
            if name not in known:
                observed.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
        save(observed, path)
        del observed
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        # Fused operators would have no values between them.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._made = made
        self._fed = [value.name for value in self._session.get_inputs()]

    def run(self, arrays: Sequence[np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
        """The values by name. arrays: of inputs with these names."""
        given = dict(zip(names, arrays, strict=True))
        results = self._session.run(self._made, {name: given[name] for name in self._fed})
        values = {name: given[name] for name in self.names if name in given}
        return values | dict(zip(self._made, results, strict=True))


def ranges(observed: Observed, samples: Iterable[Sequence[np.ndarray]], names: Sequence[str]) -> Ranges:
    """The smallest and largest finite value of each tensor over the samples; those that never had one are left out."""
    found: dict[str, tuple[float, float]] = {}
    values: Iterator[tuple[str, np.ndarray]] = (
        pair for sample in samples for pair in observed.run(sample, names).items()
    )
    for name, array in values:
        finite = array[np.isfinite(array)]
        if finite.size:
            lowest, highest = found.get(name, (np.inf, -np.inf))
            found[name] = min(lowest, float(finite.min())), max(highest, float(finite.max()))
    return found
