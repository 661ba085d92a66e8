"""Whether the converted file computes what the source computes.

The rule, per output: max |source - target| <= max(atol, rtol * max |source|), with NaN and infinities in the same
places; integer, boolean and string outputs are equal. The tolerance is relative to each output's own size, so that a
softmax over a thousand classes (values near 1e-3) is not waved through, and to each kind of samples, so that one of large
values does not excuse the others. Outputs that the source itself quantizes are compared in steps of their scale (STEPS).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from converter.hub.hub import Run, TensorSpec
from converter.hub.informative import reference_is_weak, typical

__all__ = ["STEPS", "StepTolerance", "Tolerance", "Verification", "cosine", "verify"]


@dataclass(frozen=True)
class Tolerance:
    """rtol: share of the largest absolute reference value of an output. atol: in the output's own unit."""

    rtol: float = 1e-4
    atol: float = 1e-7

    def of(self, max_abs_reference: float) -> float:
        """The largest difference that is allowed for an output whose largest absolute value is this."""
        return max(self.atol, self.rtol * max_abs_reference)


@dataclass(frozen=True)
class StepTolerance:
    """For outputs that the source itself quantizes: how many steps a value may be off, and the share of values that may be.

    Measured with torch 2.13 on x86 against onnxruntime 1.32: 0.3 % of the values of two linear layers, 8 % of those of two
    convolutions and a linear layer land one step aside, none further.
    """

    steps: int = 1
    share: float = 0.1


STEPS = StepTolerance()


@dataclass
class Verification:
    """A verdict with its figures; `message` says in one clause what is wrong, None when `passed`."""

    passed: bool
    runtime: str
    samples: int
    weak_evidence: bool
    outputs: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    message: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As the report's `verification` has it."""
        return {
            "runtime": self.runtime,
            "samples": self.samples,
            "weak_evidence": self.weak_evidence,
            "outputs": self.outputs,
        }


def verify(
    outputs: Sequence[TensorSpec],
    runs: Sequence[Run],
    run_target: Callable[[list[np.ndarray]], Sequence[np.ndarray]],
    tolerance: Tolerance,
    runtime: str = "",
) -> Verification:
    """Run the target on each run's inputs and compare its outputs, both in the hub's order and the source's layout.

    Exceptions of the target's runtime pass through: a file that cannot run is another failure than a wrong one.
    """
    if not runs:
        raise ValueError("nothing to verify with: no runs")
    pairs: list[dict[str, list[tuple[np.ndarray, np.ndarray]]]] = [{} for _ in outputs]
    for run in runs:
        results = run_target(list(run.inputs))
        if len(results) != len(outputs):
            message = f"the file has {len(results)} outputs, the source {len(outputs)}"
            return Verification(False, runtime, _samples(runs), False, [], message)
        for position, (expected, actual) in enumerate(zip(run.outputs, results, strict=True)):
            pairs[position].setdefault(run.kind, []).append((np.asarray(expected), np.asarray(actual)))
    entries = [_compare_kinds(spec, by_kind, tolerance) for spec, by_kind in zip(outputs, pairs, strict=True)]
    failed = [entry for entry in entries if entry["problem"]]
    message = "; ".join(f"output {entry['name']} {entry['problem']}" for entry in failed) or None
    for entry in entries:
        del entry["problem"]
    return Verification(not failed, runtime, _samples(runs), reference_is_weak(runs), entries, message)


def _samples(runs: Sequence[Run]) -> int:
    """Rows over all runs on ordinary values: the common leading dimension of a run's inputs, else 1."""
    count = 0
    for run in typical(runs) or runs:
        sizes = {array.shape[0] if array.ndim else 1 for array in run.inputs}
        count += sizes.pop() if len(sizes) == 1 else 1
    return count


def _compare_kinds(
    spec: TensorSpec, by_kind: dict[str, list[tuple[np.ndarray, np.ndarray]]], tolerance: Tolerance
) -> dict[str, Any]:
    """The entry of the kind of samples that comes nearest to its tolerance, or exceeds it most; it names the kind."""
    entries = [{**_compare(spec.name, pairs, tolerance), "kind": kind} for kind, pairs in by_kind.items()]
    if spec.step:
        for entry, pairs in zip(entries, by_kind.values(), strict=True):
            _compare_steps(entry, pairs, spec.step)
    worst = max(entries, key=lambda entry: (entry["problem"] is not None, _used(entry)))
    if worst["problem"] and worst["kind"] != "typical":
        worst["problem"] += f" on inputs of {worst['kind']}"
    return worst


