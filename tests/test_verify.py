"""The rule that every conversion rests on: what is above the tolerance fails, what is below passes, per output."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.hub.hub import Run, TensorSpec
from converter.verification.verify import Tolerance, verify

SHAPES = st.sampled_from([(1,), (4, 3), (2, 3, 5)])


def check(expected, actual, tolerance=None, **spec):
    """The verdict on one output of one run."""
    outputs = [TensorSpec("y", None, spec.get("dtype", "float32"))]
    run = Run([np.zeros((1, 1))], [np.asarray(expected)])
    return verify(outputs, [run], lambda inputs: [np.asarray(actual)], tolerance or Tolerance(), "runtime 1")


@given(
    shape=SHAPES,
    scale=st.floats(1e-6, 1e6),
    rtol=st.sampled_from([1e-2, 1e-4, 1e-6]),
    place=st.integers(0, 10**6),
    factor=st.sampled_from([0.0, 0.5, 0.99, 1.01, 2.0, 1e6]),
    sign=st.sampled_from([-1, 1]),
)
def test_the_tolerance_is_a_share_of_the_largest_value(shape, scale, rtol, place, factor, sign):
    """One value, anywhere, off by `factor` times the tolerance."""
    expected = np.random.default_rng(place).standard_normal(shape) * scale
    tolerance = Tolerance(rtol, atol=0.0)
    actual = expected.copy()
    actual.reshape(-1)[place % actual.size] += sign * factor * rtol * np.abs(expected).max()
    verdict = check(expected, actual, tolerance)
    assert verdict.passed is (factor < 1)
    assert (verdict.message is None) is verdict.passed
    assert verdict.outputs[0]["passed"] is verdict.passed
    assert verdict.outputs[0]["tolerance"] == pytest.approx(rtol * np.abs(expected).max())
    json.dumps(verdict.to_json(), allow_nan=False)


@given(scale=st.floats(0, 1e-5), factor=st.sampled_from([0.9, 1.1]))
def test_atol_holds_for_outputs_near_zero(scale, factor):
    expected = np.array([[scale, -scale / 2]])
    assert check(expected, expected + factor * 1e-7, Tolerance(rtol=1e-4, atol=1e-7)).passed is (factor < 1)


def test_a_small_output_is_not_waved_through_beside_a_large_one():
    big, small = np.full((1, 3), 1e3), np.full((1, 3), 1e-3)
    specs = [TensorSpec("big", None, "float32"), TensorSpec("small", None, "float32")]
    verdict = verify(specs, [Run([], [big, small])], lambda _: [big, small * 1.01], Tolerance())
    assert not verdict.passed and "output small differs" in verdict.message and "big" not in verdict.message
    assert [entry["passed"] for entry in verdict.outputs] == [True, False]


def test_a_softmax_over_a_thousand_classes_must_be_right():
    logits = np.random.default_rng(0).standard_normal((4, 1000))
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert not check(softmax, np.full_like(softmax, 1e-3)).passed
    assert check(softmax, softmax.astype(np.float32)).passed


@given(st.integers(0, 11), st.sampled_from([np.nan, np.inf, -np.inf]), st.sampled_from([0.5, np.nan, np.inf, -np.inf]))
def test_nan_and_infinities_stand_in_the_same_places(place, expected_value, actual_value):
    expected = np.random.default_rng(1).standard_normal((4, 3))
    actual = expected.copy()
    expected.reshape(-1)[place], actual.reshape(-1)[place] = expected_value, actual_value
    same = np.array_equal(expected, actual, equal_nan=True)
    for a, b in ((expected, actual), (actual, expected)):
        verdict = check(a, b)
        assert verdict.passed is same
        json.dumps(verdict.to_json(), allow_nan=False)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "uint64", "bool"])
def test_integers_and_booleans_are_equal(dtype):
    expected = np.array([[0, 1, 1]], dtype)
    wrong = expected.copy()
    wrong[0, 1] = 0
    assert check(expected, expected, dtype=dtype).passed
    verdict = check(expected, wrong, dtype=dtype)
    assert not verdict.passed and "differs in 1 of 3 values" in verdict.message
    assert not check(expected, np.float32([[0, 1, 1.5]]), dtype=dtype).passed


def test_large_integers_are_not_compared_as_floats():
    assert not check(np.int64([2**60]), np.int64([2**60 + 1])).passed


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64, np.complex64])
def test_other_floats(dtype):
    expected = np.array([[1.0, 2.0]], dtype)
    assert check(expected, expected).passed
    assert not check(expected, expected * np.array(1.5, dtype)).passed


def test_a_lost_imaginary_part_fails():
    assert not check(np.complex64([[1 + 1j]]), np.float32([[1.0]])).passed


def test_text_is_equal_as_bytes_or_str():
    expected = np.array([[b"a", "ö".encode()]], object)
    assert check(expected, np.array([["a", "ö"]], object)).passed
    verdict = check(expected, np.array([["a", "o"]], object))
    assert not verdict.passed and verdict.outputs[0]["max_abs_diff"] is None


@pytest.mark.parametrize("shape", [(3, 4), (12,), (1, 4, 3), (4, 3, 1), (4, 2), ()])
def test_the_shape_is_part_of_the_answer(shape):
    verdict = check(np.ones((4, 3)), np.ones(shape))
    assert not verdict.passed and verdict.message == f"output y has shape {list(shape)} instead of [4, 3]"


def test_the_number_of_outputs_is_part_of_the_answer():
    run = Run([np.zeros((2, 1))], [np.zeros((2, 1))])
    verdict = verify([TensorSpec("y", None, "float32")], [run], lambda _: [], Tolerance())
    assert not verdict.passed and verdict.message == "the file has 0 outputs, the source 1"


def test_every_run_counts():
    runs = [Run([np.full((n, 1), n)], [np.full((n, 1), float(n))]) for n in (1, 3)]
    spec = [TensorSpec("y", None, "float32")]
    verdict = verify(spec, runs, lambda inputs: [inputs[0].astype(float)], Tolerance(), "runtime 1")
    assert verdict.passed and verdict.samples == 4 and verdict.runtime == "runtime 1" and not verdict.weak_evidence
    broken = verify(spec, runs, lambda inputs: [np.ones(inputs[0].shape)], Tolerance())
    assert not broken.passed  # right in the first run only


def test_the_target_cannot_change_the_reference_inputs():
    run = Run([np.ones((1, 2))], [np.ones((1, 2))])

    def target(inputs):
        inputs.clear()
        return [np.ones((1, 2))]

    verify([TensorSpec("y", None, "float32")], [run], target, Tolerance())
    assert len(run.inputs) == 1


def test_the_runtimes_own_errors_pass_through():
    def target(inputs):
        raise RuntimeError("no kernel")

    with pytest.raises(RuntimeError, match="no kernel"):
        verify([TensorSpec("y", None, "float32")], [Run([], [np.ones(1)])], target, Tolerance())
    with pytest.raises(ValueError, match="no runs"):
        verify([], [], target, Tolerance())


def test_figures():
    verdict = check([[1.0, -2.0]], [[1.0, -2.1]])
    (entry,) = verdict.outputs
    assert entry["max_abs_diff"] == pytest.approx(0.1)
    assert entry["mean_abs_diff"] == pytest.approx(0.05)
    assert entry["max_abs_reference"] == 2.0
    assert 0.99 < entry["cosine"] < 1
    assert check([[1.0]], [[-1.0]]).outputs[0]["cosine"] == -1.0
    assert check([[0.0]], [[0.0]]).outputs[0]["cosine"] == 1.0
    assert verdict.message == "output y differs by 0.1, allowed 0.0002 (largest value 2)"
