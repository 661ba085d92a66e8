"""Names in PyTorch files that are no Python and do no harm: they are converted."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import export_onnx
import pytest
from imports import run_step

from converter.contracts import ExportJob

torch = pytest.importorskip("torch")


class _Named(torch.nn.Module):
    NAMES = ("conv-1", "layer 1", "größe", "0", "lambda", "a/b:c+d=e", "<user___rates___item>", "层", "(1)[2]{3}")

    def __init__(self) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleDict({name: torch.nn.Linear(4, 4) for name in self.NAMES})
        self.register_buffer("run-mean", torch.rand(4))
        self.register_parameter("größe", torch.nn.Parameter(torch.rand(4)))

    def forward(self, x):
        for block in self.blocks.values():
            x = block(x).tanh()
        return x * self._buffers["run-mean"] + self._parameters["größe"]


@pytest.mark.parametrize("form", ["program", "pickle", "old format"])
def test_harmless_names(form: str, tmp_path: Path) -> None:
    """Hyphens, spaces, letters of any script, and keywords, which torch alone cannot write (2.13)."""
    torch.manual_seed(1)
    module = torch.nn.Sequential(OrderedDict((name, torch.nn.Linear(4, 4)) for name in _Named.NAMES)).eval()
    source = tmp_path / ("model.pt2" if form == "program" else "model.pt")
    if form == "program":
        torch.export.save(torch.export.export(_Named().eval(), (torch.ones(2, 4),)), source)
    else:
        torch.save(module, source, _use_new_zipfile_serialization=form == "pickle")
    hub = run_step("import_pytorch", source, tmp_path / "hub", **({} if form == "program" else {"input_shape": "1,4"}))
    assert hub.error is None, hub.error
    assert hub.extra["form"] == "exported"
    result = export_onnx.export_model(hub, ExportJob("converted/x.onnx"), tmp_path / "x.onnx")
    assert result.verification.passed