def _compare_steps(entry: dict[str, Any], pairs: list[tuple[np.ndarray, np.ndarray]], step: float) -> None:
    """Judge an entry by STEPS instead, unless the shape or a NaN is wrong; single rows of special values have no share."""
    if entry["max_abs_diff"] is None or (entry["problem"] or "").startswith("has "):
        return
    off = np.concatenate([np.abs(a.astype(np.float64) - e.astype(np.float64)).reshape(-1) for e, a in pairs]) / step
    off = off[np.isfinite(off)]
    share, most = float((off > 0.5).mean()) if off.size else 0.0, float(off.max(initial=0.0))
    entry |= {"step": step, "steps_off": round(most, 3), "share_off": round(share, 6)}
    entry["tolerance"] = max(entry["tolerance"], (STEPS.steps + 0.01) * step)
    entry["problem"] = None
    if entry["max_abs_diff"] > entry["tolerance"]:
        entry["problem"] = f"is {most:.3g} steps of {step:.3g} off, allowed {STEPS.steps}"
    elif entry["kind"] == "typical" and share > STEPS.share:
        entry["problem"] = f"is a step of {step:.3g} off in {share:.1%} of its values, allowed {STEPS.share:.0%}"
    entry["passed"] = entry["problem"] is None


def _used(entry: dict[str, Any]) -> float:
    """The share of its tolerance that an output's difference takes."""
    return entry["max_abs_diff"] / entry["tolerance"] if entry["max_abs_diff"] and entry["tolerance"] else 0.0


def _compare(name: str, pairs: list[tuple[np.ndarray, np.ndarray]], tolerance: Tolerance) -> dict[str, Any]:
    """The report's entry of one output; its "problem" is None or says what differs."""
    entry: dict[str, Any] = {"name": name, "max_abs_diff": None, "mean_abs_diff": None, "cosine": None}
    entry |= {"max_abs_reference": None, "tolerance": None, "passed": False, "problem": None}
    for expected, actual in pairs:
        if expected.shape != actual.shape:
            entry["problem"] = f"has shape {list(actual.shape)} instead of {list(expected.shape)}"
            return entry
    expected = np.concatenate([pair[0].reshape(-1) for pair in pairs])
    actual = np.concatenate([pair[1].reshape(-1) for pair in pairs])
    if expected.dtype.kind not in "fcV":
        differing = int(np.count_nonzero(_as_comparable(expected) != _as_comparable(actual)))
        entry |= {"max_abs_diff": _integer_difference(expected, actual), "tolerance": 0.0}
        if differing:
            entry["problem"] = f"differs in {differing} of {expected.size} values, which must be equal"
        entry["passed"] = not differing
        return entry
    wide = np.complex128 if expected.dtype.kind == "c" or actual.dtype.kind == "c" else np.float64
    expected, actual = expected.astype(wide), actual.astype(wide)
    finite = np.isfinite(expected)
    largest = float(np.abs(expected[finite]).max(initial=0.0))
    allowed = tolerance.of(largest)
    same_specials = np.array_equal(np.isnan(expected), np.isnan(actual)) and np.array_equal(
        expected[~finite & ~np.isnan(expected)], actual[~finite & ~np.isnan(expected)]
    )
    both = finite & np.isfinite(actual)
    difference = np.abs(expected[both] - actual[both])
    worst = float(difference.max(initial=0.0))
    entry |= {
        "max_abs_diff": worst,
        "mean_abs_diff": float(difference.mean()) if difference.size else 0.0,
        "cosine": cosine(expected[both], actual[both]),
        "max_abs_reference": largest,
        "tolerance": allowed,
    }
    if not same_specials or not np.array_equal(finite, np.isfinite(actual)):
        entry["problem"] = "has NaN or infinite values in other places than the source"
    elif worst > allowed:
        entry["problem"] = f"differs by {worst:.3g}, allowed {allowed:.3g} (largest value {largest:.3g})"
    entry["passed"] = entry["problem"] is None
    return entry


def _as_comparable(array: np.ndarray) -> np.ndarray:
    """Strings as str: onnxruntime returns str objects, TensorFlow bytes."""
    if array.dtype.kind in "SO":
        return np.array([x.decode("utf-8", "replace") if isinstance(x, bytes) else str(x) for x in array], object)
    return array


def _integer_difference(expected: np.ndarray, actual: np.ndarray) -> float | None:
    if expected.dtype.kind in "SOU" or actual.dtype.kind in "SOU":
        return None
    return float(np.abs(expected.astype(np.float64) - actual.astype(np.float64)).max(initial=0.0))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """The cosine of the angle between two flat arrays, from -1 to 1; of zeros 1 with zeros, else 0."""
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    if norm == 0.0:
        return 1.0 if not a.any() and not b.any() else 0.0
    return min(1.0, float(np.abs(np.vdot(a, b))) / norm) * (1.0 if np.vdot(a, b).real >= 0 else -1.0)
