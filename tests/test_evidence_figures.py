"""The parts of the evidence that know no framework: changes of weights, samples of tables' rows, shares, bounds."""

from __future__ import annotations

import numpy as np
import pytest

from converter.evidence.bounds import below
from converter.evidence.probe import Observation, projection, sample
from converter.evidence.samples import draw_of, more_inputs, rows_for_tables
from converter.evidence.tally import Tally
from converter.evidence.weakest import perturbed
from converter.hub.hub import Run, TensorSpec


class Weights:
    """As much of a probe as the tally needs."""

    tables: dict[str, int] = {"table": 4}  # noqa: RUF012
    weights = {"w": np.float32([[1, 2], [0, 4]]), "zeros": np.zeros(3, np.float32), "table": np.ones((4, 2))}  # noqa: RUF012


def test_a_change_is_a_share_of_each_value():
    array = np.float32([[1, -2, 0], [np.inf, 4, -np.inf]])
    changed = perturbed(array, 0.25, "w")
    finite = np.isfinite(array)
    assert set(np.abs(changed[finite] / np.where(array[finite] == 0, 1, array[finite]))) <= {0.75, 1.25, 0}
    np.testing.assert_array_equal(changed[~finite], array[~finite])
    np.testing.assert_array_equal(changed, perturbed(array, 0.25, "w"))
    assert (
        changed.dtype == np.float32 and (perturbed(np.ones(64), 0.25, "a") != perturbed(np.ones(64), 0.25, "b")).any()
    )
    assert set(np.abs(perturbed(np.zeros(5, np.float16), 0.5, "z"))) == {0.5}
    assert perturbed(np.float32(3), 0.5, "scalar") in (1.5, 4.5)


def test_influence_is_what_moves_an_output_by_a_thousandth_of_its_tolerance():
    tally = Tally(Weights())
    gradient = np.float32([[1, 0], [2.6e-4, 2.4e-4]])  # times 4, the largest value of the weight
    tally.add(Observation({"w": (gradient, Weights.weights["w"]), "zeros": (np.float32([0, 1, np.nan]), np.zeros(3))}))
    assert tally.figures()["weights"] == round(3 / 7, 4)
    assert tally.without_influence() == [{"tensor": "w", "share": 0.5}, {"tensor": "zeros", "share": 0.6667}]
    tally.add(Observation({"w": (np.float32([[0, 1], [0, 0]]), Weights.weights["w"])}))
    assert tally.figures()["weights"] == round(4 / 7, 4), "influence adds up over the runs"


def test_rows_sides_and_stuck_channels_add_up_over_the_runs():
    tally = Tally(Weights())
    assert tally.figures() == {"weights": None, "rows": None, "branches": None, "stuck": None}
    ranges = {
        "r": ("relu", np.float32([0, 0, 0]), np.float32([0, 0, 1])),
        "s": ("sigmoid", np.float32([0]), np.float32([1e-4])),
    }
    tally.add(Observation(rows={"table": np.array([1, 1])}, sides={"b": [(0, 2)]}, ranges=ranges))
    assert tally.figures() == {"weights": None, "rows": 0.25, "branches": 0.5, "stuck": 0.75}
    more = {
        "r": ("relu", np.float32([0, 0, 0]), np.float32([2, 0, 0])),
        "s": ("sigmoid", np.float32([0.5]), np.float32([0.5])),
    }
    tally.add(Observation(rows={"table": np.array([3])}, sides={"b": [(1, 2)]}, ranges=more))
    assert tally.figures() == {"weights": None, "rows": 0.5, "branches": 1.0, "stuck": 0.25}
    np.testing.assert_array_equal(tally.untouched()["table"], [0, 2])


def test_added_samples_take_each_row_of_a_table_once():
    specs = [TensorSpec("words", (None, 5), "int64"), TensorSpec("x", (None, 3), "float32")]
    like = Run([np.zeros((1, 5), np.int64), np.zeros((1, 3), np.float32)], [])
    assert rows_for_tables(specs, like, {"words": 52}) == 11
    parts = [
        more_inputs(specs, like, rows, {"words": 52}, index, start)
        for index, (rows, start) in enumerate([(6, 0), (5, 6)])
    ]
    words = np.concatenate([words.reshape(-1) for words, _ in parts])
    assert len(words) == 55 and set(words) == set(range(52))
    assert [x.shape for _, x in parts] == [(6, 3), (5, 3)]
    assert (parts[0][1] >= 0).all() and (parts[1][1] < 0).any(), "unsigned and signed by turns"
    fixed = more_inputs(specs, like, None, {"words": 52}, 0, 0)
    assert fixed[0].shape == (1, 5)


@pytest.mark.parametrize(
    ("ints", "floats", "draw"),
    [
        ([-3, 1], [-1, 2], "signed"),
        ([0, 7], [-1, 2], "counting"),
        ([0, 1], [-1, 2], "binary"),
        ([0, 7], [0.2, 0.9], "unit"),
    ],
)
def test_added_samples_are_drawn_as_the_others(ints: list, floats: list, draw: str):
    specs = [TensorSpec("n", (2,), "int64"), TensorSpec("x", (2,), "float32"), TensorSpec("word", (2,), "int64")]
    run = Run([np.array(ints), np.float32(floats), np.array([0, 1])], [])
    assert draw_of(specs, [run], {"word": 3}) == draw


@pytest.mark.parametrize("shape", [(3,), (1 << 20,), (4096, 2, 700), (3, 3, 512, 512)])
def test_a_sample_of_a_weight_is_small_and_spread_over_it(shape: tuple[int, ...]):
    kept = np.empty(shape, np.int8)[sample(shape)]
    assert kept.size <= 1 << 18 and kept.size >= min(np.prod(shape), 1 << 16)


def test_signs_are_seeded_and_leave_out_what_is_not_finite():
    array = np.float32([1, np.nan, np.inf, 2, 3, 4, 5, 6])
    signs = projection(array, 3.0, 0)
    np.testing.assert_array_equal(signs == 0, ~np.isfinite(array))
    assert set(signs[np.isfinite(array)]) == {3.0, -3.0}
    np.testing.assert_array_equal(signs, projection(array, 3.0, 0))


def test_what_was_not_looked_at_may_have_added_as_much():
    shares = {"weights": 0.2, "rows": None, "branches": 0.5, "stuck": 1.0}
    assert below({**shares, "samples": 4, "samples_looked_at": 4}) == ["weights", "branches"]
    assert below({**shares, "samples": 4, "samples_looked_at": 1}) == []
    assert below({**shares, "weights": 0.1, "samples": 4, "samples_looked_at": 1}) == ["weights"]
