"""What a PyTorch import says about its own reference: what it exercises, and what it would notice last."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_hub import import_file
from torch import nn

from converter.evidence.torch_gradients import TorchProbe
from converter.evidence.weakest import perturbed
from converter.hub.hub import Hub
from converter.verification.verify import Tolerance


def program(folder: Path, module: nn.Module, *example: torch.Tensor, dynamic: bool = True, name: str = "m") -> Path:
    """An exported program, which needs no class to be opened."""
    batch = torch.export.Dim("batch")
    shapes = tuple({0: batch} for _ in example) if dynamic else None
    path = folder / f"{name}.pt2"
    torch.export.save(torch.export.export(module.eval(), example, dynamic_shapes=shapes), path)
    return path


def program_hub(folder: Path, module: nn.Module, *example: torch.Tensor, **options) -> Hub:
    return import_file(program(folder, module, *example, **options), folder / "hub", network_script=None, trusted=True)


def seeded(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in module.parameters():
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return module


def test_units_that_never_fire_and_their_weights_are_counted(tmp_path: Path):
    module = seeded(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)))
    with torch.no_grad():
        module[0].bias.copy_(torch.tensor([-1e9, 0.1, 0.1, 0.1]))
    hub = program_hub(tmp_path, module, torch.randn(2, 1, 4, 4))
    assert hub.coverage["stuck"] == 0.25
    # A quarter of the convolution, and of what the Linear reads.
    assert hub.coverage["weights"] == pytest.approx(1 - (10 + 8) / (40 + 34), abs=1e-4)
    assert {entry["tensor"]: entry["share"] for entry in hub.coverage["without_influence"]} == {
        "0.weight": 0.25,
        "0.bias": 0.25,
        "3.weight": 0.25,
    }


class Lookup(nn.Module):
    def __init__(self, rows: int, tied: bool = False) -> None:
        super().__init__()
        self.table, self.tied = nn.Embedding(rows, 4), tied

    def forward(self, words):
        found = self.table(words).mean(1)
        return found @ self.table.weight.T if self.tied else torch.sin(found)


def test_samples_are_added_until_every_row_of_a_table_was_looked_up(tmp_path: Path):
    module = seeded(Lookup(300))
    hub = program_hub(tmp_path, module, torch.zeros(2, 5, dtype=torch.int64))
    assert hub.coverage["rows"] == 1.0 and hub.coverage["weights"] is None
    runs = hub.reference()
    assert set(np.concatenate([run.inputs[0].reshape(-1) for run in runs])) == set(range(300))
    assert sum(len(run.inputs[0]) for run in runs) == hub.coverage["samples"]
    for run in runs:
        np.testing.assert_allclose(
            run.outputs[0], module(torch.from_numpy(run.inputs[0])).detach(), rtol=1e-5, atol=1e-6
        )


def test_a_table_that_is_also_multiplied_counts_as_weights(tmp_path: Path):
    hub = program_hub(tmp_path, seeded(Lookup(30, tied=True)), torch.zeros(2, 5, dtype=torch.int64))
    assert hub.coverage["rows"] is None and hub.coverage["weights"] == 1.0


class Branch(nn.Module):
    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold
        self.first, self.second, self.third = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        y = self.first(x)
        return torch.cond(y.sum() > self.threshold, lambda a: self.second(a), lambda a: self.third(a), (y,))


def test_sides_of_a_branch_are_counted(tmp_path: Path):
    one = program_hub(tmp_path, seeded(Branch(1e6)), torch.randn(1, 4), dynamic=False)
    assert (
        one.coverage["branches"] == 0.5
        and one.coverage["below"] == ["weights", "branches"]
        or one.coverage["weights"] > 0.5
    )
    assert "branches" in one.coverage["below"]
    names = {entry["tensor"]: entry["share"] for entry in one.coverage["without_influence"]}
    assert names == {"second.weight": 1.0, "second.bias": 1.0}
    (tmp_path / "both").mkdir()
    both = program_hub(tmp_path / "both", seeded(Branch(0.0)), torch.randn(1, 4), dynamic=False)
    assert both.coverage["branches"] == 1.0 and both.coverage["below"] == [] and both.coverage["weights"] == 1.0


class Parts(nn.Module):
    """A part that is multiplied by zero, one behind detach(), one weak, one strong."""

    def __init__(self) -> None:
        super().__init__()
        self.dead, self.detached, self.weak, self.strong = (nn.Linear(8, 3, bias=False) for _ in range(4))

    def forward(self, x):
        return self.strong(x) + 1e-3 * self.weak(x) + self.detached(x).detach() + 0 * self.dead(x)


def test_weights_without_influence_and_those_that_no_gradient_reaches(tmp_path: Path):
    hub = program_hub(tmp_path, seeded(Parts()), torch.randn(2, 8))
    assert hub.coverage["without_influence"] == [{"tensor": "dead.weight", "share": 1.0}]
    assert hub.coverage["weights"] == 0.75
    assert "2 weights that no gradient reaches were changed" in hub.coverage["method"]


def test_the_weakest_weight_is_noticed_from_the_stated_change_on(tmp_path: Path):
    module = seeded(Parts())
    hub = program_hub(tmp_path, module, torch.randn(2, 8))
    entry = hub.weakest[0]
    assert entry["tensor"] == "weak.weight" and entry["method"].endswith("measured")
    stated = entry["smallest_change_noticed"]
    assert 0.01 < stated < 1
    assert _noticed(hub, module, "weak", stated) and not _noticed(hub, module, "weak", stated * 0.7)
    assert not _noticed(hub, module, "weak", 0.01) and _noticed(hub, module, "strong", 0.01)


def _noticed(hub: Hub, module: nn.Module, part: str, change: float) -> bool:
    changed = copy.deepcopy(module)
    weight = getattr(changed, part).weight
    with torch.no_grad():
        weight.copy_(torch.from_numpy(perturbed(weight.detach().numpy(), change, f"{part}.weight")))
    runs = hub.reference()[:2]
    with torch.no_grad():
        results = [changed(torch.from_numpy(run.inputs[0])).numpy() for run in runs]
    worst = max(float(np.abs(a - run.outputs[0]).max()) for a, run in zip(results, runs, strict=True))
    return worst > Tolerance().of(max(float(np.abs(run.outputs[0]).max()) for run in runs))


class Normalized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.plain, self.affine = nn.BatchNorm2d(3, affine=False), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.affine(torch.tanh(self.plain(x)))


def test_mean_and_variance_of_a_normalization_have_influence(tmp_path: Path):
    module = Normalized()
    for part in (module.plain, module.affine):
        part.running_mean.copy_(torch.rand(3) + 0.5)
        part.running_var.copy_(torch.rand(3) + 0.5)
    hub = program_hub(tmp_path, module, torch.randn(2, 3, 4, 4))
    assert hub.coverage["weights"] == 1.0 and "whole" not in hub.coverage["method"]


class Largest(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 5)

    def forward(self, x):
        return self.linear(x).argmax(1)


def test_a_whole_number_output_counts_by_what_it_is_taken_from(tmp_path: Path):
    hub = program_hub(tmp_path, seeded(Largest()), torch.randn(2, 4))
    assert hub.coverage["weights"] == 1.0 and "whole numbers" in hub.coverage["method"]


class Steps(nn.Module):
    """Python code that depends on the data: torch.export cannot follow it, TorchScript can."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.other = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        y = torch.relu(self.linear(x))
        if bool(y.sum() > -1.0):
            return y * 2
        return self.other(y)


