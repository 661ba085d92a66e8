"""The own error of each integer operator of a TensorFlow Lite file.

TensorFlow's quantizer can let each operator run a second time in float, on the very values that the integer one gets
(its NumericVerify mode): the difference is that operator's own error, not what it inherits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from converter.quantization.files import LayerError
from converter.quantization.layers import Layer
from converter.quantization.tflite.full_integer import to_integers
from converter.tflite.flatbuffer import operator_name, read, schema, write

__all__ = ["layer_errors"]

_COMPARISON = "NumericVerify"


def layer_errors(
    calibrated: bytes, keep: Sequence[str], available: Sequence[Layer], samples: Iterable[list[np.ndarray]], path: Path
) -> list[LayerError]:
    """Each integer layer's own error over the samples, in order of execution.

    calibrated: the float model with ranges. keep: names of layers that stay in float. available: those of the float model.
    samples: in the order of the file's inputs. `path` is for the file that is compared.
    """
    compared = read(to_integers(calibrated, "float32", keep, compare_layers=True))
    pairs = _take_comparisons(compared)
    write(path, compared)
    names = [compared.subgraphs[0].tensors[integer].name.decode() for integer, _ in pairs]
    makers = {int(op.outputs[0]): operator_name(compared, op) for op in compared.subgraphs[0].operators}
    found = _layers_of(names, [makers[integer] for integer, _ in pairs], available)
    run = _Intermediates(path)
    errors = [LayerError(layer, run.quantization(integer)[0]) for layer, (integer, _) in zip(found, pairs, strict=True)]
    for sample in samples:
        run(sample)
        for error, (integer, real) in zip(errors, pairs, strict=True):
            error.add(run.value(real), run.value(integer))
    return errors


def _take_comparisons(model: schema.ModelT) -> list[tuple[int, int]]:
    """Remove the comparing operators, which LiteRT does not know; (integer, float) tensors that each compared."""
    pairs, kept = [], []
    subgraph = model.subgraphs[0]
    for operator in subgraph.operators:
        if operator_name(model, operator) == _COMPARISON:
            pairs.append((int(operator.inputs[0]), int(operator.inputs[1])))
        else:
            kept.append(operator)
    subgraph.operators = kept
    return pairs


def _layers_of(names: Sequence[str], types: Sequence[str], available: Iterable[Layer]) -> list[Layer]:
    """The float model's layer behind each integer result: the quantizer keeps the order, and may number the names."""
    remaining = list(available)
    found = []
    for name, kind in zip(names, types, strict=True):
        same = (
            layer for layer in remaining if layer.type == kind and re.fullmatch(rf"{re.escape(layer.name)}\d*", name)
        )
        layer = next(same, Layer(name, kind))
        if layer in remaining:
            remaining.remove(layer)
        found.append(layer)
    return found


class _Intermediates:
    """A file run in LiteRT such that the value of every tensor can be read."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self._interpreter = Interpreter(
            model_path=str(path),
            experimental_preserve_all_tensors=True,
            # A delegate keeps the values between its operators to itself.
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            num_threads=2,
        )
        self._inputs = [entry["index"] for entry in self._interpreter.get_input_details()]
        self._details = {entry["index"]: entry for entry in self._interpreter.get_tensor_details()}

    def quantization(self, index: int) -> tuple[float, int]:
        return self._details[index]["quantization"]

    def __call__(self, arrays: Sequence[np.ndarray]) -> None:
        for index, array in zip(self._inputs, arrays, strict=True):
            self._interpreter.resize_tensor_input(index, list(array.shape))
        self._interpreter.allocate_tensors()
        self._interpreter.reset_all_variables()
        for index, array in zip(self._inputs, arrays, strict=True):
            self._interpreter.set_tensor(index, array)
        self._interpreter.invoke()

    def value(self, index: int) -> np.ndarray:
        """In float64; integers by the tensor's scale and zero point."""
        scale, zero_point = self.quantization(index)
        value = self._interpreter.get_tensor(index).astype(np.float64)
        return (value - zero_point) * scale if scale else value
