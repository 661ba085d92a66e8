"""Formats are declared once: what is derived from the declarations, and formats that a file outside this program adds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, Project, last_line

from converter import formats
from converter.errors import ParameterError
from converter.planning.parameters import EXPORT_PARAMETERS, IMPORT_PARAMETERS

TOY = Path(__file__).parent / "toy" / "toy_formats.py"


@pytest.fixture
def toy(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A user's folder in which the toy formats are known, with one source."""
    monkeypatch.setenv("CONVERTER_FORMATS", str(TOY))
    (project.folder / "models" / "m.matrix").write_text(json.dumps({"weights": [[1, 2, 3], [4, 5, 6.5]]}))
    return project


def test_added_formats_convert_through_snakemake(toy: Project):
    run = toy.snakemake("converted/m.npz", "reports/m.inspect.json")
    assert run.returncode == 0, run.stderr
    assert "converted/m.npz  verified" in run.stdout
    with np.load(toy.folder / "converted" / "m.npz") as file:
        np.testing.assert_array_equal(file["matrix"], [[1, 2, 3], [4, 5, 6.5]])
    report = toy.report("m.npz")
    assert report["route"] == ["import_matrices", "export_matrices"] and report["versions"]["numpy"] == np.__version__
    assert [step["name"] for step in report["steps"]] == ["import_matrices", "export_added"]
    assert toy.report("m.inspect")["targets"] == {"npz": "ok"}
    again = toy.snakemake("converted/m.npz")
    assert "Nothing to be done" in again.stdout + again.stderr


def test_an_added_format_is_rebuilt_when_its_code_changes(toy: Project, monkeypatch: pytest.MonkeyPatch):
    mine = toy.folder / "toy_formats.py"
    mine.write_text(TOY.read_text())
    monkeypatch.setenv("CONVERTER_FORMATS", str(mine))
    assert toy.snakemake("converted/m.npz").returncode == 0
    mine.write_text(TOY.read_text().replace("x @ weights.", "x @ weights"))
    run = toy.snakemake("converted/m.npz")
    assert run.returncode == 0 and "converted/m.npz  verified" in run.stdout


def test_a_wrong_file_of_an_added_format_is_not_published(toy: Project, monkeypatch: pytest.MonkeyPatch):
    wrong = toy.folder / "toy_formats.py"
    wrong.write_text(TOY.read_text().replace("matrix=np.load(", "matrix=1.01 * np.load("))
    monkeypatch.setenv("CONVERTER_FORMATS", str(wrong))
    run = toy.snakemake("converted/m.npz")
    assert run.returncode == 1 and not toy.converted()
    assert "converted/m.npz: the file does not compute what the source computes: output y" in last_line(run)


def test_mistakes_name_what_there_is(toy: Project):
    run = toy.snakemake("converted/m.onnx", "converted/n.npz", "--keep-going")
    assert run.returncode == 1
    assert "a matrices source (models/m.matrix) does not become .onnx; write one of .npz" in run.stderr
    assert "no source for n" in run.stderr and ".matrix" in run.stderr
    (toy.folder / "models" / "m.matrix").write_text('{"weights": [1]}')
    run = toy.snakemake("converted/m.npz")
    assert "models/m.matrix: weights has 1 axes: write a list of rows" in last_line(run)


def test_check_compares_added_formats(toy: Project):
    assert toy.snakemake("converted/m.npz").returncode == 0
    command = [sys.executable, "-m", "converter", "check", "models/m.matrix", "converted/m.npz"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow")}
    run = subprocess.run(command, cwd=toy.folder, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["status"] == "verified"


SOURCE = 'FORMATS = [SourceFormat({}, framework="tensorflow", importer="mine:f")]'
TARGET = 'FORMATS = [TargetFormat({}, exporters={{"tensorflow": Exporter("mine:f", ())}})]'
MISTAKES = {
    "X = 1": "defines no FORMATS",
    "X = (": "cannot be imported: SyntaxError",
    "raise SystemExit(3)": "cannot be imported: SystemExit: 3",
    "FORMATS = ['onnx']": "FORMATS holds a str",
    SOURCE.format('"keras", "K", extensions=(".k",)'): "SourceFormat 'keras': that name is taken",
    SOURCE.format('"my-format", "K", extensions=(".k",)'): "write a name of lower-case letters",
    SOURCE.format('"mine", "M", extensions=(".h5",)'): ".h5 belongs to keras",
    SOURCE.format('"mine", "M", extensions=("k",)'): "write extensions with the dot",
    SOURCE.format('"mine", "M", extensions=(".tar.gz",)'): "tar.gz is no extension",
    SOURCE.format('"mine", "M"'): "write extensions, or what a directory of it contains",
    'FORMATS = [SourceFormat("mine", "M", "tensorflow", (".k",))]': 'write importer="MODULE:FUNCTION"',
    'FORMATS = [SourceFormat("mine", "M", "jax", (".k",), importer="mine:f")]': "there is no framework jax",
    TARGET.format('"mine", "M", extensions=("onnx",)'): ".onnx belongs to onnx",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_declarations_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str):
    path = tmp_path / "mine.py"
    path.write_text(f"from converter.formats import Exporter, SourceFormat, TargetFormat\n{text}\n")
    monkeypatch.setenv("CONVERTER_FORMATS", str(path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    formats.added.cache_clear()
    try:
        with pytest.raises(ParameterError) as raised:
            formats.added()
    finally:
        formats.added.cache_clear()
        sys.modules.pop("mine", None)
    assert str(raised.value).startswith(str(path)) and MISTAKES[text] in str(raised.value)


UNREADABLE = {"gone.py": "is no file", "numpy.py": "numpy is a module already", "mine.txt": "name a Python file"}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_mistake_ends_the_run_with_its_sentence(project: Project, monkeypatch: pytest.MonkeyPatch, name: str):
    (project.folder / "mine").mkdir()
    path = project.folder / "mine" / name
    if name != "gone.py":
        path.write_text("FORMATS = []")
    monkeypatch.setenv("CONVERTER_FORMATS", str(path))
    run = project.snakemake("converted/m.npz")
    assert run.returncode == 1 and "Traceback" not in run.stderr and ".smk" not in run.stderr
    assert f"CONVERTER_FORMATS names {path}" in last_line(run) and UNREADABLE[name] in last_line(run)


def test_folders_of_formats_do_not_hide_functions_of_their_names():
    code = "from converter import formats; formats.source('keras'), formats.target('onnx'); formats.sources(), formats.targets()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_declarations_hold_together():
    names = set(formats.frameworks())
    for source in formats.sources().values():
        assert source.framework in names and source.parameters <= set(IMPORT_PARAMETERS)
        assert (ROOT / "scripts" / f"{source.script}.py").is_file()
        assert source.extensions or source.contains
    for target in formats.targets().values():
        assert set(target.exporters) <= names and target.parameters <= set(EXPORT_PARAMETERS)
        assert (ROOT / "scripts" / f"{target.script}.py").is_file()
        functions = [exporter.function for exporter in target.exporters.values()]
        functions += [backend.function for backend in target.backends.values()]
        quantized = [target.quantized.files, *target.quantized.needs] if target.quantized else []
        for function in filter(None, [*functions, *quantized, target.runtime, target.timer]):
            assert callable(formats.load(function)), function
    assert all(callable(formats.load(framework.runner)) for framework in formats.frameworks().values())
