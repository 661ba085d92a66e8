"""How tensors of two sides are compared when a fault is looked for: on plain functions, without any file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from converter.divergence import comparison as comparing
from converter.divergence.comparison import Comparison, Side
from converter.divergence.computation import Computation, Operator
from converter.divergence.locate import locate
from converter.divergence.sketch import Sketch


class Chain(Computation):
    """Functions of one array, one after the other."""

    def __init__(self, steps: dict) -> None:
        names = list(steps)
        self.inputs, self.outputs = ["x"], [names[-1]]
        self.operators = [
            Operator(name, (source,), (name,)) for source, name in zip(["x", *names], names, strict=False)
        ]
        self._steps, self.runs, self.most = steps, 0, 0

    def values(self, arrays: Sequence[np.ndarray], names: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
        self.runs += 1
        self.most = max(self.most, len(names))
        value = arrays[0]
        yield from (("x", value) for name in names if name == "x")
        for name, step in self._steps.items():
            value = step(value)
            if name in names:
                yield name, value


def compared(source: dict, target: dict, shape: tuple[int, ...] = (2, 3, 40, 50)) -> Comparison:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return Comparison(Side(Chain(source), [x]), Side(Chain(target), [x]), 1e-7)


def test_tensors_are_equal_in_any_order_of_their_axes_and_in_no_other():
    rng = np.random.default_rng(1)
    array = rng.standard_normal((4, 1, 5, 6, 7)).astype(np.float32)
    for other in (array.transpose(3, 0, 4, 2, 1), array.reshape(20, 42), array.transpose(0, 4, 3, 2, 1).reshape(4, -1)):
        difference, _ = Sketch(array).nearest(Sketch(other.copy()))
        assert Sketch(array).may_equal(Sketch(other), 0.0) and difference == 0.0
    mixed = rng.permutation(array.reshape(-1)).reshape(array.shape)
    assert Sketch(array).may_equal(Sketch(mixed), 0.0) and Sketch(array).nearest(Sketch(mixed))[0] > 0.1
    assert not Sketch(array).may_equal(Sketch(array * 1.01), 0.0)


def test_nan_and_infinities_count():
    array = np.random.default_rng(1).standard_normal((30, 40)).astype(np.float32)
    array[3, 4], array[5, 6] = np.nan, np.inf
    assert Sketch(array).may_equal(Sketch(array.T), 0.0) and Sketch(array).nearest(Sketch(array.T.copy()))[0] == 0.0
    source = {"scaled": lambda x: x * 2, "root": lambda x: np.sqrt(np.abs(x)), "shifted": lambda x: x + 1}
    with np.errstate(invalid="ignore"):
        found = locate(compared(source, source | {"root": lambda x: np.sqrt(x)}))
    assert found["operator"] == "root" and found["max_abs_diff"] is None and "NaN" in found["reason"]


def test_one_wrong_value_among_many_is_seen():
    def spoil(x: np.ndarray) -> np.ndarray:
        y = np.tanh(x)
        y[1, 2, 17, 31] += 0.01
        return y

    source = {"scaled": lambda x: x * 2, "tanh": np.tanh, "shifted": lambda x: x + 1}
    found = locate(compared(source, source | {"tanh": spoil}))
    assert found["operator"] == "tanh" and found["max_abs_diff"] == pytest.approx(0.01, abs=1e-6)


def test_what_the_file_fuses_is_one_group_and_what_is_sound_behind_it_is_not_in_doubt():
    source = {
        "scaled": lambda x: x * 2,
        "shifted": lambda x: x + 1,
        "tanh": np.tanh,
        "squared": np.square,
        "last": lambda x: x.sum(-1),
    }
    fused = {"a": lambda x: np.tanh(x * 2 + 1), "b": np.square, "c": lambda x: x.sum(-1)}
    assert locate(compared(source, fused))["operator"] is None  # nothing is wrong
    found = locate(compared(source, fused | {"a": lambda x: np.tanh(x * 2.1 + 1)}))
    assert (found["operator"], found["until"]["operator"], found["target_operator"]) == ("scaled", "tanh", "a")
    assert [entry["operator"] for entry in found["group"]] == ["scaled", "shifted", "tanh"]
    found = locate(compared(source, fused | {"b": np.abs}))
    assert (found["operator"], found["until"]) == ("squared", None)


def test_no_more_than_the_memory_allows_is_held_at_once(monkeypatch):
    steps = {f"step{i}": (lambda x, i=i: np.sin(2 * x + i)) for i in range(12)}
    wrong = steps | {"step7": lambda x: np.sin(2 * x + 7.1)}
    whole = locate(compared(steps, wrong))
    monkeypatch.setattr(comparing, "_MEMORY", 3 * 4 * 12000)  # three tensors
    x = np.random.default_rng(0).standard_normal((2, 3, 40, 50)).astype(np.float32)
    sides = [Side(Chain(each), [x]) for each in (steps, wrong)]
    for side in sides:
        side.computation.most = 0
    assert locate(Comparison(*sides, 1e-7)) == whole and whole["operator"] == "step7"
    assert max(side.computation.most for side in sides) == 3
