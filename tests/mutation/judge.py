"""One mutant after the other: does verification refuse it, and if not, does it compute anything else?"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from converter.hub.hub import Hub, Run
from converter.verification.runtimes import OnnxModel, TFLiteModel, check_interface
from converter.verification.tflite import runs_for
from converter.verification.verify import Tolerance, verify
from mutation.convert import Case
from mutation.fault import Fault, draw
from mutation.rows import many_inputs

__all__ = ["Judgement", "crippled", "faults_of", "judge"]


@dataclass(frozen=True)
class Judgement:
    """outcome: "caught" by verification, "refused" by the runtime, "survived", "equivalent" (no output changes by more
    than the tolerance on any of many inputs), "none" (the file is the same, or cannot be made).

    excess: of a survivor, the largest difference in shares of its tolerance, None where that is no number (whole numbers,
    which must be equal; NaN; other names); on: the kind of inputs that shows it.
    """

    kind: str
    words: str
    outcome: str
    message: str = ""
    excess: float | None = None
    on: str | None = None


def faults_of(case: Case, count: int, seed: int) -> list[Fault]:
    number = zlib.crc32(f"{seed} {case.model} {case.target}".encode())
    if case.target == "onnx":
        import onnx

        from mutation.onnx_faults import onnx_faults

        found = onnx_faults(onnx.load(case.file), number)
    else:
        from converter.tflite.flatbuffer import read
        from mutation.tflite_faults import tflite_faults

        found = tflite_faults(read(case.file.read_bytes()), number)
    return draw(found, count, f"{seed} {case.model} {case.target}")


def crippled(case: Case) -> list[Run]:
    """A reference of zeros, as the exported file answers them: proof of nothing."""
    runs = [Run([np.zeros_like(array) for array in run.inputs], [], run.kind) for run in Hub.read(case.hub).reference()]
    file = _File(case, case.file)
    return [Run(run.inputs, file.run(run.inputs), run.kind) for run in file.fitting(runs)]


def judge(
    case: Case, faults: Sequence[Fault], seed: int, first: int = 0, reference: list[Run] | None = None
) -> Iterator[Judgement]:
    """Of the faults from number `first` on. `reference`: in place of the hub's. Yields before each one nothing is left open."""
    hub = Hub.read(case.hub)
    runs = hub.reference() if reference is None else reference
    original = _File(case, case.file)
    check_interface(original.model, *original.names)
    right = verify(original.outputs, original.fitting(runs), original.run, Tolerance())
    if not right.passed:  # the exporter found it right: then it is run here in another way
        raise RuntimeError(f"{case.file} itself is not right: {right.message}")
    many = _answered(original, many_inputs(hub, case.ranges, original.batch(), seed))
    content = case.file.read_bytes()
    mutant_path = case.file.with_name(f"mutant.{case.target}")
    for fault in faults[first:]:
        try:
            made = _write(case, fault, content, mutant_path)
        except Exception as error:  # a fault that does not fit its place: an index beyond the end, a missing attribute
            yield Judgement(fault.kind, fault.words, "none", _line(error))
            continue
        if not made:
            yield Judgement(fault.kind, fault.words, "none", "the same file")
            continue
        yield _judged(case, fault, mutant_path, runs, original, many)
        mutant_path.unlink()


def _judged(case: Case, fault: Fault, path: Path, runs: list[Run], original: _File, many: list[Run]) -> Judgement:
    try:
        mutant = _File(case, path)
        try:
            check_interface(mutant.model, *mutant.names)
        except ValueError as error:
            return Judgement(fault.kind, fault.words, "caught", str(error))
        verdict = verify(mutant.outputs, mutant.fitting(runs), mutant.run, Tolerance())
    except Exception as error:  # what the runtimes raise has no common base class; the exporters make a refusal of it
        return Judgement(fault.kind, fault.words, "refused", _line(error))
    if not verdict.passed:
        return Judgement(fault.kind, fault.words, "caught", verdict.message)
    if mutant.interface() != original.interface():
        return Judgement(fault.kind, fault.words, "survived", "other names or another order", None, "any")
    excess, on, message = _difference(mutant, many)
    outcome = "survived" if excess > 1 else "equivalent"
    return Judgement(fault.kind, fault.words, outcome, message, excess if np.isfinite(excess) else None, on)


def _answered(file: _File, runs: list[Run]) -> list[Run]:
    """The runs with the file's answers; without sizes that it does not take, and large values that overflow in it."""
    kept = []
    for run in runs:
        try:
            outputs = [np.array(output) for output in file.run(run.inputs)]
        except Exception:  # noqa: S112 - sizes that the model was not made for
            continue
        if run.kind != "large" or all(np.isfinite(output).all() for output in outputs if output.dtype.kind == "f"):
            kept.append(Run(run.inputs, outputs, run.kind))
    if not kept:
        raise RuntimeError("the file takes none of the inputs that are to tell mutants from it")
    return kept


