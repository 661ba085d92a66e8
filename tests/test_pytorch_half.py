"""Half precision and bfloat16 where float32 arithmetic cannot be had: a file that is right, or a sentence whose advice works."""

import threading

import pytest
import torch
from pytorch_hub import import_file
from special_hubs import export_to

from converter.errors import UnsupportedError

TARGETS = ["onnx", "tflite", "keras"]


class Scaled(torch.nn.Module):
    """Holds what cannot be copied, and so not be widened."""

    def __init__(self, dtype="float32"):
        super().__init__()
        torch.manual_seed(0)
        self.body = torch.nn.Sequential(
            torch.nn.Linear(6, 40), torch.nn.Hardswish(), torch.nn.LayerNorm(40), torch.nn.Linear(40, 3)
        )
        self.lock = threading.Lock()
        self.to(getattr(torch, dtype))

    def forward(self, x):
        return self.body(x)


def hub_of(folder, dtype):
    folder.mkdir()
    (folder / "net.py").write_text("from test_pytorch_half import Scaled\n")
    torch.save(Scaled(dtype).state_dict(), folder / "net.pt")
    network = {"network_script": folder / "net.py", "network_name": "Scaled", "network_args": [dtype]}
    return import_file(folder / "net.pt", folder / "hub", "1,6", **network)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_advice_is_given_and_works(tmp_path, dtype):
    hub = hub_of(tmp_path / "narrow", dtype)
    assert hub.extra["computes_in"] == dtype
    for target in TARGETS:
        try:
            verification = export_to(hub, target, tmp_path).verification
        except UnsupportedError as error:
            message = str(error)
        else:
            message = None if verification.passed else verification.message
        assert message is None or (f"computes in {dtype}" in message and "call .float() on the model" in message), (
            message
        )
    wide = hub_of(tmp_path / "wide", "float32")
    assert "computes_in" not in wide.extra
    for target in TARGETS:
        assert export_to(wide, target, tmp_path).verification.passed


def test_narrow_weights_that_are_widened_compute_in_float32(tmp_path):
    class Stored(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("weight", torch.randn(6, 3).half())

        def forward(self, x):
            return x @ self.weight.float()

    from converter.torch.program.narrow import computes_in

    program = torch.export.export(Stored(), (torch.zeros(2, 6),))
    assert computes_in(program) is None
    assert computes_in(torch.export.export(Stored().half(), (torch.zeros(2, 6),))) is None
    assert computes_in(torch.export.export(Scaled().half(), (torch.zeros(2, 6).half(),))) == "float16"
