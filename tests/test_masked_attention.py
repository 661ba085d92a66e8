"""Attention whose mask hides a whole row: 0 where PyTorch gives 0, NaN where the model's own softmax gives NaN."""

import math

import numpy as np
import pytest
import torch
from special_hubs import export_to, program_hub
from torch.nn import functional as F

TARGETS = ["onnx-10", "onnx-17", "onnx-18", "tflite", "litert", "keras"]


class Attention(torch.nn.Module):
    """Two heads; `keep` (N, T) says which steps may be seen."""

    def __init__(self, score):
        super().__init__()
        torch.manual_seed(0)
        self.qkv = torch.nn.Linear(8, 24)
        torch.nn.init.normal_(self.qkv.weight, std=0.7)
        self.score = score

    def forward(self, x, keep):
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        return self.score(q, k, v, keep[:, None, None, :]).transpose(1, 2).flatten(2)


def boolean(q, k, v, keep):
    return F.scaled_dot_product_attention(q, k, v, keep)


def additive(q, k, v, keep):
    return F.scaled_dot_product_attention(q, k, v, torch.zeros(keep.shape).masked_fill(~keep, -math.inf))


def own_softmax(q, k, v, keep):
    return (q @ k.transpose(-1, -2)).masked_fill(~keep, -math.inf).softmax(-1) @ v


def samples():
    rng = np.random.default_rng(0)
    keep = np.array([[0, 0, 0, 0, 0], [1, 1, 0, 1, 0], [1, 1, 1, 1, 1]], bool)
    masks = {"typical": keep, "all false": np.zeros((3, 5), bool), "all true": np.ones((3, 5), bool)}
    return {kind: [rng.standard_normal((3, 5, 8)).astype(np.float32), mask] for kind, mask in masks.items()}


@pytest.fixture(scope="module")
def hubs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hubs")
    return {
        f.__name__: program_hub(folder / f.__name__, Attention(f), samples()) for f in (boolean, additive, own_softmax)
    }


@pytest.mark.parametrize("name", ["boolean", "additive", "own_softmax"])
@pytest.mark.parametrize("target", TARGETS)
def test_hidden_rows(tmp_path, hubs, name, target):
    hub = hubs[name]
    hidden = hub.reference()[0].outputs[0][0]
    assert np.isnan(hidden).all() if name == "own_softmax" else not hidden.any()
    result = export_to(hub, target, tmp_path)
    assert result.verification.passed, result.verification.message


class Strictly(torch.nn.Module):
    """Each step sees those before it, by a mask that is part of the model: the first sees none."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.ones(5, 5, dtype=torch.bool).tril(-1))

    def forward(self, x):
        y = x.unflatten(-1, (2, 4)).transpose(1, 2)
        return F.scaled_dot_product_attention(y, y * 2, y + 1, self.mask).transpose(1, 2).flatten(2)


def test_mask_that_is_a_constant(tmp_path):
    x = samples()["typical"][0]
    hub = program_hub(tmp_path / "hub", Strictly(), {"typical": [x]})
    assert not hub.reference()[0].outputs[0][:, 0].any()
    for target in ("onnx-17", "onnx-18", "tflite", "keras"):
        result = export_to(hub, target, tmp_path)
        assert result.verification.passed, result.verification.message


def test_attention_without_hidden_rows_keeps_its_operator():
    """Only masks that may hide a row cost operators of their own."""
    from converter.torch.exact.exact_program import exact_program

    class Causal(Strictly):
        def __init__(self):
            super().__init__()
            self.register_buffer("mask", torch.ones(5, 5, dtype=torch.bool).tril())

    x = (torch.zeros(2, 5, 8),)
    for module, count in ((Causal(), 1), (Strictly(), 0)):
        program = exact_program(torch.export.export(module, x))
        targets = [node.target for node in program.graph.nodes]
        assert targets.count(torch.ops.aten.scaled_dot_product_attention.default) == count
        assert torch.equal(program.module()(*x), module(*x))


class Encoder(torch.nn.Module):
    """A layer that has a fast path in eval mode."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)


class Masked(Encoder):
    def forward(self, x, keep):
        return self.layer(x, src_key_padding_mask=~keep)


class Whole(Encoder):
    def forward(self, x):
        return self.layer(x)


def encoder_hub(folder, cls, shape):
    from pytorch_hub import import_file

    script = folder / "net.py"
    script.write_text(f"from test_masked_attention import {cls.__name__}\n")
    torch.manual_seed(0)
    torch.save(cls().state_dict(), folder / "net.pt")
    return import_file(folder / "net.pt", folder / "hub", shape, network_script=script, network_name=cls.__name__)


def test_fast_path_that_is_switched_off_is_said(tmp_path):
    hub = encoder_hub(tmp_path, Masked, "1,5,8;bool:1,5")
    assert hub.decisions == ["attention without its fast path"]
    assert any("where a mask hides a whole sequence" in note for note in hub.notes)
    assert all(np.isfinite(run.outputs[0]).all() for run in hub.reference())


def test_fast_path_that_makes_no_difference_is_a_note_only(tmp_path):
    hub = encoder_hub(tmp_path, Whole, "1,5,8")
    assert not hub.decisions and any("without the fast path" in note for note in hub.notes)
