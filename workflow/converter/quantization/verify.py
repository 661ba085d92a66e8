"""How much of a float model a quantized one keeps: cosine similarity, signal-to-noise ratio, top-1 agreement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from converter.hub.hub import Run, TensorSpec
from converter.hub.informative import reference_is_weak
from converter.verification.verify import Verification, cosine

__all__ = ["THRESHOLDS", "Thresholds", "thresholds_for", "verify_quantized"]


@dataclass(frozen=True)
class Thresholds:
    """cosine: smallest cosine similarity; sqnr: smallest 10 log10(signal / noise) in dB; top1: smallest share of
    samples with the same best class. `top1_for_scores`: hold any rank-2 output to top1, not only probabilities.
    """

    cosine: float
    sqnr: float
    top1: float
    top1_for_scores: bool = False


# Half precision leaves 11 bits (66 dB of one value's rounding), 8 bits with a range that fits them about 40 dB before
# errors add up over the layers. A model that has lost its ranges is far below: 10 dB is noise of a third of the signal.
THRESHOLDS = {
    "float16": Thresholds(0.9999, 40.0, 0.98),
    "dynamic": Thresholds(0.99, 15.0, 0.9),
    "int8": Thresholds(0.95, 10.0, 0.8),
    "uint8": Thresholds(0.95, 10.0, 0.8),
    "int4": Thresholds(0.95, 10.0, 0.8),
}


_MIN_FOR_SHARES = 20


def thresholds_for(kind: str, overrides: Mapping[str, float]) -> Thresholds:
    """The thresholds of a kind of quantization, with `quantization.thresholds` over them."""
    return replace(THRESHOLDS[kind], **overrides, top1_for_scores="top1" in overrides)


def verify_quantized(
    outputs: Sequence[TensorSpec],
    runs: Iterable[tuple[int, list[np.ndarray], list[np.ndarray]]],
    thresholds: Thresholds,
    runtime: str,
    steps: Sequence[float] | None = None,
) -> Verification:
    """Compare the outputs of the float and the quantized model: `runs` of (samples in it, float, quantized).

    `steps`: the smallest difference that each output of the quantized file can express, 0 where it is float.

    Floating outputs must reach all thresholds (top1 where they are probabilities of classes: of three columns of
    numbers nobody can tell whether the largest one means anything). Integer and boolean outputs must agree in a share
    of their values of at least top1.
    """
    samples, floats, quantized = 0, [], []
    for count, expected, actual in runs:
        samples += count
        floats.append(expected)
        quantized.append(actual)
    steps = steps or [0.0] * len(outputs)
    entries = [
        _compare(spec.name, [run[i] for run in floats], [run[i] for run in quantized], thresholds, steps[i])
        for i, spec in enumerate(outputs)
    ]
    problems = [f"output {entry['name']} {entry.pop('problem')}" for entry in entries if entry["problem"]]
    for entry in entries:
        entry.pop("problem", None)
    weak = reference_is_weak([Run([], run) for run in floats])
    message = "; ".join(problems) or None
    return Verification(not problems, runtime, samples, weak, entries, message)


def _compare(
    name: str, floats: list[np.ndarray], quantized: list[np.ndarray], thresholds: Thresholds, step: float
) -> dict:
    entry: dict = {"name": name, "max_abs_diff": None, "mean_abs_diff": None, "cosine": None, "sqnr_db": None}
    entry |= {"top1_agreement": None, "max_abs_reference": None, "tolerance": None, "passed": False, "problem": None}
    for expected, actual in zip(floats, quantized, strict=True):
        if expected.shape != actual.shape:
            entry["problem"] = f"has shape {list(actual.shape)} instead of {list(expected.shape)}"
            return entry
    expected = np.concatenate([array.reshape(-1) for array in floats])
    actual = np.concatenate([array.reshape(-1) for array in quantized])
    if expected.dtype.kind != "f":
        entry["top1_agreement"] = float((expected == actual).mean()) if expected.size else 1.0
        if entry["top1_agreement"] < thresholds.top1:
            entry["problem"] = f"agrees in {entry['top1_agreement']:.1%} of its values, needed {thresholds.top1:.1%}"
        entry["passed"] = entry["problem"] is None
        return entry
    expected, actual = expected.astype(np.float64), actual.astype(np.float64)
    finite = np.isfinite(expected)
    if not np.isfinite(actual[finite]).all():
        entry["problem"] = "has NaN or infinite values where the float model has none"
        return entry
    difference = np.abs(expected[finite] - actual[finite])
    similarity, sqnr = cosine(expected[finite], actual[finite]), _sqnr(expected[finite], difference)
    entry |= {
        "max_abs_diff": float(difference.max(initial=0.0)),
        "mean_abs_diff": float(difference.mean()) if difference.size else 0.0,
        "cosine": similarity,
        "sqnr_db": sqnr,
        "max_abs_reference": float(np.abs(expected[finite]).max(initial=0.0)),
    }
    found = []
    if similarity < thresholds.cosine:
        found.append(f"has cosine similarity {similarity:.4f}, needed {thresholds.cosine}")
    if sqnr is not None and sqnr < thresholds.sqnr:
        found.append(f"has a signal-to-quantization-noise ratio of {sqnr:.1f} dB, needed {thresholds.sqnr}")
    if (rows := _class_scores(floats, quantized)) is not None:
        agreement = float((rows[0].argmax(-1) == rows[1].argmax(-1)).mean())
        entry["top1_agreement"] = agreement
        counts = thresholds.top1_for_scores or _are_probabilities(rows[0])
        if counts and agreement < thresholds.top1 and not _is_a_single_miss(agreement, len(rows[0])):
            found.append(f"agrees on the best class in {agreement:.1%} of samples, needed {thresholds.top1:.1%}")
    if found and entry["max_abs_reference"] < _STEPS_TO_RESOLVE * step:
        found.append(
            f"cannot resolve its values: the largest is {entry['max_abs_reference']:.2g}, the file's step {step:.2g} "
            "(a softmax over many classes; cut the model before it, or ask for a .dynamic.tflite file)"
        )
    entry |= {"problem": " and ".join(found) or None, "passed": not found}
    return entry


_STEPS_TO_RESOLVE = 8


def _are_probabilities(rows: np.ndarray) -> bool:
    return bool((rows >= 0).all() and np.allclose(rows.sum(-1), 1, atol=1e-3))


def _is_a_single_miss(agreement: float, count: int) -> bool:
    """One of a handful of samples says nothing about a share."""
    return count < _MIN_FOR_SHARES and round((1 - agreement) * count) <= 1


def _class_scores(floats: list[np.ndarray], quantized: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    """(samples, classes) of both where the output looks like a classifier's: rank 2, three classes or more."""
    if any(array.ndim != 2 or array.shape[1] < 3 for array in floats):
        return None
    if len({array.shape[1] for array in floats}) > 1:
        return None
    return np.concatenate(floats), np.concatenate(quantized)


def _sqnr(reference: np.ndarray, difference: np.ndarray) -> float | None:
    """10 log10(sum reference^2 / sum difference^2) in dB; None where nothing differs, or the reference is all zeros."""
    noise, signal = float(np.square(difference).sum()), float(np.square(reference).sum())
    return float(10 * np.log10(signal / noise)) if noise and signal else None
