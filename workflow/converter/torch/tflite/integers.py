"""Quantized models to TensorFlow Lite files of integers with the source's own scales.

The float model is converted with each fake quantization as QUANTIZE and DEQUANTIZE; the float operators between them then
become integer ones (`converter.tflite.integers`). LiteRT rounds otherwise than the source: a step at each operator adds up. So
each operator is compared by itself, on the source's own integers, and the whole file by how much of the answer is noise.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from converter.contracts import ExportJob, ExportResult
from converter.errors import UnsupportedError
from converter.hub.hub import Hub, Run
from converter.tflite.flatbuffer import read, write
from converter.tflite.integers.fold import Folded, fold
from converter.tflite.integers.proof import PieceRun, Pieces, prove
from converter.tflite.integers.scales import Grid
from converter.torch.exact import error_function, integer_bits
from converter.torch.exact.exact_program import exact_program
from converter.torch.exact.rewriting import rewrite
from converter.torch.program.hub_program import read_program
from converter.torch.sources.tracing import reason
from converter.torch.tflite.keras_route import tensorflow_hub
from converter.torch.tflite.layout import FileLayout
from converter.torch.tflite.transposes import note_transposes
from converter.verification.runtimes import TFLiteModel
from converter.verification.tflite import in_order, runs_for
from converter.verification.verify import Tolerance, Verification, verify

__all__ = ["IntegerSource", "export_integers"]

# Of the whole file, where single steps have added up: noise of a third of the signal is a file that has lost its ranges.
_LEAST_SQNR = 10.0
_MOST_ROUNDS = 4
_ANY = 1e6


@dataclass(frozen=True)
class IntegerSource:
    """A quantized source, whose float program has a named fake quantization for each of its tensors of integers.

    hub: of the source; those of its inputs and outputs that are integers on a grid stand in `boundary`. pairs: by the names
    of fake quantizations. weights: grids that constants lie on. values: of inputs as the hub has them, the source's own
    answers and its integers by the names of pairs, as it holds them.
    """

    hub: Hub
    pairs: Mapping[str, Grid]
    weights: Sequence[Grid]
    boundary: Mapping[str, Grid]
    values: Callable[[Sequence[np.ndarray]], tuple[list[np.ndarray], Mapping[str, np.ndarray]]]


def export_integers(lowered: Hub, source: IntegerSource, job: ExportJob, staged: Path) -> ExportResult:
    """Write `staged`. lowered: the hub of the float program. Raises UnsupportedError where no file comes of it that is right."""
    program = exact_program(read_program(lowered), integers=True)
    rewrite(program, integer_bits.RULES | error_function.RULES)
    with tempfile.TemporaryDirectory(dir=staged.parent) as folder:
        float_path = Path(folder) / "float.tflite"
        result = _float_file(lowered, program, job, float_path)
        content = float_path.read_bytes()
    keep: set[str] = set()
    layout = FileLayout.of(source.hub, job)
    for _ in range(_MOST_ROUNDS):
        model = read(content)
        folded = fold(model, source.pairs, source.weights, source.boundary, keep)
        if not folded.integers:
            raise UnsupportedError("no operator of it has an integer kernel for its scales and weights")
        write(staged, model)
        try:
            checked = _Checked(staged, source, layout)
            pieces = checked.pieces(folded)
        except (RuntimeError, ValueError) as error:  # what the interpreter raises for a node it cannot prepare
            raise UnsupportedError(f"the file of integers cannot be run: {reason(error)}") from error
        if not pieces.wrong:
            break
        keep |= pieces.wrong
    else:
        raise UnsupportedError("its integers come out more than a step off, and so do those of what was left in float")
    verification = checked.verdict(pieces, job)
    result.inputs, result.outputs = checked.inputs, checked.outputs
    result.verification = verification
    result.route = ["torch_to_keras", *result.route, "fold_integers"]
    result.notes = [*layout.notes(source.hub), *result.notes, *_notes(folded, pieces, verification, keep)]
    result.decisions += [*layout.decisions(), "computed in integers with the source's scales"]
    result.metadata = {**result.metadata, "integers": _description(folded, pieces)}
    note_transposes(staged, result)
    return result


def _float_file(lowered: Hub, program: Any, job: ExportJob, path: Path) -> ExportResult:
    from converter.tf.tflite.export import export as export_tensorflow

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        try:
            converted = tensorflow_hub(lowered, program, Path(folder), channels_last=job.input_layout == "nhwc")
            # Its rounding does not count, which would be taken for a batch that cannot be free.
            result = export_tensorflow(converted, replace(job, tolerance=Tolerance(rtol=_ANY)), path)
        except (UnsupportedError, MemoryError):
            raise
        except Exception as error:  # Keras's and TensorFlow's own
            raise UnsupportedError(reason(error)) from error
    result.notes = [*converted.notes, *result.notes]
    return result


class _Checked:
    """The file, and the runs of the source that it is compared on."""

    def __init__(self, path: Path, source: IntegerSource, layout: FileLayout) -> None:
        self._path, self._source, self._layout = path, source, layout
        self._model = TFLiteModel(path)
        hub = source.hub
        names = [spec.name for spec in hub.inputs], [spec.name for spec in hub.outputs]
        self.inputs, self.outputs, self._run = in_order(self._model, *names)
        self._feed = [names[0].index(spec.name) for spec in self._model.inputs]
        self._fetch = [[spec.name for spec in self._model.outputs].index(name) for name in names[1]]
        self.runs = runs_for(self.inputs, hub.reference())
        self._answers: list[list[np.ndarray]] = []

    def pieces(self, folded: Folded) -> Pieces:
        """How far each operator is from the source."""
        runs: list[PieceRun] = []
        self._answers = []
        for run in self.runs:
            answers, values = self._source.values(run.inputs)
            self._answers.append(answers)
            integers = {name: _signed(values[name]) for name in folded.tensors}
            arrays = self._layout.given(run.inputs, self.inputs)
            runs.append(PieceRun([arrays[place] for place in self._feed], integers))
        return prove(self._path, folded.tensors, self._source.pairs, runs)

    def verdict(self, pieces: Pieces, job: ExportJob) -> Verification:
        """As of any file; where steps have added up, by its operators and by how much of the answers is noise."""
        outputs = self._source.hub.outputs
        whole = verify(outputs, self.runs, self._whole, job.tolerance, self._model.name)
        if whole.passed:
            return whole
        by_pieces = iter(pieces.outputs)

        def last_piece(_: list[np.ndarray]) -> list[np.ndarray]:
            found = next(by_pieces)
            return self._layout.returned([found[place] for place in self._fetch])

        # onnxruntime rounds otherwise where it has to show its integers.
        shown = [Run(run.inputs, answers, run.kind) for run, answers in zip(self.runs, self._answers, strict=True)]
        last = verify(outputs, shown, last_piece, job.tolerance, self._model.name)
        if not last.passed:
            return replace(whole, message=f"{whole.message}; of the source's own integers: {last.message}")
        noise = self._noise()
        if min(noise, default=np.inf) < _LEAST_SQNR:
            return whole
        for entry, decibels in zip(whole.outputs, noise, strict=True):
            entry |= {"passed": True, "sqnr_db": None if np.isinf(decibels) else round(decibels, 2)}
        return replace(whole, passed=True, message=None)

    def _whole(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        return self._layout.returned(self._run(self._layout.given(arrays, self.inputs)))

    def _noise(self) -> list[float]:
        """Of each output, the signal over the noise in dB, on all runs together."""
        signal = np.zeros(len(self.outputs))
        noise = np.zeros(len(self.outputs))
        for run in self.runs:
            for place, (expected, actual) in enumerate(zip(run.outputs, self._whole(run.inputs), strict=True)):
                zero = self._zero(place)
                signal[place] += float(((expected.astype(np.float64) - zero) ** 2).sum())
                noise[place] += float(((expected.astype(np.float64) - actual.astype(np.float64)) ** 2).sum())
        return [float(10 * np.log10(s / n)) if n else np.inf for s, n in zip(signal, noise, strict=True)]

    def _zero(self, place: int) -> int:
        grid = self._source.boundary.get(self._source.hub.outputs[place].name)
        return 0 if grid is None else int(grid.zero[0])


def _signed(array: np.ndarray) -> np.ndarray:
    return (array.astype(np.int16) - 128).astype(np.int8) if array.dtype == np.uint8 else array


def _description(folded: Folded, pieces: Pieces) -> dict[str, Any]:
    return {
        "operators": dict(sorted(folded.integers.items())),
        "float_operators": dict(sorted(folded.floats.items())),
        "tensors": len(pieces.off),
        "share_off": pieces.aside / max(pieces.values, 1),
        "steps_off": max(pieces.off.values(), default=0),
    }


def _notes(folded: Folded, pieces: Pieces, verification: Verification, keep: set[str]) -> list[str]:
    count, share = sum(folded.integers.values()), pieces.aside / max(pieces.values, 1)
    exact = "gives what the source gives, to the bit"
    if pieces.aside:
        exact = f"comes within one step of what the source gives ({share:.1%} of the values are that step off)"
    notes = [
        f"{count} operators compute in integers with the source's own scales; each, given the source's integers, {exact}"
    ]
    if folded.floats:
        listed = ", ".join(f"{name} ({times})" if times > 1 else name for name, times in sorted(folded.floats.items()))
        notes.append(f"operators that stay in float between integers: {listed}")
    if keep:
        notes.append(f"{len(keep)} of them since LiteRT's integer kernel is more than a step off")
    off = [entry["steps_off"] for entry in verification.outputs if entry.get("steps_off")]
    if verification.passed and any(steps > 1 for steps in off):
        notes.append(f"single steps add up to {max(off):g} at the end")
    return notes


def reference_runs(hub: Hub, boundary: Mapping[str, Grid]) -> list[Run]:
    """The hub's reference with the integers of `boundary` as the floats that they stand for."""

    def real(name: str, array: np.ndarray) -> np.ndarray:
        grid = boundary.get(name)
        if grid is None:
            return array
        return ((array.astype(np.float32) - np.float32(grid.zero[0])) * grid.scale[0]).astype(np.float32)

    return [
        Run(
            [real(spec.name, array) for spec, array in zip(hub.inputs, run.inputs, strict=True)],
            [real(spec.name, array) for spec, array in zip(hub.outputs, run.outputs, strict=True)],
            run.kind,
        )
        for run in hub.reference()
    ]
