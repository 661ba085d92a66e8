"""Recurrent layers over sequences whose length may vary: kept as exported programs, and right at lengths never traced."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pytorch_hub import import_file, network, saved

from converter.contracts import ExportJob
from converter.torch.extensions.exported_recurrence import followable_recurrence
from converter.torch.keras.export import export as export_keras
from converter.torch.onnx.export import export as export_onnx
from converter.torch.tflite.export import export as export_tflite
from converter.verification.runtimes import KerasModel, OnnxModel, TFLiteModel

AUTO = torch.export.Dim.AUTO


class TimeFirst(torch.nn.Module):
    def __init__(self, kind, bidirectional):
        super().__init__()
        self.rnn = getattr(torch.nn, kind)(5, 4, 2, bidirectional=bidirectional)

    def forward(self, x):
        return self.rnn(x)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_length_stays_free_in_the_program(kind, bidirectional):
    module = TimeFirst(kind, bidirectional).eval()
    with followable_recurrence():
        program = torch.export.export(
            module, (torch.ones(6, 3, 5),), dynamic_shapes=({0: AUTO, 1: AUTO},), strict=False
        )
        again = program.run_decompositions({})
    for x in (torch.randn(9, 2, 5), torch.randn(2, 7, 5)):
        for made in (program, again):
            found, expected = made.module(check_guards=False)(x), module(x)
            torch.testing.assert_close(found[0], expected[0])
    assert not isinstance(program.graph_signature and _shape(program)[0], int)


def _shape(program):
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    return values[program.graph_signature.user_outputs[0]].shape


def test_torch_has_its_own_ways_again_afterwards():
    before = dict(torch.ops.aten.lstm.input.py_kernels)
    with followable_recurrence():
        assert torch.ops.aten.lstm.input.py_kernels != before
    assert torch.ops.aten.lstm.input.py_kernels == before


@pytest.mark.parametrize("rnn", ["LSTM", "GRU"])
def test_every_target_takes_other_lengths(tmp_path, rnn):
    hub = import_file(saved(tmp_path, "Tokens", rnn=rnn), tmp_path / "hub", "-1,-1")
    assert hub.extra["form"] == "exported"
    tokens = np.random.default_rng(5).integers(0, 20, (3, 11))
    with torch.no_grad():
        expected = network("Tokens", rnn=rnn)(torch.from_numpy(tokens)).numpy()
    for export, suffix, runtime in (
        (export_onnx, "onnx", OnnxModel), (export_tflite, "tflite", TFLiteModel), (export_keras, "keras", KerasModel),
    ):  # fmt: skip
        path = tmp_path / f"model.{suffix}"
        result = export(hub, ExportJob(f"model.{suffix}"), path)
        assert result.verification.passed, suffix
        model = runtime(path)
        found = model.run([tokens.astype(model.inputs[0].dtype)])[0]
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5, err_msg=suffix)
