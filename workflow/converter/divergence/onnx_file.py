"""The operators and intermediate values of an ONNX file, in onnxruntime without its fusions."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx

from converter.divergence.computation import Computation, Operator

__all__ = ["OnnxComputation"]

_SIZES = ("Shape", "Size")
_AT_ONCE = 64  # tensors in memory together


class OnnxComputation(Computation):
    """Bodies of loops and branches count as part of the operator that holds them."""

    def __init__(self, path: Path, inputs: Sequence[str], outputs: Sequence[str], scratch: Path | None = None) -> None:
        """`inputs`, `outputs`: the hub's names, which the file has too, but for inputs that nothing uses.

        scratch: a folder that may be written to, where that of the file may not.
        """
        import onnxruntime

        model = onnx.load(path)
        graph = model.graph
        self.inputs = list(inputs)
        self.outputs = [value.name for value in graph.output]
        self.operators = [
            Operator(
                node.op_type,
                tuple(dict.fromkeys(name for name in [*node.input, *_captured(node)] if name)),
                tuple(name for name in node.output if name),
                sizes_only=node.op_type in _SIZES,
            )
            for node in graph.node
        ]
        known = {value.name for value in graph.output}
        for operator in self.operators:
            graph.output.extend(onnx.ValueInfoProto(name=name) for name in operator.outputs if name not in known)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        # From a file: as bytes it would be one more copy of the weights.
        with tempfile.TemporaryDirectory(dir=scratch or path.parent) as folder:
            widened = Path(folder) / "intermediates.onnx"
            widened.write_bytes(model.SerializeToString())
            del model, graph
            self._session = onnxruntime.InferenceSession(str(widened), options, providers=["CPUExecutionProvider"])
        self._fed = {value.name: value.type for value in self._session.get_inputs()}
        self._types = {value.name: value.type for value in self._session.get_outputs()}

    def values(self, arrays: Sequence[np.ndarray], names: Collection[str]) -> Iterator[tuple[str, np.ndarray]]:
        """See `Computation.values`; fetched from onnxruntime some tensors at a time."""
        feeds = {name: array for name, array in zip(self.inputs, arrays, strict=True) if name in self._fed}
        yield from ((name, feeds[name]) for name in names if name in feeds)
        wanted = [name for name in names if self._types.get(name, "").startswith("tensor(")]
        wanted = [name for name in wanted if self._types[name] not in ("tensor(string)", "tensor(bfloat16)")]
        for start in range(0, len(wanted), _AT_ONCE):
            chunk = wanted[start : start + _AT_ONCE]
            yield from zip(chunk, self._session.run(chunk, feeds), strict=True)


def _captured(node: onnx.NodeProto) -> list[str]:
    """What the branches and bodies of control flow take from outside; names of their own do no harm."""
    found = []
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs:
            for inner in graph.node:
                found += [*inner.input, *_captured(inner)]
    return found
