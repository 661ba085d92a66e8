"""What torch.export cannot follow reaches TensorFlow Lite and Keras by way of its ONNX form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pytorch_hub import import_file

from converter import formats
from converter.contracts import ExportJob
from converter.errors import UnsupportedError
from converter.verification.runtimes import TFLiteModel


class Choosing(torch.nn.Module):
    """A side of two, by the sign of a sum: TorchScript keeps the choice, torch.export refuses it."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool(x.sum() > 0):
            y = self.one(x)
        else:
            y = torch.tanh(self.other(x))
        return y


@pytest.fixture
def hub(tmp_path):
    torch.manual_seed(0)
    module = torch.jit.script(Choosing().eval())
    torch.jit.save(module, tmp_path / "choosing.pt")
    return import_file(tmp_path / "choosing.pt", tmp_path / "hub", "2,4", network_script=None), module


@pytest.mark.parametrize("target", ["tflite", "keras"])
def test_a_choice_that_the_data_make(tmp_path, hub, target):
    imported, module = hub
    assert imported.extra["form"] == "torchscript"
    export = formats.load(formats.target(target).exporters["pytorch"].function)
    path = tmp_path / f"model.{target}"
    result = export(imported, ExportJob(f"model.{target}"), path)
    assert result.verification.passed
    assert result.route[:2] == ["export_onnx", "onnx_to_torch"]
    assert any("made by way of ONNX" in note for note in result.notes)
    if target == "tflite":
        model = TFLiteModel(path)
        for sign in (1, -1):
            x = sign * np.abs(np.random.default_rng(3).standard_normal((2, 4))).astype(np.float32)
            expected = module(torch.from_numpy(x)).detach().numpy()
            np.testing.assert_allclose(model.run([x])[0], expected, rtol=1e-4, atol=1e-6)


def test_the_reason_of_each_way_stands_in_the_refusal(tmp_path):
    class Values(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            total = x
            while bool(total.sum() < 100.0):
                total = torch.cat([total, total + 1.0], 0)
            return total

    torch.jit.save(torch.jit.script(Values()), tmp_path / "values.pt")
    hub = import_file(tmp_path / "values.pt", tmp_path / "hub", "2,4", network_script=None)
    export = formats.load(formats.target("tflite").exporters["pytorch"].function)
    with pytest.raises(UnsupportedError, match="torch.export can follow.*; by way of ONNX: .*: ask for an .onnx file"):
        export(hub, ExportJob("model.tflite"), tmp_path / "model.tflite")
