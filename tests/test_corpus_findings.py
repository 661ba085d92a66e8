"""What the corpus of models found, each as the smallest network that has it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pytorch_hub import import_file
from safetensors.torch import save_file
from special_hubs import export_to

from converter.torch.program.hub_program import read_program
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
