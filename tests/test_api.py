"""convert() from Python: the report comes back, a failure is raised as what it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from small_models import write_graph

from converter import convert
from converter.errors import ParameterError, SourceError, UnsupportedError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("api")
    write_graph(folder / "tiny.pb")
    return folder


@pytest.fixture(autouse=True)
def _here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def test_the_report_comes_back():
    report = convert(Path("tiny.pb"), "out/tiny.onnx", onnx_opset=13)
    assert (report["status"], report["opset"], report["target"]) == ("verified", 13, "out/tiny.onnx")
    assert Path("out/tiny.onnx").stat().st_size == report["file"]["bytes"]
    assert convert("tiny.pb", "out/tiny.onnx", onnx_opset=13)["file"] == report["file"]


@pytest.mark.parametrize(
    ("source", "target", "parameters", "kind", "part"),
    [
        ("tyni.pb", "a.onnx", {}, SourceError, "did you mean tiny.pb"),
        ("tiny.pb", "a.pb", {}, UnsupportedError, "does not become .pb"),
        ("tiny.pb", "a.onnx", {"onnx_opst": 13}, ParameterError, "did you mean onnx_opset?"),
        ("tiny.pb", "a.int8.tflite", {}, ParameterError, "write quantization.load"),
        ("tiny.pb", "a.onnx", {"input_nodes": "z"}, ParameterError, "z"),
    ],
)
def test_failures_are_typed(source: str, target: str, parameters: dict, kind: type, part: str):
    with pytest.raises(kind) as raised:
        convert(source, target, **parameters)
    assert part in str(raised.value) and "\n" not in str(raised.value)
    assert not Path(target).exists()


def test_the_package_alone_imports_nothing():
    script = "import sys, converter; print(sorted(name for name in sys.modules if name.startswith('converter')))"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT / 'workflow')!r}); {script}"]
    assert (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        == "['converter', 'converter.version']"
    )
