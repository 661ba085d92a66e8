"""The code a step runs, found by its imports: neither too little (stale results) nor too much (needless work)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from conftest import ROOT

from converter.code_version import code_version, step_files
from converter.versions import STEP_PACKAGES, step_versions

PACKAGES = ROOT / "workflow"
SCRIPTS = sorted(path.stem for path in (ROOT / "scripts").glob("*.py"))


def imported(path: Path) -> set[Path]:
    """The project's files that `path` imports when it runs, by Python's own parser."""
    found = set()
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
    return found - {PACKAGES / "converter" / "__init__.py"}  # see code_version


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_import_is_followed(script):
    files = set(step_files(script))
    assert ROOT / "scripts" / f"{script}.py" in files
    for path in files:
        missing = {file for file in imported(path) if file not in files}
        assert not missing, f"{path.name} imports {missing}"


def test_steps_do_not_depend_on_each_others_exporters():
    def names(script: str) -> set[str]:
        return {path.relative_to(PACKAGES).as_posix() for path in step_files(script) if path.is_relative_to(PACKAGES)}

    onnx, tflite, checkpoint = names("export_onnx"), names("export_tflite"), names("import_checkpoint")
    assert "converter/tf/onnx_export.py" in onnx - tflite - checkpoint
    assert "converter/tf/tflite_export.py" in tflite - onnx - checkpoint
    assert "converter/tf/checkpoint.py" in checkpoint - onnx - tflite
    assert "converter/plan.py" not in onnx | tflite | checkpoint  # planning code changes no file


def test_versions_are_of_each_code_and_stable():
    versions = {script: code_version(script) for script in SCRIPTS}
    assert len(set(versions.values())) == len(versions)
    code_version.cache_clear()
    assert versions == {script: code_version(script) for script in SCRIPTS}


def test_steps_name_the_libraries_they_use():
    assert step_versions("export_onnx").keys() == {"tensorflow", "tf2onnx", "onnx", "onnxruntime", "numpy"}
    assert step_versions("publish") == {}
    assert all(isinstance(version, str) for step in STEP_PACKAGES for version in step_versions(step).values())
