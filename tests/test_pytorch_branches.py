"""torch.cond and while_loop: as If and While, and in files that have no branches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from special_hubs import export_to, program_hub
from torch._higher_order_ops.while_loop import while_loop

from converter.errors import UnsupportedError
from converter.tflite.flatbuffer import read, schema
from converter.torch.program.branches import select_branches
from converter.torch.program.eager_program import value_read
from converter.torch.program.hub_program import read_program


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


@pytest.mark.parametrize("target", ["tflite", "keras", "onnx-18"])
def test_all_sides_of_nested_branches(tmp_path, target):
    """Of the side that is not taken the logarithms are NaN, and stay out of the result."""
    hub = program_hub(tmp_path / "hub", Nested(), SIDES, shared_batch=True)
    result = export_to(hub, target, tmp_path)
    assert result.verification.passed, result.verification.message
    assert result.inputs[0].shape[0] is None
    if target == "tflite":
        assert operator_names(tmp_path / "model.tflite").count("IF") == 2


def operator_names(path):
    model = read(path.read_bytes())
    names = {code: name for name, code in vars(schema.BuiltinOperator).items()}
    codes = [names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in model.operatorCodes]
    return [codes[operator.opcodeIndex] for graph in model.subgraphs for operator in graph.operators]


def test_sides_that_are_exchanged_are_found(tmp_path, monkeypatch):
    from converter.torch_to_keras import control_flow

    choice = control_flow.choice
    monkeypatch.setattr(control_flow, "choice", lambda taken, sides, *rest: choice(taken, sides[::-1], *rest))
    hub = program_hub(tmp_path / "hub", Nested(), SIDES, shared_batch=True)
    result = export_to(hub, "tflite", tmp_path)
    assert result.route[-1] == "litert-torch"  # the wrong file was not taken
    assert any(note.startswith("not made by Keras") and "differs" in note for note in result.notes), result.notes


def test_a_choice_that_is_exchanged_is_found(tmp_path, monkeypatch):
    from converter.torch.program import branches

    place = branches.place_graph
    monkeypatch.setattr(
        branches, "place_graph", lambda module, node, part, inputs: place(module, node, node.args[1], inputs)
    )
    hub = program_hub(tmp_path / "hub", Nested(), SIDES, shared_batch=True)
    assert not export_to(hub, "keras", tmp_path).verification.passed


class Halves(torch.nn.Module):
    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda x: x // 2 + x % 3, lambda x: x * 1, (x,))


def test_whole_numbers_divided_by_a_number(tmp_path):
    samples = {"typical": [np.array([[5, 7, -2]] * 2)], "other": [np.array([[-5, -7, 2]])]}
    result = export_to(program_hub(tmp_path / "hub", Halves(), samples, shared_batch=True), "tflite", tmp_path)
    assert result.verification.passed, result.verification.message


WHOLE = np.array([[1, 2, 3]] * 2, np.int32)


@pytest.mark.parametrize(
    ("module", "samples"),
    [
        (LooksUp(), {"typical": [ARRAY, np.array([0, 3])], "other": [ARRAY, np.array([5, 3])]}),
        (Divides(), {"typical": [WHOLE], "other": [WHOLE * np.array([1, 0, -1], np.int32)]}),
    ],
)
def test_sides_that_raise_for_some_values_are_not_computed_in_vain(tmp_path, module, samples):
    hub = program_hub(tmp_path / "hub", module, samples)
    assert "cond" in value_read(select_branches(read_program(hub)))
    with pytest.raises(UnsupportedError, match="cond in forward"):
        export_to(hub, "keras", tmp_path)
    result = export_to(hub, "tflite", tmp_path)
    assert result.verification.passed, result.verification.message
    assert "IF" in operator_names(tmp_path / "model.tflite")


class Grows(torch.nn.Module):
    """Until a norm is reached, but ten times at most; a sum that starts as a constant, and a branch in each round."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, x, limit):
        def goes_on(count, y, total):
            return (count < 10) & (y.abs().max() < limit.max())

        def step(count, y, total):
            y = torch.cond(y.sum() > 0, lambda y: self.linear(y) + y, lambda y: y * 1.5, (y,))
            return count + 1, y, total + y.mean(0)

        start = torch.zeros((), dtype=torch.int64), x, torch.ones(4)
        count, y, total = while_loop(goes_on, step, start)
        return y, total + x * 0, x[:, 0] * 0 + count


@pytest.mark.parametrize("target", ["tflite", "onnx-18", "keras"])
def test_loops_until_the_data_say_so(tmp_path, target):
    limits = np.array([[40.0]], np.float32)
    samples = {
        kind: [array, limits.repeat(len(array), 0)]
        for kind, array in {
            "typical": ARRAY,
            "never": ARRAY * 100,
            "tenth": ARRAY[:2] * 1e-3,
            "some": ARRAY * 9,
        }.items()
    }
    hub = program_hub(tmp_path / "hub", Grows(), samples, shared_batch=True)
    rounds = [run.outputs[2][0] for run in hub.reference()]
    assert rounds[1] == 0 and rounds[2] == 10 and len(set(rounds)) > 3
    if target == "keras":
        with pytest.raises(UnsupportedError, match="while_loop"):
            export_to(hub, target, tmp_path)
        return
    result = export_to(hub, target, tmp_path)
    assert result.verification.passed, result.verification.message
    assert result.inputs[0].shape[0] is None
    if target == "tflite":
        names = operator_names(tmp_path / "model.tflite")
        assert "WHILE" in names and "IF" in names and "FILL" not in names
