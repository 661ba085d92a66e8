"""Special values: the kinds on which conversions go wrong are among the samples, where the source takes them."""

from __future__ import annotations

import numpy as np
import pytest

from converter.hub.hub import Hub, Run, TensorSpec
from converter.hub.informative import typical, vacuous_outputs, write_evidence
from converter.hub.reference import make_reference
from converter.hub.samples import make_inputs, special_kinds
from converter.verification.verify import Tolerance, verify

FLOATS = TensorSpec("x", (None, 40), "float32")
COUNTS = TensorSpec("n", (None, 40), "int32")
MASK = TensorSpec("mask", (None, 6, 5), "bool")


def values(spec: TensorSpec, kind: str, **more: object) -> np.ndarray:
    (array,) = make_inputs([spec], batch=2, sizes=(4, 4), seed=0, kind=kind, **more)
    return array


def test_floats_are_zero_tied_negative_and_large():
    assert not values(FLOATS, "zeros").any()
    halves = values(FLOATS, "halves")
    assert (halves % 0.5 == 0).all() and (halves % 1 != 0).any() and (halves < 0).any()
    assert values(FLOATS, "negative").max() < 0 and values(FLOATS, "very negative").max() < 0
    assert values(FLOATS, "negative").min() > -10 > values(FLOATS, "very negative").min()
    large = np.abs(values(FLOATS, "large"))
    assert large.max() > 3000 and large.min() < 10
    half = np.abs(values(TensorSpec("x", (None, 400), "float16"), "large").astype(np.float64))
    assert half.max() <= 100  # its square is a float16


def test_masks_hide_all_nothing_and_whole_rows():
    assert values(MASK, "all true").all() and not values(MASK, "all false").any()
    rows = values(MASK, "rows hidden").reshape(-1, 5)
    assert (~rows).all(1).any() and rows.all(1).any() and (rows.any(1) & ~rows.all(1)).any()


def test_integers_reach_the_ends_of_their_range_and_indices_those_of_their_table():
    ends = values(COUNTS, "ends of the range", draw="signed")
    assert ends.min() < -1e6 and ends.max() > 1e6 and (ends == -1).any()
    assert set(np.unique(values(COUNTS, "ends of the range", vocabulary={"n": 7}))) == {0, 6}
    assert set(np.unique(values(TensorSpec("b", (None, 40), "uint8"), "ends of the range"))) == {0, 255}


def test_other_inputs_keep_ordinary_values():
    x, mask = make_inputs([FLOATS, MASK], batch=2, sizes=(4, 4), seed=3, kind="all false")
    same, _ = make_inputs([FLOATS, MASK], batch=2, sizes=(4, 4), seed=3)
    assert (x == same).all() and not mask.any()
    kinds = ["zeros", "halves", "positive", "negative", "large", "very negative"]
    assert special_kinds([FLOATS], {}, "signed")[:6] == kinds
    assert special_kinds([COUNTS], {"n": 5}, "counting") == ["ends of the range"]


def reference(spec: TensorSpec, model, **more: object) -> tuple[list[Run], dict]:
    left_out: dict[str, str] = {}
    return make_reference([spec], True, lambda arrays: [model(arrays[0])], left_out=left_out, **more), left_out


