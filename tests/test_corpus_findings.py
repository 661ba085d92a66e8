"""What the corpus of models found, each as the smallest network that has it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pytorch_hub import import_file
from safetensors.torch import save_file
from special_hubs import export_to

from converter.torch.huggingface.inputs import usual_inputs
from converter.torch.program import source_lines
from converter.torch.program.hub_program import read_program
from converter.torch.program.source_lines import model_lines
from converter.verification.runtimes import OnnxModel

SCRIPT = '''
import torch


class Tables(torch.nn.Module):
    """Weights of two types, which one file holds side by side (GroupViT's position numbers)."""

    def __init__(self):
        super().__init__()
        self.register_buffer("order", torch.zeros(1, 5, dtype=torch.int64))
        self.table = torch.nn.Embedding(7, 3)
        self.scale = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return x @ self.table(self.order[:, : x.shape[1]])[0].T[: x.shape[-1]] * self.scale


class Shifted(torch.nn.Module):
    """Each row moved to the right behind its last word, as mBART's decoder begins: squeeze() of no certain axis."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(9, 4)

    def forward(self, ids):
        moved = ids.clone()
        last = (moved.ne(1).sum(dim=1) - 1).unsqueeze(-1)
        start = moved.gather(1, last).squeeze()
        moved[:, 1:] = moved[:, :-1].clone()
        moved[:, 0] = start
        return self.table(moved)


class Carried(torch.nn.Module):
    """A product with zeros of the batch's size, as linear attention begins its state (MiniMax)."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(6, 6)

    def forward(self, x):
        state = torch.zeros(x.shape[0], 6, 4)
        return torch.cat([torch.matmul(self.linear(x), state), torch.matmul(x, state + 0.5)], -1)


class Regrouped(torch.nn.Module):
    """Heads joined in other groups than attention had, and rows behind that whose number the values say (JetMoe)."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 96)

    def forward(self, x):
        q, k, v = self.linear(x).view(*x.shape[:2], 3, 4, 8).permute(2, 0, 3, 1, 4)
        seen = (x.sum(-1) > 0)[:, None, None] | torch.eye(x.shape[1], dtype=torch.bool)
        heads = torch.nn.functional.scaled_dot_product_attention(q, k, v, seen).transpose(1, 2).contiguous()
        groups = heads.view(*x.shape[:2], 2, 16)
        return groups.flatten(0, 2)[(x.sum(-1) > 0).flatten().repeat(2)]


class Checked(torch.nn.Module):
    """A number that is read of the values and only checked (Flaubert)."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)

    def forward(self, x):
        lengths = (x > 0).sum(1)
        assert lengths.max().item() <= x.shape[1]
        return self.linear(x) * (lengths.sum(1) + 1)[:, None, None]
'''


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "networks.py"
    path.write_text(SCRIPT)
    return path


def hub_of(tmp_path, script, name, shape):
    scope: dict = {}
    exec(SCRIPT, scope)
    torch.manual_seed(0)
    module = scope[name]().eval()
    state = {key: value.clone() for key, value in module.state_dict().items()}
    for key in ("order", "scale"):
        if key in state:
            state[key] = torch.arange(5)[None] if key == "order" else torch.tensor(1.5)
    save_file(state, tmp_path / f"{name}.safetensors")
    module.load_state_dict(state)
    source = tmp_path / f"{name}.safetensors"
    return import_file(source, tmp_path / "hub", shape, network_script=script, network_name=name), module


@pytest.mark.parametrize("target", ["onnx", "tflite", "keras"])
def test_weights_of_two_types_in_one_file(tmp_path, script, target):
    hub, _ = hub_of(tmp_path, script, "Tables", "-1,5,3")
    assert export_to(hub, target, tmp_path).verification.passed
    program = read_program(hub)
    assert {tensor.dtype for tensor in program.state_dict.values()} == {torch.float32, torch.int64}


@pytest.mark.parametrize("target", ["onnx", "tflite", "keras"])
def test_squeeze_where_the_batch_may_vary(tmp_path, script, target):
    hub, module = hub_of(tmp_path, script, "Shifted", "int64:-1,-1")
    assert export_to(hub, target, tmp_path).verification.passed
    if target == "onnx":
        (path,) = tmp_path.glob("*.onnx")
        for rows in (1, 2, 8):
            ids = np.random.default_rng(rows).integers(0, 4, (rows, 6))
            expected = module(torch.from_numpy(ids)).detach().numpy()
            np.testing.assert_allclose(OnnxModel(path).run([ids])[0], expected, rtol=1e-5)


@pytest.mark.parametrize("target", ["onnx", "tflite", "keras"])
def test_products_with_numbers_of_the_batchs_size(tmp_path, script, target):
    hub, _ = hub_of(tmp_path, script, "Carried", "-1,3,6")
    assert export_to(hub, target, tmp_path).verification.passed


def test_views_of_what_attention_lays_out(tmp_path, script):
    hub, module = hub_of(tmp_path, script, "Regrouped", "-1,-1,8")
    assert export_to(hub, "onnx", tmp_path).verification.passed
    (path,) = tmp_path.glob("*.onnx")
    x = np.random.default_rng(1).standard_normal((3, 7, 8)).astype(np.float32)
    expected = module(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(OnnxModel(path).run([x])[0], expected, atol=1e-5)


def test_numbers_that_are_only_checked(tmp_path, script):
    hub, _ = hub_of(tmp_path, script, "Checked", "-1,5,3")
    for target in ("onnx", "tflite", "keras"):
        assert export_to(hub, target, tmp_path).verification.passed


class Positions(torch.nn.Module):
    """A table of positions for 40 words, where padding (1) counts for nothing: longer texts pass if some of it is padding."""

    def __init__(self, grows):
        super().__init__()
        self.config = SimpleNamespace(vocab_size=50, pad_token_id=1)
        self.words = torch.nn.Embedding(50, 4)
        self.places = torch.nn.Embedding(40, 4)
        self.grows = grows

    def forward(self, input_ids):
        places = (input_ids != 1).cumsum(1)
        if self.grows and input_ids.shape[1] >= len(self.places.weight):
            self.places.weight = torch.nn.Parameter(torch.zeros(input_ids.shape[1] + 1, 4))
        return self.words(input_ids) + self.places(places)


@pytest.mark.parametrize("grows", [False, True])
def test_lengths_that_the_table_of_positions_holds(tmp_path, grows, monkeypatch):
    model = Positions(grows)
    weight = model.places.weight
    # 39 words and a padding among 64: what a text of random words may look like.
    ids = torch.ones(2, 64, dtype=torch.int64)
    ids[:, :39] = 3
    drawn = torch.randint
    monkeypatch.setattr(
        torch,
        "randint",
        lambda low, high, size, **more: ids if list(size) == [2, 64] else drawn(low, high, size, **more),
    )
    found, length = usual_inputs(model, tmp_path, {}, "usual")
    assert length == 32
    assert [spec.name for spec in found.specs] == ["input_ids"]
    assert model.places.weight is weight


def test_lines_are_the_librarys_where_it_defines_the_model():
    stack = (
        'File "/site-packages/torch/nn/modules/module.py", line 5, in __call__\n'
        'File "/v/lib/site-packages/transformers/models/x/modeling_x.py", line 7, in forward\n'
        'File "/v/lib/site-packages/torch/functional.py", line 9, in einsum\n'
    )
    assert model_lines(stack) == [("/v/lib/site-packages/transformers/models/x/modeling_x.py", "7", "forward")]
    assert model_lines(f'File "net.py", line 3, in forward\n{stack}') == [("net.py", "3", "forward")]
    own = Path(source_lines.__file__).with_name("tracing.py")
    assert model_lines(f'File "{own}", line 3, in forward\n{stack}')[-1][1] == "7"
