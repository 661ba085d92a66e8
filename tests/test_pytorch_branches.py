"""torch.cond in files that have no branches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from special_hubs import export_to, program_hub

from converter.errors import UnsupportedError
from converter.torch.program.branches import select_branches
from converter.torch.program.eager_program import value_read


class Nested(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, x):
        first, second = torch.cond(x.sum() > 0, self.positive, self.negative, (x,))
        return first + 1, second

    def positive(self, x):
        return self.linear(x), x * 2

    def negative(self, x):
        return x.log(), torch.cond(x.max() > 0.5, lambda y: y + 3, lambda y: y * y, (x,))


class LooksUp(torch.nn.Module):
    """One side would read behind the end of its table where the other is taken."""

    def forward(self, x, index):
        return torch.cond(index.max() < 4, lambda x, i: x[:, i], lambda x, i: x[:, i * 0], (x, index))


class Divides(torch.nn.Module):
    def forward(self, x):
        return torch.cond((x != 0).all(), lambda x: 12 // x, lambda x: x * 1, (x,))


ARRAY = np.random.default_rng(0).uniform(-1, 1, (3, 4)).astype(np.float32)
SIDES = {
    "typical": [abs(ARRAY)],
    "one": [-abs(ARRAY) * 0.4],
    "other": [-abs(ARRAY) - 0.1 + np.eye(3, 4, dtype=np.float32)],
}


@pytest.mark.parametrize("target", ["tflite", "keras", "onnx"])
def test_all_sides_of_nested_branches(tmp_path, target):
    """Of the side that is not taken the logarithms are NaN, and stay out of the result."""
    hub = program_hub(tmp_path / "hub", Nested(), SIDES, shared_batch=True)
    result = export_to(hub, target, tmp_path)
    assert result.verification.passed, result.verification.message
    assert result.inputs[0].shape[0] is None


def test_a_choice_that_is_exchanged_is_found(tmp_path, monkeypatch):
    from converter.torch.program import branches

    place = branches.place_graph
    monkeypatch.setattr(
        branches, "place_graph", lambda module, node, part, inputs: place(module, node, node.args[1], inputs)
    )
    hub = program_hub(tmp_path / "hub", Nested(), SIDES, shared_batch=True)
    assert not export_to(hub, "tflite", tmp_path).verification.passed


class Halves(torch.nn.Module):
    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda x: x // 2 + x % 3, lambda x: x * 1, (x,))


def test_whole_numbers_divided_by_a_number(tmp_path):
    samples = {"typical": [np.array([[5, 7, -2]] * 2)], "other": [np.array([[-5, -7, 2]])]}
    result = export_to(program_hub(tmp_path / "hub", Halves(), samples, shared_batch=True), "tflite", tmp_path)
    assert result.verification.passed, result.verification.message


@pytest.mark.parametrize(
    ("module", "arrays"), [(LooksUp(), [ARRAY, np.array([0, 3])]), (Divides(), [np.array([[1, 2, 3]] * 2)])]
)
def test_sides_that_raise_for_some_values_are_not_computed_in_vain(tmp_path, module, arrays):
    program = torch.export.export(module, tuple(map(torch.from_numpy, arrays)), strict=False)
    assert "cond" in value_read(select_branches(program))
    with pytest.raises(UnsupportedError, match="cond in forward"):
        export_to(program_hub(tmp_path / "hub", module, {"typical": arrays}), "tflite", tmp_path)