def test_torchscript_is_differentiated_too(tmp_path: Path):
    path = tmp_path / "m.pt"
    torch.jit.script(seeded(Steps())).save(path)
    hub = import_file(path, tmp_path / "hub", "1,4", network_script=None)
    assert hub.extra["form"] == "torchscript"
    names = {entry["tensor"]: entry["share"] for entry in hub.coverage["without_influence"]}
    assert names.pop("other.weight") == 1.0 and names.pop("other.bias") == 1.0
    assert "TorchScript's branches" in hub.coverage["method"] and hub.coverage["stuck"] is not None


def test_recurrent_layers_are_differentiated(tmp_path: Path):
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.LSTM(3, 4, batch_first=True, bidirectional=True)

        def forward(self, x):
            return self.layer(x)[0]

    hub = program_hub(tmp_path, seeded(Recurrent()), torch.randn(2, 5, 3))
    assert hub.coverage["weights"] == 1.0 and "whole" not in hub.coverage["method"]


def test_the_same_source_gives_the_same_figures_and_samples(tmp_path: Path):
    module = seeded(nn.Sequential(nn.Embedding(99, 4), nn.Conv1d(5, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 9)))
    path = program(tmp_path, module, torch.zeros(2, 5, dtype=torch.int64))
    first, second = (import_file(path, tmp_path / name, network_script=None, trusted=True) for name in ("a", "b"))
    assert first.coverage["samples_added"] > 0
    assert json.dumps([first.coverage, first.weakest]) == json.dumps([second.coverage, second.weakest])
    assert (first.path / "reference.npz").read_bytes() == (second.path / "reference.npz").read_bytes()


def test_a_model_that_cannot_be_differentiated_is_imported_all_the_same(tmp_path: Path, monkeypatch, capsys):
    def fail(*args: object) -> None:
        raise RuntimeError("no derivative of foo\nmore")

    monkeypatch.setattr(TorchProbe, "observe", fail)
    hub = program_hub(tmp_path, seeded(nn.Linear(3, 2)), torch.randn(2, 3))
    assert len(hub.reference()) >= 2
    assert hub.coverage["method"] == "none" and hub.coverage["reason"] == "RuntimeError: no derivative of foo"
    assert hub.coverage["weights"] is None and hub.weakest == []
    assert "Traceback" in capsys.readouterr().err


def test_a_model_without_weights_says_so(tmp_path: Path):
    hub = program_hub(tmp_path, nn.ReLU(), torch.randn(2, 3))
    assert hub.coverage["method"] == "none" and hub.coverage["reason"] == "the model has no floating weights"


def test_the_module_is_as_it_was(tmp_path: Path):
    module = seeded(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    module[0].weight.requires_grad_(False)
    traced = torch.export.export(module, (torch.randn(2, 4),)).module(check_guards=False)
    probe = TorchProbe(traced)
    changed = {"0.weight": perturbed(probe.weights["0.weight"], 0.5, "0.weight")}
    x = np.ones((2, 4), np.float32)
    assert not np.allclose(probe.outputs([x], changed)[0], probe.outputs([x], {})[0])
    for name, tensor in traced.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert not any(tensor.grad is not None for tensor in traced.parameters())