def _difference(mutant: _File, many: list[Run]) -> tuple[float, str | None, str]:
    """(largest difference in shares of its tolerance, the kind of inputs, a clause)."""
    answers: dict[tuple, list[tuple[np.ndarray, np.ndarray]]] = {}
    for run in many:
        try:
            results = mutant.run(run.inputs)
        except Exception as error:
            return float("inf"), run.kind, f"fails there: {_line(error)}"
        for position, pair in enumerate(zip(run.outputs, results, strict=True)):
            answers.setdefault((run.kind, position), []).append(pair)
    worst: tuple[float, str | None, str] = (0.0, None, "")
    for (kind, position), pairs in answers.items():
        shares = verify(
            [mutant.outputs[position]], [Run([], [a], kind) for a, _ in pairs], _replies(pairs), Tolerance()
        )
        entry = shares.outputs[0] if shares.outputs else {}
        allowed, differs = entry.get("tolerance"), entry.get("max_abs_diff")
        excess = differs / allowed if allowed and differs is not None else (0.0 if shares.passed else float("inf"))
        if not shares.passed:
            excess = max(excess, np.nextafter(1.0, 2.0))
        if excess > worst[0]:
            worst = (float(excess), kind, shares.message or "")
    return worst


def _replies(pairs: list[tuple[np.ndarray, np.ndarray]]) -> Callable:
    answers = iter([actual for _, actual in pairs])
    return lambda arrays: [next(answers)]


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _write(case: Case, fault: Fault, content: bytes, path: Path) -> bool:
    """Whether the mutant differs from the file."""
    if case.target == "onnx":
        import onnx

        model = onnx.load_model_from_string(content)
        before = model.SerializeToString(deterministic=True)
        fault.apply(model)
        after = model.SerializeToString(deterministic=True)
        path.write_bytes(after)
        return before != after
    from converter.tflite.flatbuffer import read, write

    model = read(content)
    fault.apply(model)
    write(path, model)
    again = path.with_name("same.tflite")
    if not again.exists():
        write(again, copy.copy(read(content)))
    return path.read_bytes() != again.read_bytes()


class _File:
    """A file as its exporter runs it for verification: the hub's order and layout of inputs and outputs."""

    def __init__(self, case: Case, path: Path) -> None:
        self._hub = Hub.read(case.hub)
        self.outputs = self._hub.outputs
        names = [spec.name for spec in self._hub.inputs]
        self.names = names, [spec.name for spec in self.outputs]
        if case.target == "onnx":
            self.model = OnnxModel(path)
            if self._hub.framework == "tensorflow":
                from converter.tf.onnx.model import output_specs

                self.names = names, [spec.name for spec in output_specs(self._hub.inputs, self.outputs)[0]]
                self.run = self.model.run
            else:
                self.run = lambda arrays: self.model.run([arrays[names.index(spec.name)] for spec in self.model.inputs])
            return
        self.model = TFLiteModel(path)
        feed = [names.index(spec.name) for spec in self.model.inputs]
        fetch = [[spec.name for spec in self.model.outputs].index(spec.name) for spec in self.outputs]
        inputs = sorted(self.model.inputs, key=lambda spec: names.index(spec.name))

        def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
            results = self.model.run([arrays[position] for position in feed])
            return [results[position] for position in fetch]

        orders = [_channels_last(self._hub, array.ndim) for array in self._hub.reference()[0].inputs]
        back = [np.argsort(_channels_last(self._hub, array.ndim)) for array in self._hub.reference()[0].outputs]

        def run_in_source_layout(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
            given = [
                np.ascontiguousarray(array.transpose(order)).astype(spec.dtype)
                for array, order, spec in zip(arrays, orders, inputs, strict=True)
            ]
            return [result.transpose(order) for result, order in zip(run(given), back, strict=True)]

        self.run = run_in_source_layout

    def interface(self) -> tuple:
        return [spec.name for spec in self.model.inputs], [spec.name for spec in self.model.outputs]

    def batch(self) -> int | None:
        sizes = {spec.shape[0] if spec.shape else None for spec in self.model.inputs}
        return sizes.pop() if len(sizes) == 1 else None

    def fitting(self, runs: Sequence[Run]) -> list[Run]:
        return runs_for(self.model.inputs, runs) if isinstance(self.model, TFLiteModel) else list(runs)


def _channels_last(hub: Hub, rank: int) -> tuple[int, ...]:
    """The permutation of a PyTorch source's input or output in its .tflite file."""
    if hub.framework == "tensorflow" or rank not in (4, 5):
        return tuple(range(rank))
    return (0, *range(2, rank), 1)
