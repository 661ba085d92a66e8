"""OpenVINO's intermediate representation: both files, compared with the source in OpenVINO, or neither."""

from __future__ import annotations

import json
import shutil

import keras
import numpy as np
import pytest
import torch
from conftest import ROOT, Project, last_line
from pytorch_hub import import_file
from safetensors.torch import save_file

from converter.contracts import ExportJob
from converter.errors import UnsupportedError
from converter.exporting import export_model
from converter.formats.target_formats.openvino import OPENVINO
from converter.hub.hub import Hub
from converter.openvino.runtime import OpenVINOModel

openvino = pytest.importorskip("openvino")

SCRIPT = """
import torch


class Pair(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 4, 3)
        self.linear = torch.nn.Linear(5, 4)

    def forward(self, image, more):
        found = self.convolution(image).relu().mean((2, 3))
        return found + self.linear(more), found.argmax(-1)
"""


@pytest.fixture
def hub(tmp_path) -> Hub:
    """Of two inputs and two outputs, with a free batch."""
    scope: dict = {}
    exec(SCRIPT, scope)
    torch.manual_seed(0)
    save_file(dict(scope["Pair"]().state_dict()), tmp_path / "pair.safetensors")
    (tmp_path / "net.py").write_text(SCRIPT)
    return import_file(
        tmp_path / "pair.safetensors",
        tmp_path / "hub",
        "-1,3,9,7;-1,5",
        network_script=tmp_path / "net.py",
        network_name="Pair",
    )


def test_both_files_are_published_and_compute_what_the_source_computes(tmp_path):
    project = Project(tmp_path)
    shutil.copyfile(ROOT / "models" / "digits.h5", tmp_path / "models" / "digits.h5")
    run = project.snakemake("converted/digits.xml", "elsewhere/d.xml", config={"jobs": [JOB]})
    assert run.returncode == 0, run.stderr
    source = keras.saving.load_model(ROOT / "models" / "digits.h5", compile=False)
    image = np.random.default_rng(0).random((3, *source.input_shape[1:]), dtype=np.float32)
    for path in ("converted/digits.xml", "elsewhere/d.xml"):
        file = OpenVINOModel(tmp_path / path)
        np.testing.assert_allclose(file.run([image])[0], source(image).numpy(), atol=1e-5)
    report = json.loads((tmp_path / "reports" / "digits.xml.json").read_text())
    assert report["status"] == "verified" and report["verification"]["runtime"].startswith("openvino 2026")
    assert report["file"]["beside"]["name"] == "converted/digits.bin"


JOB = {"convert_from": "models/digits.h5", "convert_to": "elsewhere/d.xml"}


def test_quantized_names_are_refused(tmp_path):
    project = Project(tmp_path)
    shutil.copyfile(ROOT / "models" / "digits.h5", tmp_path / "models" / "digits.h5")
    run = project.snakemake("converted/digits.float16.xml")
    assert run.returncode == 1
    assert last_line(run).endswith(": .float16.xml is no kind of file that is made: write digits.xml")
    assert "Traceback" not in run.stderr
    assert not list((tmp_path / "converted").glob("*"))


def test_names_order_and_sizes_are_the_sources(hub, tmp_path):
    staged = tmp_path / "pair.xml"
    result = export_model(hub, ExportJob("converted/pair.xml"), staged)
    assert result.verification is not None and result.verification.passed
    file = OpenVINOModel(staged, OPENVINO.staged_beside(staged))
    assert [spec.name for spec in file.inputs] == ["image", "more"]
    assert [spec.shape for spec in file.inputs] == [(None, 3, 9, 7), (None, 5)]
    assert [spec.dtype for spec in file.outputs] == ["float32", "int64"]


def test_rounded_weights_are_not_verified(hub, tmp_path, monkeypatch):
    save = openvino.save_model
    monkeypatch.setattr(openvino, "save_model", lambda model, path, **_: save(model, path, compress_to_fp16=True))
    result = export_model(hub, ExportJob("converted/pair.xml"), tmp_path / "pair.xml")
    assert result.verification is not None and not result.verification.passed


def test_what_the_runtime_refuses_is_a_sentence(hub, tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise RuntimeError("Check 'x' failed\nsecond line")

    monkeypatch.setattr(OpenVINOModel, "__init__", refuse)
    with pytest.raises(UnsupportedError, match="OpenVINO cannot run the model's ONNX file .*: ask for .onnx$"):
        export_model(hub, ExportJob("converted/pair.xml"), tmp_path / "pair.xml")
    assert not list(tmp_path.glob("*.xml*"))
