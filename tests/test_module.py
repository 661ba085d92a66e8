"""The workflow as a module of another one, whose rules make its sources and take its files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT, SNAKEMAKE

_WORKFLOW = """
configfile: "my.yaml"

rule all:
    input:
        "out/converted/net.npz", "variables.txt"

rule train:
    input: "data/net.matrix"
    output: "trained/net.matrix"
    shell: "cp {{input}} {{output}}"

module converter:
    snakefile: {snakefile}
    config: {config}
    prefix: "out"

use rule * from converter as converter_*

rule variables:
    input: "out/converted/net.npz"
    output: "variables.txt"
    shell: 'echo "$PATH ${{{{CUDA_VISIBLE_DEVICES-}}}}" > {{output}}'
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With formats of no library: it is the workflow that is tested."""
    monkeypatch.setenv("CONVERTER_FORMATS", str(ROOT / "tests" / "toy" / "toy_formats.py"))
    (tmp_path / "data").mkdir()
    write_source(tmp_path, [[1, 2], [3, 4.5]])
    write(tmp_path, f'"{ROOT}/Snakefile"', 'config["converter"]')
    configure(tmp_path, {"models": {"net": {"convert_from": "trained/net.matrix"}}})
    return tmp_path


def write_source(folder: Path, weights: list) -> None:
    (folder / "data" / "net.matrix").write_text(json.dumps({"weights": weights}))


def write(folder: Path, snakefile: str, config: str) -> None:
    (folder / "Snakefile").write_text(_WORKFLOW.format(snakefile=snakefile, config=config))


def configure(folder: Path, values: dict) -> None:
    (folder / "my.yaml").write_text(json.dumps({"samples": 3, "converter": values}))


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "CUDA_VISIBLE_DEVICES")
    }
    command = [sys.executable, "-P", "-m", "snakemake", "--cores", "2", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)


def test_a_source_that_another_rule_makes_becomes_a_verified_file(folder: Path):
    made = run(folder)
    assert made.returncode == 0, made.stderr
    report = json.loads((folder / "out" / "reports" / "net.npz.json").read_text())
    assert (report["target"], report["status"]) == ("out/converted/net.npz", "verified")
    assert report["source"]["path"] == "trained/net.matrix"
    left = {entry.name for entry in folder.iterdir()} - {".snakemake"}
    assert left == {"Snakefile", "my.yaml", "data", "trained", "out", "variables.txt"}
    # The other rules' environment is theirs.
    path, _, device = (folder / "variables.txt").read_text().rstrip("\n").rpartition(" ")
    assert str(ROOT / "workflow") not in path and device == ""  # a folder of an environment may be

    again = run(folder, "--dry-run")
    assert "Nothing to be done" in again.stdout + again.stderr

    write_source(folder, [[1, 2], [3, 5]])
    assert run(folder).returncode == 0
    changed = json.loads((folder / "out" / "reports" / "net.npz.json").read_text())
    assert changed["source"]["sha256"] != report["source"]["sha256"] and changed["status"] == "verified"
    assert "Nothing to be done" in (again := run(folder, "--dry-run")).stdout + again.stderr


def test_a_failure_ends_with_its_sentence(folder: Path):
    write_source(folder, [1, 2])
    failed = run(folder)
    assert failed.returncode == 1
    last = failed.stderr.strip().splitlines()[-1]
    assert last == "out/converted/net.npz: trained/net.matrix: weights has 1 axes: write a list of rows"
    assert json.loads((folder / "out" / "reports" / "net.npz.json").read_text())["status"] == "failed"


def test_an_empty_configuration_is_the_shipped_one(folder: Path):
    write(folder, f'"{ROOT}/Snakefile"', "{}")
    (folder / "models").mkdir()
    shutil.move(folder / "data" / "net.matrix", folder / "models" / "net.matrix")
    made = run(folder, "out/reports/net.inspect.json")
    assert made.returncode == 0 and "Traceback" not in made.stderr, made.stderr
    assert json.loads((folder / "out" / "reports" / "net.inspect.json").read_text())["targets"] == {"npz": "ok"}


def test_mistakes_of_the_module_are_a_sentence(folder: Path):
    configure(folder, {"modles": {}})
    run_ = run(folder)
    assert run_.returncode == 1 and "did you mean models?" in run_.stderr and "Traceback" not in run_.stderr
    text = (folder / "Snakefile").read_text().replace('prefix: "out"', 'replace_prefix: {"converted/": "files/"}')
    (folder / "Snakefile").write_text(text)
    configure(folder, {})
    run_ = run(folder)
    assert run_.returncode == 1 and "write prefix instead" in run_.stderr and "Traceback" not in run_.stderr


def test_two_modules_stand_side_by_side(folder: Path):
    text = (folder / "Snakefile").read_text()
    other = text[text.index("module converter:") : text.index("rule variables:")]
    for word, its in (
        ("module converter", "module second"),
        ("from converter as converter_*", "from second as second_*"),
    ):
        other = other.replace(word, its)
    (folder / "Snakefile").write_text(text + other.replace('"out"', '"other"'))
    made = run(folder, "--dry-run", "other/converted/net.npz", "out/converted/net.npz")
    assert made.returncode == 0, made.stderr
    assert "publish other/converted/net.npz" in made.stdout + made.stderr
    assert "publish out/converted/net.npz" in made.stdout + made.stderr


def test_steps_are_called_by_their_path(tmp_path: Path):
    """Nothing of this program need be on PATH, not even the Python that it runs in."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "net.matrix").write_text('{"weights": [[1, 2], [3, 4.5]]}')
    formats = str(ROOT / "tests" / "toy" / "toy_formats.py")
    environment = {"PATH": "/usr/bin:/bin", "HOME": os.environ["HOME"], "CONVERTER_FORMATS": formats}
    made = subprocess.run(
        [*SNAKEMAKE, "converted/net.npz"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert made.returncode == 0 and (tmp_path / "converted" / "net.npz").is_file(), made.stderr
