"""The program as pip installs it: built, installed outside of the clone, and used in a folder that knows nothing of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

import converter
from converter.planning.toolchains import find_python

DATA = """import numpy as np
def get_dataset():
    return [[image[None]] for image in np.load("images.npy")]
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bin/ of an environment that has the wheel, and borrows the libraries of this one."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    site = next(folder.glob("lib/python*/site-packages"))
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel)
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = folder / "bin" / "converter"
    code = (
        "import importlib.metadata, sys\n"
        "(entry,) = importlib.metadata.entry_points(group='console_scripts', name='converter')\n"
        "sys.exit(entry.load()())\n"
    )
    command.write_text(f"#!{folder}/bin/python\n{code}")
    command.chmod(0o755)
    return folder / "bin"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A user's folder with a space in its name, and a file in it that must not stand in for the program."""
    folder = tmp_path / "my models"
    folder.mkdir()
    shutil.copyfile(ROOT / "models" / "digits.h5", folder / "digits.h5")
    (folder / "data.py").write_text(DATA)
    np.save(folder / "images.npy", np.random.default_rng(0).uniform(0, 16, (20, 8, 8, 1)).astype("float32"))
    (folder / "converter.py").write_text("raise SystemExit('a file of the user stood in for the program')\n")
    return folder


def run(*command: object, cwd: Path | None = None, status: int = 0) -> subprocess.CompletedProcess:
    """Without the path of this clone, as at somebody else's."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    if cwd is not None:
        environment["PATH"] = "/usr/bin:/bin"
    found = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, timeout=1200
    )
    assert found.returncode == status, found.stdout + found.stderr
    return found


def test_the_wheel_holds_the_whole_workflow(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    listed = run("git", "-C", ROOT, "ls-files", "Snakefile", "rules", "scripts", "configs", "profiles", "workflow")
    for path in listed.stdout.splitlines():
        package = path.startswith(("workflow/converter/", "workflow/aup/"))
        assert (path.removeprefix("workflow/") if package else f"converter_workflow/{path}") in names, path
    assert not [name for name in names if name.startswith(("tests", "docs", "benchmarks"))]


def test_one_line_converts_quantizes_and_proves(programs: Path, home: Path):
    options = ["--quantization.type", "int8", "--load", "data.py", "--verify.samples", "2"]
    made = run(programs / "converter", "convert", "digits.h5", "out/digits.tflite", *options, cwd=home)
    assert "verified" in made.stdout and (home / "out" / "digits.tflite").stat().st_size > 10_000
    report = json.loads((home / "reports" / "out" / "digits.tflite.json").read_text())
    assert report["status"] == "verified" and report["inputs"][0]["dtype"] == "int8"
    assert report["parameters"]["quantization"]["type"] == "int8"
    assert report["versions"]["converter"] == converter.__version__
    command = (programs / "converter", "convert", "digits.h5", "out/digits.tflite", *options)
    assert "up to date" in run(*command, cwd=home).stdout
    np.save(home / "images.npy", np.random.default_rng(1).uniform(0, 4, (20, 8, 8, 1)).astype("float32"))
    assert "verified" in (again := run(*command, cwd=home)).stdout and "up to date" not in again.stdout
    wrong = run(
        programs / "converter", "convert", "digits.h5", "b.tflite", "--quantisation.type", "int8", cwd=home, status=1
    )
    (line,) = wrong.stderr.splitlines()
    assert "did you mean --quantization.type?" in line and not wrong.stdout


def test_snakemake_and_the_original_command_work_from_any_folder(programs: Path, home: Path):
    snakefile = run(programs / "converter", "snakefile", cwd=home).stdout.strip()
    assert Path(snakefile).is_relative_to(programs.parent)
    (home / "models").mkdir()
    shutil.move(home / "digits.h5", home / "models" / "digits.h5")
    run(programs / "python", "-P", "-m", "snakemake", "-s", snakefile, "converted/digits.onnx", cwd=home)
    job = {"convert_from": "models/digits.h5", "convert_to": "out/digits.onnx", "onnx_opset": 13}
    made = run(programs / "python", "-m", "aup.dlconvert", "-d", json.dumps(job), cwd=home)
    assert "out/digits.onnx  verified" in made.stdout
    verdict = run(programs / "converter", "check", "converted/digits.onnx", "out/digits.onnx", cwd=home)
    assert json.loads(verdict.stdout)["status"] == "verified"


def test_the_version_is_that_of_the_wheel(programs: Path, wheel: Path, home: Path):
    assert f"-{converter.__version__}-" in wheel.name
    assert run(programs / "converter", "--version", cwd=home).stdout == f"converter {converter.__version__}\n"


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_an_empty_environment(version: str, wheel: Path, home: Path):
    """Everything from the registry, as for somebody new; PyTorch is not among it, and is asked for."""
    interpreter = find_python(version)
    if interpreter is None:
        pytest.skip(f"no Python {version} here")
    environment = home.parent / "environment"
    run(interpreter, "-m", "venv", environment)
    run(environment / "bin" / "pip", "install", "--quiet", wheel)
    programs = environment / "bin"
    made = run(programs / "converter", "convert", "digits.h5", "digits.onnx", "digits.tflite", cwd=home)
    assert made.stdout.count("verified") == 2
    test_one_line_converts_quantizes_and_proves(programs, home)
    (home / "net.pt").write_bytes(b"")
    refused = run(programs / "converter", "convert", "net.pt", "net.onnx", cwd=home, status=1)
    assert "pip install 'verified-model-converter[torch]'" in refused.stdout
