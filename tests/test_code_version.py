"""The code a step runs, found by its imports: neither too little (stale results) nor too much (needless work)."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from text_graphs import linear

from converter import formats
from converter.exporting import functions_of
from converter.planning.code_version import code_version, step_files
from converter.planning.library_versions import all_packages, export_packages, step_packages, versions_of

PACKAGES = ROOT / "workflow"
SCRIPTS = sorted(path.stem for path in (ROOT / "scripts").glob("*.py"))


def is_left_out(path: Path) -> bool:
    """Of every hash: see code_version."""
    package = PACKAGES / "converter"
    return path == package / "__init__.py" or path.is_relative_to(package / "formats")


def export_files(extension: str, framework: str, script: str | None = None) -> list[Path]:
    target = formats.target(extension)
    return step_files(script or target.script, framework, functions_of(target, framework))


def imported(path: Path) -> set[Path]:
    """The project's files that `path` imports when it runs, by Python's own parser."""
    found = set()
    if path.suffix != ".py":
        return found  # a template
    tree = ast.parse(path.read_text())
    tree.body = [
        node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports are not followed; write from converter..."
            modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for module in modules:
            base = PACKAGES.joinpath(*module.split("."))
            found |= {file for file in (base.with_name(base.name + ".py"), base / "__init__.py") if file.is_file()}
    return {file for file in found if not is_left_out(file)}


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_import_is_followed(script):
    files = set(step_files(script))
    assert ROOT / "scripts" / f"{script}.py" in files
    for path in files:
        missing = {file for file in imported(path) if file not in files}
        assert not missing, f"{path.name} imports {missing}"


def test_steps_do_not_depend_on_each_others_exporters():
    onnx, tflite = (relative(export_files(extension, "tensorflow")) for extension in ("onnx", "tflite"))
    checkpoint = relative(step_files("import_checkpoint"))
    assert "converter/tf/onnx/export.py" in onnx - tflite - checkpoint
    assert "converter/tf/tflite/export.py" in tflite - onnx - checkpoint
    assert "converter/tf/sources/checkpoint.py" in checkpoint - onnx - tflite
    assert "converter/planning/planner.py" not in onnx | tflite | checkpoint  # planning code changes no file


def relative(files: list[Path]) -> set[str]:
    return {path.relative_to(PACKAGES).as_posix() for path in files if path.is_relative_to(PACKAGES)}


@pytest.mark.parametrize(
    ("extension", "script"),
    [("onnx", None), ("tflite", None), ("tflite", "quantization_layers"), ("tflite", "quantization_page")],
)
def test_an_export_is_of_one_framework(extension, script):
    tensorflow, torch = (relative(export_files(extension, name, script)) for name in ("tensorflow", "pytorch"))
    name = f"{extension}/export"
    assert f"converter/tf/{name}.py" in tensorflow
    assert f"converter/torch/{name}.py" in torch - tensorflow
    assert not any(file.startswith(("converter/torch/", "converter/torch_to_keras/")) for file in tensorflow)
    if extension == "onnx":
        assert not any(file.startswith("converter/tf/") for file in torch)
    else:  # torch reaches TensorFlow Lite by way of Keras, too
        assert {"converter/torch_to_keras/pooling.py", "converter/tf/tflite/export.py"} <= torch
        assert "converter/tf/onnx/export.py" not in torch


def test_a_name_imported_from_a_package_is_not_the_whole_package():
    assert "converter/tf/onnx/export.py" not in relative(step_files("import_keras", "tensorflow"))
    assert not any("/tf/" in file for file in relative(step_files("import_pytorch", "pytorch")))
    assert "converter/pages/page.html.j2" in relative(step_files("coverage", "tensorflow"))


RAN = """
import sys
from pathlib import Path
from converter.hub.hub import Hub
from converter.contracts import ExportJob
sys.path.insert(0, {scripts!r})
import {script}
hub = Hub.read(Path({hub!r}))
{script}.export_model(hub, ExportJob("converted/a.{extension}"), Path({staged!r}))
names = [name for name in sys.modules if name.split(".")[0] == "converter"]
print("LOADED", *(sys.modules[name].__file__ for name in names))
"""


@pytest.mark.parametrize(("script", "extension"), [("export_onnx", "onnx"), ("export_tflite", "tflite")])
@pytest.mark.parametrize("framework", ["tensorflow", "pytorch"])
def test_whatever_of_ours_an_export_loads_is_in_its_hash(framework, script, extension, tmp_path):
    """What it runs, asked of Python itself: a convention of how modules import each other could be broken unseen."""
    hub, staged = tmp_path / "hub", tmp_path / f"a.{extension}"
    if framework == "pytorch":
        source = tmp_path / "a.pt2"
        model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU())
        torch.export.save(torch.export.export(model, (torch.zeros(2, 4),)), source)
    else:
        source = tmp_path / "a.pbtxt"
        source.write_text(linear())
    step = "import_pytorch" if framework == "pytorch" else "import_protobuf"
    subprocess.run([sys.executable, str(ROOT / "scripts" / f"{step}.py"), str(source), str(hub)], check=True)
    places = {"scripts": str(ROOT / "scripts"), "hub": str(hub), "staged": str(staged)}
    code = RAN.format(script=script, extension=extension, **places)
    environment = {**os.environ, "PYTHONPATH": str(PACKAGES)}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    loaded = {Path(name) for name in run.stdout.rpartition("LOADED")[2].split()}
    assert len(loaded) > 10 and staged.is_file()
    missing = loaded - set(export_files(extension, framework))
    assert not {path for path in missing if not is_left_out(path)}


def test_versions_are_of_each_code_and_stable():
    versions = {script: code_version(script) for script in SCRIPTS}
    assert len(set(versions.values())) == len(versions)
    code_version.cache_clear()
    assert versions == {script: code_version(script) for script in SCRIPTS}


def test_steps_name_the_libraries_they_use():
    assert versions_of(export_packages("onnx", "tensorflow")).keys() == {
        "tensorflow",
        "tf2onnx",
        "onnx",
        "onnxruntime",
        "numpy",
    }
    assert versions_of(export_packages("onnx", "pytorch")).keys() == {
        *("torch", "onnxscript", "onnx", "onnxruntime", "numpy")
    }
    assert versions_of(step_packages("publish")) == {}
    assert all(isinstance(version, str) for version in versions_of(all_packages()).values())
