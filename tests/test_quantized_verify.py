"""Metrics of quantized files: what passes, what does not, and that the figures are right."""

from __future__ import annotations

import numpy as np
import pytest

from converter.hub.hub import TensorSpec
from converter.quantization.verify import THRESHOLDS, Thresholds, thresholds_for, verify_quantized
from converter.verification.verify import Verification

SPEC = [TensorSpec("y", (None, 10), "float32")]


def probabilities(count: int = 40, seed: int = 0) -> np.ndarray:
    scores = np.exp(3 * np.random.default_rng(seed).standard_normal((count, 10)))
    return (scores / scores.sum(1, keepdims=True)).astype(np.float32)


def measure(expected: np.ndarray, actual: np.ndarray, thresholds: Thresholds, **options) -> Verification:
    return verify_quantized(SPEC, [(len(expected), [expected], [actual])], thresholds, "runtime", **options)


def test_figures():
    expected = np.array([[3.0, 4.0, 0.0]], np.float32)
    actual = np.array([[3.0, 4.0, 0.5]], np.float32)
    verification = measure(expected, actual, THRESHOLDS["int8"])
    entry = verification.outputs[0]
    assert entry["cosine"] == pytest.approx(25 / (5 * np.sqrt(25.25)))
    assert entry["sqnr_db"] == pytest.approx(10 * np.log10(25 / 0.25))
    assert entry["max_abs_diff"] == 0.5 and entry["top1_agreement"] == 1.0
    assert verification.passed and verification.samples == 1


@pytest.mark.parametrize("kind", THRESHOLDS)
def test_a_good_file_passes_and_a_spoilt_one_does_not(kind):
    expected = probabilities()
    step = 1e-4 if kind == "float16" else 1 / 256
    assert measure(expected, np.rint(expected / step) * step, THRESHOLDS[kind]).passed
    spoilt = measure(expected, np.roll(expected, 1, axis=1), THRESHOLDS[kind])
    assert not spoilt.passed and "cosine similarity" in spoilt.message and "best class" in spoilt.message


def test_identical_outputs_have_no_noise():
    verification = measure(probabilities(), probabilities(), THRESHOLDS["float16"])
    assert verification.passed and verification.outputs[0]["sqnr_db"] is None


def test_all_zeros_are_not_accuracy():
    verification = measure(probabilities(), np.zeros_like(probabilities()), THRESHOLDS["int8"])
    assert not verification.passed and verification.outputs[0]["cosine"] == 0.0


def test_nan_fails():
    actual = probabilities()
    actual[3, 3] = np.nan
    assert "NaN" in measure(probabilities(), actual, THRESHOLDS["int8"]).message


def test_top1_counts_for_probabilities_and_where_it_was_asked_for():
    rng = np.random.default_rng(0)
    expected = (rng.standard_normal((40, 3)) * 1e-3 + 5).astype(np.float32)  # three measurements, all alike
    actual = (expected + rng.standard_normal((40, 3)) * 1e-3).astype(np.float32)
    loose = measure(expected, actual, THRESHOLDS["int8"])
    assert loose.passed and loose.outputs[0]["top1_agreement"] < 0.8
    assert not measure(expected, actual, thresholds_for("int8", {"top1": 0.8})).passed


def test_one_miss_in_a_handful_is_no_share():
    expected, actual = probabilities(4), probabilities(4)
    best = np.argsort(actual[0])[-2:]
    expected[0, best] = actual[0, best] = actual[0, best].mean()
    actual[0, best[0]] += 1e-3
    expected[0, best[1]] += 1e-3
    verification = measure(expected, actual, THRESHOLDS["dynamic"])
    assert verification.outputs[0]["top1_agreement"] == 0.75 and verification.passed


def test_thresholds_can_be_overridden():
    expected, actual = probabilities(), probabilities() + np.float32(1e-3)
    assert measure(expected, actual, thresholds_for("int8", {})).passed
    strict = measure(expected, actual, thresholds_for("int8", {"sqnr": 80}))
    assert not strict.passed and "needed 80" in strict.message


def test_integer_outputs_agree_in_a_share():
    expected = np.arange(40, dtype=np.int64)
    actual = expected.copy()
    actual[:4] += 1
    assert measure(expected, actual, THRESHOLDS["int8"]).passed
    actual[:20] += 1
    assert "agrees in 50.0%" in measure(expected, actual, THRESHOLDS["int8"]).message


def test_values_below_the_files_step_are_named():
    expected = np.full((4, 10), 1e-3, np.float32)
    verification = measure(expected, np.zeros_like(expected), THRESHOLDS["int8"], steps=[1 / 256])
    assert "cannot resolve its values: the largest is 0.001, the file's step 0.0039" in verification.message


def test_shapes_must_be_the_same():
    assert "shape" in measure(probabilities(4), probabilities(3), THRESHOLDS["int8"]).message