def test_negative_integers_show_a_quotient_that_truncates():
    runs, _ = reference(COUNTS, lambda n: n // 3)
    wrong = verify([COUNTS], runs, lambda arrays: [np.trunc(arrays[0] / 3).astype(np.int32)], Tolerance())
    assert not wrong.passed
    assert verify([COUNTS], runs, lambda arrays: [arrays[0] // 3], Tolerance()).passed


def test_halves_show_another_rounding():
    runs, _ = reference(FLOATS, np.round)
    wrong = verify([FLOATS], runs, lambda arrays: [np.floor(arrays[0] + np.float32(0.5))], Tolerance())
    assert not wrong.passed and "on inputs of halves" in wrong.message


def test_large_values_do_not_excuse_a_difference_on_ordinary_ones():
    runs, _ = reference(FLOATS, lambda x: x)
    assert max(np.abs(run.inputs[0]).max() for run in runs) > 1000
    wrong = verify([FLOATS], runs, lambda arrays: [arrays[0] + np.float32(0.01)], Tolerance())
    assert not wrong.passed


def test_a_source_that_takes_no_negative_integers_gets_others():
    def model(n: np.ndarray) -> np.ndarray:
        if (n < 0).any():
            raise ValueError("indices must not be negative")
        return n * 2

    runs, _ = reference(COUNTS, model)
    assert all(run.inputs[0].min() >= 0 for run in runs) and max(run.inputs[0].max() for run in runs) > 1


def test_a_source_that_is_defined_from_zero_to_one_gets_such_values():
    runs, _ = reference(FLOATS, lambda x: x if x.min() >= 0 else np.full_like(x, np.nan))
    assert not vacuous_outputs(runs)
    assert all(run.inputs[0].min() >= 0 and run.inputs[0].max() <= 1 for run in typical(runs))


def test_kinds_that_the_source_refuses_or_that_depend_on_the_last_digit_are_left_out_with_the_reason():
    def model(x: np.ndarray) -> np.ndarray:
        if not x.any():
            raise ZeroDivisionError("all zeros\nmore")
        return np.sin(x.astype(np.float32) * np.float32(1000))

    runs, left_out = reference(FLOATS, model)
    assert {run.kind for run in runs} == {"typical", "halves", "positive"}
    assert left_out["zeros"] == "the source does not take them: all zeros"
    assert "rounding errors show" in left_out["large"] and "rounding errors show" in left_out["negative"]


def test_zeros_on_which_the_sources_own_rounding_shows_are_left_out_and_steps_are_not():
    def normalized(x: np.ndarray) -> np.ndarray:
        """What a sum of equal numbers loses, divided by a deviation that is next to nothing."""
        values = (x + np.float32(0.1)).reshape(-1)
        mean = np.cumsum(values, dtype=np.float32)[-1] / np.float32(values.size)  # one after the other
        return ((values - mean) / np.sqrt(np.square(values - mean).mean() + np.float32(1e-5)) + 1).reshape(x.shape)

    wide = TensorSpec("x", (None, 20000), "float32")
    left_out: dict[str, str] = {}
    make_reference([wide], True, lambda arrays: [normalized(arrays[0])], left_out=left_out)
    assert "rounding errors show" in left_out["zeros"]
    for model in (lambda x: (x > 0).astype(np.float32), lambda x: np.maximum(x, 0) + np.float32(0.1)):
        runs, left_out = reference(FLOATS, model)
        assert "zeros" not in left_out and any(run.kind == "zeros" for run in runs)


def test_very_negative_values_show_a_tail_that_others_do_not():
    """Saturated activations: an exponential that is cut off at -12 differs nowhere else, within the tolerance of each kind."""
    runs, left_out = reference(FLOATS, np.exp)
    assert "very negative" not in left_out

    def cut_off(arrays: list[np.ndarray]) -> list[np.ndarray]:
        return [np.where((arrays[0] < -12) & (arrays[0] > -60), np.float32(1), np.exp(arrays[0]))]

    result = verify([FLOATS], [run for run in runs if run.kind != "large"], cut_off, Tolerance())
    assert "on inputs of very negative" in result.message

    # Which of several saturated numbers is the largest is a matter of rounding.
    _, left_out = reference(FLOATS, lambda x: (1 / (1 + np.exp(x))).argmax(1))
    assert "whole numbers" in left_out["very negative"] and "negative" not in left_out


def chosen(x: np.ndarray) -> list[np.ndarray]:
    """The scores of the best three, and which they are: what ranks, and says nothing of those that are equal."""
    best = np.argsort(-x, axis=1, kind="stable")[:, :3]
    return [np.take_along_axis(x, best, 1) + np.float32(0.1), best]


def test_where_the_source_ranks_only_kinds_whose_order_is_sure_count():
    left_out: dict[str, str] = {}
    runs = make_reference([FLOATS], True, lambda arrays: chosen(arrays[0]), left_out=left_out, ranks=lambda: True)
    assert "equal numbers" in left_out["zeros"] and "equal numbers" in left_out["halves"]
    assert "saturated" in left_out["large"] and "saturated" in left_out["very negative"]
    assert {"positive", "negative"} <= {run.kind for run in runs}
    # Halves of which each is weighted by its place are all different.
    left_out = {}
    weights = np.random.default_rng(0).random(40).astype(np.float32)
    make_reference([FLOATS], True, lambda arrays: chosen(arrays[0] + weights), left_out=left_out, ranks=lambda: True)
    assert "halves" not in left_out and "zeros" not in left_out
    # Of what a step makes equal below zero.
    left_out = {}
    saturated = lambda arrays: chosen(np.maximum(arrays[0], 0) + (arrays[0] > 0) * weights)  # noqa: E731
    make_reference([FLOATS], True, saturated, left_out=left_out, ranks=lambda: True)
    assert "equal numbers" in left_out["negative"] and "positive" not in left_out
    # The same without ranks: zeros and halves count, as rounding does not decide there.
    _, left_out = reference(FLOATS, lambda x: np.round(x))
    assert not {"zeros", "halves"} & left_out.keys()
    # Classes as floats are equal without being ranked.
    left_out = {}
    classes = lambda arrays: [arrays[0] * weights + weights, np.float32(1) + (arrays[0] > 0.75)]  # noqa: E731
    make_reference([FLOATS], True, classes, left_out=left_out, ranks=lambda: True)
    assert "halves" not in left_out


def test_special_values_of_images_come_in_small_ones():
    """Where the size is free; a source that takes no small ones, or says nothing of them, gets larger ones."""
    image = TensorSpec("image", (None, None, None, 3), "float32")
    pixels = lambda runs: {run.inputs[0].shape[1:3] for run in runs if run.kind != "typical"}  # noqa: E731
    runs, _ = reference(image, lambda x: x * 2)
    assert pixels(runs) == {(32, 64)} and {run.inputs[0].shape[1] for run in typical(runs)} == {64, 96}

    def large_only(x: np.ndarray) -> np.ndarray:
        if min(x.shape[1:3]) < 64:
            raise ValueError("too small")
        return x * 2

    assert pixels(reference(image, large_only)[0]) == {(64, 96)}
    assert pixels(reference(image, lambda x: x[:, 16:, 16:])[0]) == {(32, 64)}
    fixed = TensorSpec("image", (None, 64, 96, 3), "float32")
    assert pixels(reference(fixed, lambda x: x * 2)[0]) == {(64, 96)}


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        (np.full((3, 4), np.nan, np.float32), "NaN or infinite everywhere"),
        (np.full((3, 4), np.inf, np.float32), "NaN or infinite everywhere"),
        (np.zeros((3, 0), np.float32), "empty"),
        (np.full((3, 4), 2.5, np.float32), "2.5 everywhere"),
        (np.ones((3,), bool), "True everywhere"),
    ],
)
def test_answers_that_say_nothing_leave_the_hub_unproven(tmp_path, outputs, text):
    spec = TensorSpec("y", outputs.shape, outputs.dtype.name)
    hub = Hub(tmp_path, inputs=[FLOATS], outputs=[spec])
    write_evidence(hub, [Run([np.ones((3, 40), np.float32)], [outputs])] * 2, {})
    assert f"output y is {text}" in hub.unproven and "verify.inputs" in hub.unproven
    assert hub.evidence["vacuous_outputs"] == {"y": text}


def test_one_answer_that_says_something_is_enough_and_the_others_are_named(tmp_path):
    specs = [TensorSpec("y", (3, 4), "float32"), TensorSpec("count", (1,), "int64")]
    hub = Hub(tmp_path, inputs=[FLOATS], outputs=specs)
    runs = [
        Run([np.ones((3, 40), np.float32)], [np.arange(12, dtype=np.float32).reshape(3, 4), np.array([100])])
        for _ in range(2)
    ]
    write_evidence(hub, runs, {"large": "..."})
    assert hub.unproven is None and hub.decisions == ["output count is 100 everywhere in the source too"]
    assert hub.evidence["left_out"] == {"large": "..."}
    assert Hub(tmp_path, inputs=[FLOATS], outputs=specs).reference()[1].kind == "typical"


def test_a_single_number_says_something():
    assert vacuous_outputs([Run([], [np.array(0.5)])]) == []


def test_masks_of_whole_numbers_hide_all_and_nothing():
    """What stays below 2 may be a mask: whole rows of it are hidden and shown, beside random ones."""
    mask = TensorSpec("attention_mask", (None, 5), "int64")
    runs = make_reference([mask], True, lambda a: [a[0].sum(1) + 0.5], vocabulary={"attention_mask": 2})
    rows = {tuple(row) for run in runs for row in run.inputs[0].tolist()}
    assert {(0,) * 5, (1,) * 5} < rows and all(run.inputs[0].dtype == np.int64 for run in runs)
    (hidden,) = (run for run in runs if run.kind == "rows hidden")
    assert {0, 5} <= set(hidden.inputs[0].sum(1).tolist())
