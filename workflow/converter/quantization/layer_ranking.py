"""Which layers lose most by quantization, and which to keep in float: the ranking in reports/{name}.layers.json.

TensorFlow's quantizer can let each operator run a second time in float, on the very values that the integer one gets
(its NumericVerify mode): the difference is that operator's own error, not what it inherits. What keeping the worst ones
in float is worth for the whole model is then tried and measured.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from converter.contracts import ExportJob
from converter.errors import ParameterError, UnsupportedError
from converter.hub.hub import Hub
from converter.quantization.export import Export
from converter.quantization.full_integer import to_integers
from converter.quantization.model import FloatModel, kind_of
from converter.tflite.flatbuffer import operator_name, read, schema, write
from converter.tflite.layers import Layer, layers

__all__ = ["rank_layers"]

_SAMPLES = 32
_MOST_TRIALS = 5
_WORTH_DB = 3.0  # minimum gain of SQNR per float layer, in dB, for the whole model: half of the noise
_COMPARISON = "NumericVerify"


@dataclass
class _Error:
    """Sums over all values of a layer's output: of their squares, and of their differences' squares."""

    layer: Layer
    scale: float
    signal: float = 0.0
    noise: float = 0.0
    largest: float = 0.0
    count: int = 0

    def add(self, expected: np.ndarray, actual: np.ndarray) -> None:
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
        return {
            "rank": rank,
            "name": self.layer.name,
            "type": self.layer.type,
            "sqnr_db": self.sqnr,
            "rmse_over_scale": float(np.sqrt(self.noise / self.count) / self.scale) if self.count else None,
            "max_abs_error": self.largest,
        }


def rank_layers(hub: Hub, job: ExportJob, export_float: Export, folder: Path) -> dict:
    """The ranking as a mapping (schema: configs/layers.schema.json). `folder` is for files in between.

    Raises ParameterError for a target without integer arithmetic, UnsupportedError where there is no right float file.
    """
    kind = kind_of(job.quantization)
    if kind is None or kind.form != "integer":
        raise ParameterError(
            f"{job.target} is not computed in integers, so that no layer loses by that: ask for the layers of an "
            ".int8 or .uint8 file, or write quantization.load"
        )
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        path = Path(temporary) / "float32.tflite"
        result = export_float(hub, job, path)
        if result.verification is not None and not result.verification.passed:
            raise UnsupportedError(f"the float file is wrong already: {result.verification.message}")
        model = FloatModel(hub, job, kind, path, result)
        errors = sorted(_errors(model, Path(temporary) / "compared.tflite"), key=_order)
        trials = _trials(model, errors, Path(temporary) / "trial.tflite")
        evaluated_on = model.samples()[1]
    return {
        "target": job.target,
        "source": {key: hub.source.get(key) for key in ("path", "format", "sha256", "bytes")},
        "quantization": job.quantization,
        "measured_on": evaluated_on,
        "layers": [error.to_json(rank) for rank, error in enumerate(errors, 1)],
        "kept_float": [layer.name for layer in model.kept],
        "trials": trials,
        "proposal": _proposal(trials),
        "notes": model.notes,
    }


def _order(error: _Error) -> tuple[bool, float]:
    return error.sqnr is None, error.sqnr or 0.0


def _errors(model: FloatModel, path: Path) -> list[_Error]:
    """Each integer layer's own error over the samples, in order of execution."""
    compared = read(to_integers(model.calibrated, "float32", [layer.name for layer in model.kept], compare_layers=True))
    pairs = _take_comparisons(compared)
    write(path, compared)
    names = [compared.subgraphs[0].tensors[integer].name.decode() for integer, _ in pairs]
    makers = {int(op.outputs[0]): operator_name(compared, op) for op in compared.subgraphs[0].operators}
    found = _layers_of(names, [makers[integer] for integer, _ in pairs], layers(model.model()))
    run = _Intermediates(path)
    errors = [_Error(layer, run.quantization(integer)[0]) for layer, (integer, _) in zip(found, pairs, strict=True)]
    if model.data is None:
        raise ValueError("integer kinds have representative data")
    for sample in model.in_file_order(model.data.evaluation(_SAMPLES)):
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


def _trials(model: FloatModel, errors: Sequence[_Error], path: Path) -> list[dict]:
    """The whole model with none of the ranked layers in float, with the worst one, the two worst, and so on.

    They end before a trial that would be no integer model any more.
    """
    worst = [error.layer for error in errors if error.sqnr is not None][:_MOST_TRIALS]
    trials = []
    for count in range(len(worst) + 1):
        keep = [*model.kept, *worst[:count]]
        try:
            model.quantize(path, keep)
        except UnsupportedError:  # nothing would be left to compute in integers
            if not count:
                raise
            break
        verification = model.measure(path, _SAMPLES).verification
        ratios = [entry["sqnr_db"] for entry in verification.outputs if entry.get("sqnr_db") is not None]
        cosines = [entry["cosine"] for entry in verification.outputs if entry.get("cosine") is not None]
        trials.append(
            {
                "keep_float": [layer.name for layer in keep],
                "sqnr_db": min(ratios, default=None),
                "cosine": min(cosines, default=None),
                "bytes": path.stat().st_size,
                "passed": verification.passed,
            }
        )
    return trials


def _proposal(trials: Sequence[dict]) -> dict:
    """The trial that gains most, where each layer in float has to gain 3 dB; no layers where none does."""
    base = trials[0]["sqnr_db"]
    if base is None or any(trial["sqnr_db"] is None for trial in trials):
        return {"keep_float": [], "gain_db": None, "reason": "the outputs have no signal-to-noise ratio to gain by"}
    worth = [trial["sqnr_db"] - base - _WORTH_DB * position for position, trial in enumerate(trials)]
    count = worth.index(max(worth))
    if not count:
        most = max(trial["sqnr_db"] for trial in trials) - base
        reason = f"no layer stands out: keeping up to {len(trials) - 1} in float gains {most:.1f} dB"
        return {"keep_float": [], "gain_db": None, "reason": reason}
    chosen = trials[count]
    gain = chosen["sqnr_db"] - base
    more = chosen["bytes"] / trials[0]["bytes"] - 1
    reason = (
        f"{'1 layer' if count == 1 else f'{count} layers'} in float raise the signal-to-quantization-noise ratio from "
        f"{base:.1f} to {chosen['sqnr_db']:.1f} dB, and the file's size by {more:.0%}"
    )
    return {"keep_float": chosen["keep_float"], "gain_db": gain, "reason": reason}
