"""Inputs that are called lengths get lengths that the model takes."""

import numpy as np
import pytest
import torch
from export_onnx import export_model
from pytorch_hub import import_file

from converter.contracts import ExportJob
from converter.hub.hub import Hub, TensorSpec
from converter.hub.reference import make_reference
from converter.hub.sequence_lengths import sequences_of

NET = """
import torch


class Pooled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 4)

    def forward(self, frames, lengths):
        if not torch.compiler.is_compiling():
            assert lengths.min() >= 1 and lengths.max() {limit} frames.shape[1]
        valid = torch.arange(frames.shape[1]) < lengths[:, None]
        return (self.linear(frames).tanh() * valid[..., None]).sum(1) / lengths[:, None]
"""


@pytest.mark.parametrize("limit", ["<=", "=="])
def test_a_model_that_takes_valid_lengths_only(tmp_path, limit):
    script = tmp_path / "pooled.py"
    script.write_text(NET.format(limit=limit))
    torch.manual_seed(0)
    weights = {"linear.weight": torch.randn(4, 3), "linear.bias": torch.randn(4)}
    torch.save(weights, tmp_path / "pooled.pt")
    hub = import_file(tmp_path / "pooled.pt", tmp_path / "hub", "1,20,3;int64:1", network_script=script)
    runs = Hub.read(hub.path).reference()
    lengths = np.concatenate([run.inputs[1] for run in runs])
    assert lengths.min() < 10 and lengths.max() == 20 and len(set(lengths.tolist())) > 3
    assert {run.kind for run in runs} >= {"typical", "zeros", "negative", "ends of the range"}
    assert hub.unproven is None and hub.evidence["samples_from"] == "seeded"
    result = export_model(hub, ExportJob("converted/p.onnx"), tmp_path / "p.onnx")
    assert result.verification.passed, result.verification.message


def test_each_holds_the_lengths_of_the_input_before_it():
    tokens, sound = TensorSpec("tokens", (None, None), "int64"), TensorSpec("mel", (None, 8, None), "float32")
    lengths = TensorSpec("token_lengths", (None,), "int64"), TensorSpec("mel_lens", (None,), "int32")
    inputs = [tokens, lengths[0], sound, lengths[1]]
    assert [sequences_of(inputs, position) for position in range(4)] == [None, 0, None, 2]
    assert sequences_of([lengths[0], sound], 0) == 1
    # No lengths: as many as there are frames, floats, and what is called otherwise.
    for spec in (
        TensorSpec("lengths", (None, 4), "int64"),
        TensorSpec("lengths", (None,), "float32"),
        TensorSpec("strengths", (None,), "int64"),
    ):
        assert sequences_of([sound, spec], 1) is None


def test_lengths_along_the_last_axis_that_fall():
    def run(arrays):
        sound, lengths = arrays
        if lengths.max() != sound.shape[2] or lengths.min() < 1 or (np.diff(lengths) > 0).any():
            raise ValueError("no lengths of these")
        return [sound[..., 0] * lengths[:, None]]

    runs = make_reference(
        [TensorSpec("sound", (None, 1, 40), "float32"), TensorSpec("lens", (None,), "int64")], True, run
    )
    assert {len(found.inputs[0]) for found in runs} >= {1, 3}
    assert all(found.inputs[1][0] == 40 for found in runs)


@pytest.mark.parametrize("takes_none", [True, False])
def test_lengths_that_hide_all_are_tried(takes_none):
    """As masks that hide all are; a source that takes no such length says so."""

    def run(arrays):
        sound, lengths = arrays
        if lengths.min() < (0 if takes_none else 1) or lengths.max() > sound.shape[1]:
            raise ValueError("no lengths of these")
        seen = np.arange(sound.shape[1]) < lengths[:, None]
        return [np.where(seen, sound, 0).sum(1)]

    inputs = [TensorSpec("sound", (None, 12), "float32"), TensorSpec("lengths", (None,), "int64")]
    runs = make_reference(inputs, True, run)
    assert any((found.inputs[1] == 0).all() for found in runs) is takes_none


def test_what_numbers_rows_is_no_length_whatever_it_is_called():
    table = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    inputs = [TensorSpec("x", (None, 6), "float32"), TensorSpec("len", (None,), "int64")]
    runs = make_reference(
        inputs, True, lambda arrays: [table[arrays[1]] * arrays[0][:, :4]], vocabulary={"len": len(table)}
    )
    assert max(found.inputs[1].max() for found in runs) == 49
