"""PyTorch models that compute one thing here and another there: while exported, on the first call, after some calls."""

import numpy as np
import onnxruntime
import pytest
import pytorch_odd_networks
import torch
from pytorch_hub import import_file
from pytorch_networks import vary

from converter.contracts import ExportJob
from converter.errors import UnsupportedError
from converter.torch.onnx.export import export
from converter.torch.tflite.export import export as export_tflite

SCRIPT = pytorch_odd_networks.__file__


def network(name):
    torch.manual_seed(0)
    return vary(getattr(pytorch_odd_networks, name)()).eval()


def imported(folder, name):
    torch.save(network(name).state_dict(), folder / "net.pt")
    return import_file(folder / "net.pt", folder / "hub", "1,5", network_script=SCRIPT, network_name=name)


@pytest.mark.parametrize("name", ["Exporting", "Compiling", "Onnx", "Tracing", "Caching", "Flag"])
def test_file_computes_what_the_model_does_outside_of_any_export(tmp_path, name):
    hub = imported(tmp_path, name)
    x = torch.randn(5, 5, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        expected = network(name)(x).numpy()
    assert export(hub, ExportJob("net.onnx"), tmp_path / "net.onnx").verification.passed
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    np.testing.assert_allclose(session.run(None, {"x": x.numpy()})[0], expected, rtol=1e-4, atol=1e-5)
    assert export_tflite(hub, ExportJob("net.tflite"), tmp_path / "net.tflite").verification.passed


def test_what_depends_on_recorded_gradients_is_refused_or_right(tmp_path):
    """torch.export records them, and a converted file is what the model computes without."""
    hub = imported(tmp_path, "Gradients")
    x = torch.randn(5, 5)
    try:
        assert export(hub, ExportJob("net.onnx"), tmp_path / "net.onnx").verification.passed
    except UnsupportedError as error:
        assert "is_grad_enabled" in str(error)
        return
    with torch.no_grad():
        expected = network("Gradients")(x).numpy()
    outputs = onnxruntime.InferenceSession(tmp_path / "net.onnx").run(None, {"x": x.numpy()})
    np.testing.assert_allclose(outputs[0], expected, rtol=1e-4, atol=1e-5)


def test_other_code_while_exported_is_said(tmp_path):
    assert any("computes something else while it is exported" in note for note in imported(tmp_path, "Exporting").notes)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Scripting", r"cannot be traced: .*scripted, it is wrong on another input"),
        ("Remembering", "first call of Remembering gives another result than later ones"),
        ("FirstCall", "first call of FirstCall gives another result than later ones"),
        ("Warmup", "different outputs for the same input"),
        ("Settling", r"changes its own weights \(scale\)"),
    ],
)
def test_state_is_refused_by_name(tmp_path, name, message):
    with pytest.raises(UnsupportedError, match=message):
        imported(tmp_path, name)


def test_state_outside_the_module_shows_when_the_source_runs_again(tmp_path):
    with pytest.raises(UnsupportedError, match="different outputs for the same input"):
        imported(tmp_path, "Global")


def test_torchscript_that_sets_attributes_is_refused(tmp_path):
    """With a branch that torch.export cannot follow: TorchScript would be kept as it is."""

    class Counting(torch.nn.Module):
        calls: int

        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            return x * 2 if bool(x.sum() > 0) else x

    torch.jit.save(torch.jit.script(Counting()), tmp_path / "net.pt")
    with pytest.raises(UnsupportedError, match="forward keeps state in the attribute calls"):
        import_file(tmp_path / "net.pt", tmp_path / "hub", "1,5", network_script=None)


def test_module_that_cannot_be_copied_is_converted_all_the_same(tmp_path):
    (tmp_path / "net.py").write_text(
        "import threading\nimport torch\n\n\nclass Locked(torch.nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.fc, self.lock = torch.nn.Linear(5, 4), threading.Lock()\n\n"
        "    def forward(self, x):\n        return self.fc(x)\n"
    )
    torch.save(network("Exporting").state_dict(), tmp_path / "net.pt")
    hub = import_file(tmp_path / "net.pt", tmp_path / "hub", "1,5", network_script=tmp_path / "net.py")
    assert hub.operators == {"linear": 1}
