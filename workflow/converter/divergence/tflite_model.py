"""The operators and intermediate values of a TensorFlow Lite file, in LiteRT."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from converter.divergence.computation import Computation, Operator
from converter.hub.hub import TensorSpec
from converter.tflite.flatbuffer import is_constant, operator_name, read
from converter.verification.runtimes import TFLiteModel

__all__ = ["TFLiteComputation"]

_SIZES = ("SHAPE", "RANK")


class TFLiteComputation(Computation):
    """Tensors are named by the file's names with their index, since names may occur twice: "conv/Relu#12".

    Bodies of loops and branches count as part of the operator that holds them.
    """

    def __init__(
        self, path: Path, inputs: Sequence[str], outputs: Sequence[str], orders: Sequence[tuple[int, ...]]
    ) -> None:
        """`inputs`, `outputs`: the names of the hub's; `orders`: the axes of each input as the file has them."""
        self._runtime = TFLiteModel(path, keep_values=True)
        self._orders = list(orders)
        specs = {spec.name: spec for spec in self._runtime.inputs}
        self.specs: list[TensorSpec] = [specs[name] for name in inputs]
        self._position = [list(inputs).index(spec.name) for spec in self._runtime.inputs]
        model = read(path.read_bytes())
        subgraph = model.subgraphs[0]
        self._index: dict[str, int] = {}
        names = []
        for index, tensor in enumerate(subgraph.tensors):
            names.append(f"{(tensor.name or b'').decode()}#{index}")
            if not is_constant(model, tensor):
                self._index[names[-1]] = index
        self.inputs = [names[index] for index in self._runtime.input_indices(inputs)]
        self.outputs = [names[index] for index in self._runtime.output_indices(outputs)]
        self.operators = []
        for operator in subgraph.operators:
            kind = operator_name(model, operator)
            used = dict.fromkeys(names[index] for index in operator.inputs if index >= 0)
            made = (names[index] for index in operator.outputs if index >= 0)
            self.operators.append(Operator(kind, tuple(used), tuple(made), sizes_only=kind in _SIZES))

    def values(self, arrays: Sequence[np.ndarray], names: Collection[str]) -> Iterator[tuple[str, np.ndarray]]:
        """See `Computation.values`; inputs are brought into the file's order, layout and dtypes first."""
        arranged = [
            np.ascontiguousarray(array.transpose(order)).astype(spec.dtype)
            for array, order, spec in zip(arrays, self._orders, self.specs, strict=True)
        ]
        self._runtime.run([arranged[position] for position in self._position])
        for name in names:
            value = self._runtime.value(self._index[name]) if name in self._index else None
            if value is not None and value.dtype.kind in "fiubc":
                yield name, value
