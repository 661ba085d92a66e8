"""Legacy environments without building one: where they are, what is said when they cannot be, and the plan that needs them."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, last_line
from imports import refused

from converter.errors import ParameterError, SourceError, UnsupportedError, UntrustedError
from converter.hub.hub import Run
from converter.importing.hints import toolchain_hint
from converter.legacy.source import _chosen, call, read_arrays, write_arrays
from converter.planning import toolchains
from converter.planning.config import read_config
from converter.planning.planner import Planner
from converter.planning.rules.rule_inputs import RuleInputs
from converter.torch.extensions.vision import import_torchvision

_FIND = toolchains.find_python  # itself, whatever a test puts in its place
LEGACY_SCRIPTS = [ROOT / "scripts" / "legacy_import.py", *sorted((ROOT / "scripts" / "legacy").glob("*.py"))]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """No environment of this machine, and no interpreter found before, is seen."""
    monkeypatch.setenv("CONVERTER_TOOLCHAINS", str(tmp_path / "toolchains"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PYENV_ROOT", raising=False)
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    _FIND.cache_clear()
    yield
    _FIND.cache_clear()


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def fake_environment(toolchain: str, text: str) -> None:
    """A built environment whose interpreter is a shell script."""
    executable(toolchains.python(toolchain), text)
    (toolchains.environment(toolchain) / "ready").write_text("")


@pytest.mark.parametrize("script", LEGACY_SCRIPTS, ids=lambda path: path.stem)
def test_what_runs_there_is_python_3_7_and_needs_nothing_of_this_package(script):
    tree = ast.parse(script.read_text(), feature_version=(3, 7))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not [name for name in imported if name.split(".")[0] == "converter"]


@pytest.mark.parametrize("toolchain", toolchains.PYTHONS)
def test_the_lists_pin_every_package(toolchain):
    lines = [line for line in toolchains.requirements(toolchain).read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9A-Za-z.]*", line) for line in lines)
    names = {line.split("==")[0].lower() for line in lines}
    assert {"torch", "keras2onnx", "pytorch2keras", "h5py", "numpy"} <= names
    assert "onnx2keras==0.0.23" in lines


def test_a_changed_list_is_another_environment(tmp_path, monkeypatch):
    before, version = toolchains.environment("tf2.3"), toolchains.toolchain_version("tf2.3")
    assert before.parent == tmp_path / "toolchains"
    changed = tmp_path / "tf2.3.txt"
    changed.write_text("numpy==1.18.4\n")
    monkeypatch.setattr(toolchains, "requirements", lambda toolchain: changed)
    assert toolchains.environment("tf2.3") != before
    assert toolchains.toolchain_version("tf2.3") != version


def test_interpreters_are_found_on_path_in_pyenv_and_in_conda_and_shims_are_not_believed(tmp_path, monkeypatch):
    shim = executable(tmp_path / "shims" / "python3.8", "echo 'pyenv: command not found' >&2; exit 127")
    monkeypatch.setenv("PATH", f"{shim.parent}{os.pathsep}/usr/bin")
    assert toolchains.find_python("3.8") is None
    _FIND.cache_clear()
    conda = executable(tmp_path / "conda" / "envs" / "old" / "bin" / "python3.8", "echo 3.8")
    listed = tmp_path / "home" / ".conda" / "environments.txt"
    listed.parent.mkdir(parents=True)
    listed.write_text(f"/nowhere\n{conda.parents[1]}\n")
    assert toolchains.find_python("3.8") == str(conda)
    _FIND.cache_clear()
    pyenv = executable(tmp_path / "home" / ".pyenv" / "versions" / "3.8.18" / "bin" / "python3.8", "echo 3.8")
    assert toolchains.find_python("3.8") == str(pyenv)
    _FIND.cache_clear()
    executable(tmp_path / "wrong" / "python3.8", "echo 3.9")
    right = executable(tmp_path / "right" / "python3.8", "echo 3.8")
    monkeypatch.setenv("PATH", f"{tmp_path / 'wrong'}{os.pathsep}{right.parent}")
    assert toolchains.find_python("3.8") == str(right)


def test_without_an_interpreter_the_error_says_how_to_get_one(monkeypatch):
    monkeypatch.setattr(toolchains, "find_python", lambda version, path=None: None)
    monkeypatch.setattr(toolchains.shutil, "which", lambda name, path=None: None)
    with pytest.raises(UnsupportedError, match=r"needs Python 3\.7.*pip install uv.*pyenv install 3\.7.*conda create"):
        toolchains.check_available("tf1.15")
    assert not toolchains.is_available("tf1.15")
    fake_environment("tf1.15", "exit 0")
    assert toolchains.is_available("tf1.15")  # built, so that nothing is needed


def test_uv_is_used_where_it_is_and_fetches_the_interpreter(tmp_path, monkeypatch):
    """A stand-in for uv writes down how it is called."""
    calls = tmp_path / "calls"
    executable(
        tmp_path / "bin" / "uv",
        f'echo "$@" >> {calls}; [ "$1" = venv ] && mkdir -p "$5/bin" && touch "$5/bin/python"; exit 0',
    )
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.setattr(toolchains, "find_python", lambda version, path=None: None)
    made = toolchains.ensure("tf2.3")
    first, second = calls.read_text().splitlines()
    assert first == f"venv --seed --python 3.8 {made.parents[1]}"
    assert second == f"pip install --python {made} --no-deps --requirement {toolchains.requirements('tf2.3')}"
    toolchains.ensure("tf2.3")
    assert len(calls.read_text().splitlines()) == 2  # built once


@pytest.mark.parametrize(
    ("version", "toolchain"),
    [
        ("2.4.0", "tf2.3"),
        ("2.6.0", "tf2.3"),
        ("2.2.4-tf", "tf1.15"),
        ("2.3.1", "tf1.15"),
        (None, "tf1.15"),
        ("2", "tf1.15"),
    ],
)
def test_a_keras_file_says_which_environment_wrote_it(version, toolchain):
    assert toolchains.toolchain_for_keras(version) == toolchain


def planner(**config) -> Planner:
    return Planner(read_config(config, ROOT / "configs" / "zoo.yaml"))


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    for name in ("old.h5", "new.h5", "net.pt"):
        (tmp_path / "models" / name).write_bytes(b"")


def test_only_what_needs_an_environment_waits_for_it(models):
    fake_environment("tf2.3", "exit 0")
    made = planner(models={"old": {"toolchain": "tf2.3"}})
    inputs = RuleInputs(made)

    class Key:
        key = made.plan("old.onnx").source.key

    class Other:
        key = made.plan("new.onnx").source.key

    assert inputs.source(Key) == ["models/old.h5", "intermediate/toolchains/tf2.3/ready"]
    assert inputs.source(Other) == ["models/new.h5"]


def test_a_toolchain_for_a_job_a_model_or_everything(models):
    for toolchain in toolchains.PYTHONS:
        fake_environment(toolchain, "exit 0")
    job = {"convert_from": "models/old.h5", "convert_to": "converted/job.onnx", "toolchain": "tf1.15"}
    made = planner(defaults={"toolchain": "tf2.3"}, models={"old": {"toolchain": "default"}}, jobs=[job])
    chosen = {name: made.plan(name).source.toolchain for name in ("new.onnx", "net.onnx", "old.onnx", "job.onnx")}
    assert chosen == {"new.onnx": "tf2.3", "net.onnx": "tf2.3", "old.onnx": "default", "job.onnx": "tf1.15"}


def test_a_missing_interpreter_fails_its_own_targets_only(models, monkeypatch):
    monkeypatch.setattr(toolchains, "find_python", lambda version, path=None: None)
    monkeypatch.setattr(toolchains.shutil, "which", lambda name, path=None: None)
    made = planner(models={"old": {"toolchain": "tf1.15"}})
    assert "toolchain tf1.15 needs Python 3.7" in made.plan("old.onnx").error
    assert made.plan("new.onnx").error is None


def test_backends_convert_what_they_are_for(models):
    fake_environment("tf2.3", "exit 0")
    made = planner(models={"net": {"backend": "pytorch2keras"}, "old": {"backend": "keras2onnx"}})
    assert made.plan("net.h5").parameters["backend"] == "pytorch2keras"
    assert "backend" not in made.plan("net.onnx").parameters
    assert "backend" not in made.plan("net.keras").parameters  # Keras 2.4 writes no such file

    class Target:
        name, extension = "old", "onnx"

    assert RuleInputs(made).export_environment(Target) == ["intermediate/toolchains/tf2.3/ready"]
    job = {"convert_from": "models/net.pt", "convert_to": "converted/x.onnx", "backend": "keras2onnx"}
    error = planner(jobs=[job]).plan("x.onnx").error
    assert error == "backend keras2onnx converts keras to .onnx only, not pytorch to .onnx: leave backend out"
    job = {"convert_from": "models/net.pt", "convert_to": "converted/x.keras", "backend": "pytorch2keras"}
    error = planner(jobs=[job]).plan("x.keras").error
    assert error == (
        "backend pytorch2keras converts pytorch to .h5 and .hdf5 only, not pytorch to .keras: leave backend out"
    )


ANSWER = """
folder=$(dirname "$4")
printf '%s' '{answer}' > "$folder/answer.json"
"""


def answering(answer: str) -> None:
    fake_environment("tf2.3", ANSWER.format(answer=answer))


def test_an_error_there_is_the_same_error_here(tmp_path):
    answering('{"error": {"kind": "UntrustedError", "message": "/a/b.h5 carries code"}}')
    with pytest.raises(UntrustedError, match=r"carries code \(toolchain tf2\.3\)"):
        call("tf2.3", {"action": "import", "source": "/a/b.h5"}, tmp_path)
    answering('{"inputs": [["x", "x:0"]]}')
    assert call("tf2.3", {"action": "import", "source": "/a/b.h5"}, tmp_path) == {"inputs": [["x", "x:0"]]}


def test_a_process_that_dies_is_an_error_and_one_without_memory_can_be_tried_again(tmp_path, capfd):
    fake_environment("tf2.3", "echo first; echo 'Illegal instruction' >&2; exit 132")
    with pytest.raises(SourceError, match=r"b\.h5: toolchain tf2\.3 could not read it \(Illegal instruction\)"):
        call("tf2.3", {"action": "import", "source": "/a/b.h5"}, tmp_path)
    assert "first" in capfd.readouterr().err  # its output is in the log
    fake_environment("tf2.3", "kill -9 $$")
    with pytest.raises(MemoryError):
        call("tf2.3", {"action": "import", "source": "/a/b.h5"}, tmp_path)


def test_the_environment_inherits_nothing_that_changes_its_frameworks(tmp_path, monkeypatch):
    monkeypatch.setenv("TF2_BEHAVIOR", "1")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    fake_environment("tf2.3", "env > " + str(tmp_path / "seen") + ANSWER.format(answer="{}"))
    call("tf2.3", {"action": "import", "source": "x"}, tmp_path)
    seen = dict(line.split("=", 1) for line in (tmp_path / "seen").read_text().splitlines() if "=" in line)
    assert not {"TF2_BEHAVIOR", "PYTHONPATH", "KERAS_BACKEND"} & set(seen)
    assert seen["PYTHONHASHSEED"] == "0"
    assert seen["PATH"].startswith(str(toolchains.python("tf2.3").parent))


def test_arrays_go_there_and_come_back(tmp_path):
    words = np.array([b"alpha", b"be"], object)
    runs = [Run([np.arange(3), words], []), Run([np.zeros((2, 2), np.float32), words[:1]], [])]
    assert write_arrays(tmp_path, runs) == [2, 2]
    os.rename(tmp_path / "inputs.npz", tmp_path / "outputs.npz")
    back = read_arrays(tmp_path, [2, 2])
    assert back[0][0].tolist() == [0, 1, 2]
    assert back[0][1].tolist() == [b"alpha", b"be"]
    assert back[1][0].shape == (2, 2)


def test_a_build_that_fails_is_said_of_the_target_in_its_last_line(project, tmp_path, monkeypatch):
    """The interpreter is there, but cannot make environments (Debian's python3.8 without python3.8-venv, say)."""
    executable(
        tmp_path / "bin" / "python3.8", '[ "$1" = -c ] && echo 3.8 && exit 0; echo "Error: no ensurepip"; exit 1'
    )
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin")
    (project.folder / "models" / "old.h5").write_bytes(b"x")
    run = project.snakemake("converted/old.onnx", config={"models": {"old": {"toolchain": "tf2.3"}}})
    assert run.returncode != 0
    assert last_line(run).startswith(
        "converted/old.onnx: the environment of toolchain tf2.3 could not be built (Error: no ensurepip)"
    )
    assert not project.converted()


def test_make_environment_refuses_other_names(tmp_path):
    command = [sys.executable, str(ROOT / "scripts" / "make_environment.py"), "tf3", str(tmp_path / "ready")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.strip() == "tf3 is no legacy toolchain: write tf2.3 or tf1.15"


def test_bfloat16_cannot_go_there(tmp_path):
    import ml_dtypes

    with pytest.raises(ParameterError, match="leave toolchain out"):
        write_arrays(tmp_path, [Run([np.zeros(2, ml_dtypes.bfloat16)], [])])


def test_outputs_of_a_keras_model_are_chosen_by_name_or_tensor():
    entries = [["scores", "scores/Softmax:0"], ["level", "level/Sum:0"]]
    assert _chosen("output_nodes", [], entries) == entries
    assert _chosen("output_nodes", ["level/Sum", "scores"], entries) == [entries[1], entries[0]]
    with pytest.raises(
        ParameterError, match=r"output_nodes: other is none of the model's: write names of scores \(scores/"
    ):
        _chosen("output_nodes", ["other"], entries)
    with pytest.raises(ParameterError, match="name all of them"):
        _chosen("input_nodes", ["level"], entries)


# --- which toolchain cures a modern failure

OLD_CODE = {
    "import tensorflow.contrib.slim": "; if TensorFlow 1.15 had it, set toolchain: tf1.15",
    "import tensorflow as tf; tf.placeholder": "; if TensorFlow 1.15 had it, set toolchain: tf1.15",
    "from tensorflow.keras.layers.experimental.preprocessing import Rescaling": (
        "; if TensorFlow 2.3 had it, set toolchain: tf2.3"
    ),
    "from keras.layers.merge import concatenate": "; if Keras 2.3 had it, set toolchain: tf1.15",
    "import torch; torch.rfft": "; if torch 1.6 had it, set toolchain: tf2.3",
    "from torchvision.models.utils import load_state_dict_from_url": (
        "; if torchvision 0.7 had it, set toolchain: tf2.3"
    ),
    "import nowhere_at_all": "",
    "[].missing": "",
    "1 / 0": "",
}


@pytest.mark.parametrize("code", OLD_CODE)
def test_code_of_an_old_framework_is_told_from_other_mistakes(code):
    import_torchvision()
    with pytest.raises(Exception) as raised:  # noqa: B017, PT011
        exec(code, {})
    try:
        raise ParameterError("network_script: old.py raised something") from raised.value
    except ParameterError as error:
        assert toolchain_hint(error) == OLD_CODE[code]


def test_the_import_says_which_toolchain_runs_an_old_network_script(tmp_path):
    (tmp_path / "loss.py").write_text(
        "import torch\n\n\nclass Net(torch.nn.Linear):\n    def forward(self, x):\n        return torch.rfft(x, 1)\n"
    )
    (tmp_path / "layers.py").write_text("from torchvision.models.utils import load_state_dict_from_url\n")
    torch.save(torch.nn.Linear(4, 3).state_dict(), tmp_path / "a.pt")
    for script, part in (("loss.py", "has no attribute 'rfft'"), ("layers.py", "No module named 'torchvision.models.")):
        sentence = refused(
            "import_pytorch",
            tmp_path / "a.pt",
            tmp_path / "hub",
            network_script=str(tmp_path / script),
            network_name="Net",
            network_args="[4, 3]",
            input_shape="1,4",
        )
        assert part in sentence and sentence.endswith("had it, set toolchain: tf2.3")


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("trusted", [True, False])
def test_a_module_of_a_class_that_is_gone(tmp_path, old, trusted):
    """Not a question of trust: it cannot be loaded here at all."""
    import torchvision

    gone = type("ConvTranspose2d", (torch.nn.ConvTranspose2d,), {"__module__": "torchvision.ops.misc"})
    torchvision.ops.misc.ConvTranspose2d = gone
    try:
        # The format of releases before 1.6; later ones write zip files, and from 2.1 their byte order into these.
        torch.save(gone(3, 4, 2), tmp_path / "gone.pt", _use_new_zipfile_serialization=not old)
    finally:
        del torchvision.ops.misc.ConvTranspose2d
    sentence = refused(
        "import_pytorch", tmp_path / "gone.pt", tmp_path / "hub", input_shape="1,3,8,8", trusted=json.dumps(trusted)
    )
    assert "gone.pt names torchvision.ops.misc.ConvTranspose2d, which torch 2." in sentence
    assert ("set toolchain: tf2.3" in sentence) == old
    assert ("a newer release wrote it" in sentence) != old


def test_errors_that_are_each_others_causes_are_looked_at_once():
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert toolchain_hint(first) == ""
