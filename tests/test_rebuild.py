"""Make-like: nothing is made again without a cause, a cause makes again exactly what depends on it, a killed run continues."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, Project
from text_graphs import linear

TARGETS = ["converted/a.onnx", "converted/a.tflite", "converted/b.onnx"]
JOBS = [{"convert_from": "models/b.pbtxt", "convert_to": "converted/b.onnx", "onnx_opset": 12}]


class Copy(Project):
    """A project with its own copy of the program, which a test may change."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        super().__init__(folder)
        self.root = folder / "program"
        for name in ("Snakefile", "environment.yml"):
            self.root.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, self.root)
        for name in ("rules", "scripts", "workflow", "configs", "profiles"):
            shutil.copytree(ROOT / name, self.root / name, ignore=shutil.ignore_patterns("__pycache__"))

    def command(self, *arguments: str, jobs: list[dict] = JOBS) -> list[str]:
        config = self.folder / "config.json"
        config.write_text(json.dumps({"jobs": jobs}))
        program = [sys.executable, "-m", "snakemake", "--snakefile", str(self.root / "Snakefile"), *arguments]
        return [*program, "--configfile", str(config)]

    def run(self, *arguments: str, jobs: list[dict] = JOBS, **environment: str) -> subprocess.CompletedProcess:
        environment = {**os.environ, **environment}
        command = self.command(*arguments, jobs=jobs)
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=900)

    def planned(self, **options) -> set[str]:
        """What a run would do: "read SOURCE" for each import, NAME for each target, which is written and published."""
        run = self.run(*TARGETS, "--dry-run", "--quiet", "host", **options)
        assert run.returncode == 0, run.stderr
        output = run.stdout + run.stderr
        read, write, publish = (
            set(re.findall(rf"^(?:Job \d+: )?{verb} (?:converted/)?(\S+)$", output, re.MULTILINE))
            for verb in ("read", "write", "publish")
        )
        assert write == publish and (write or "Nothing to be done" in output), output
        return {f"read {source}" for source in read} | write


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Copy:
    """All targets made once; tests change causes and put them back."""
    project = Copy(tmp_path_factory.mktemp("rebuild") / "project")
    for name in "ab":
        (project.folder / "models" / f"{name}.pbtxt").write_text(linear())
    run = project.run(*TARGETS)
    assert run.returncode == 0, run.stderr
    return project


def test_one_import_serves_all_targets_of_a_model(made: Copy):
    hubs = list((made.folder / "intermediate").glob("*-protobuf-*"))
    assert len(hubs) == 2
    onnx, tflite = made.report("a.onnx"), made.report("a.tflite")
    assert onnx["steps"][0] == tflite["steps"][0] and onnx["steps"][0]["name"] == "import_protobuf"
    assert onnx["source"] == tflite["source"]
    assert made.report("b.onnx")["opset"] == 12


def test_times_and_unrelated_files_are_no_cause(made: Copy):
    for path in [*(made.folder / "models").iterdir(), *made.root.glob("scripts/*.py")]:
        os.utime(path)
    with open(made.root / "environment.yml", "a") as file:
        file.write("# another comment\n")
    (made.root / "scripts" / "import_other.py").write_text("")
    assert made.planned() == set()


def test_a_changed_byte_is_a_cause_at_any_time_and_so_is_a_parameter(made: Copy):
    """The byte makes a's targets again, although its file is older than ever; the parameter only b's."""
    source = made.folder / "models" / "a.pbtxt"
    text, jobs = source.read_text(), [{**JOBS[0], "onnx_opset": 13}]
    source.write_text(text.replace("float_val: 3.0", "float_val: 4.0"))
    os.utime(source, (0, 0))
    try:
        assert made.planned(jobs=jobs) == {"read models/a.pbtxt", "a.onnx", "a.tflite", "b.onnx"}
    finally:
        source.write_text(text)


def test_changed_code_makes_again_what_runs_it(made: Copy):
    script = made.root / "workflow" / "converter" / "tf" / "onnx" / "export.py"
    text = script.read_text()
    script.write_text(text + "# changed\n")
    try:
        assert made.planned() == {"a.onnx", "b.onnx"}
    finally:
        script.write_text(text)


# What a process starts and which frameworks it imports, written when it ends.
WATCH = """
import atexit, os, sys
seen = []
def watch(event, arguments):
    if event == "subprocess.Popen":
        seen.append(os.path.basename(str(arguments[0])))
    elif event in ("os.posix_spawn", "os.fork", "os.exec", "os.system"):
        seen.append(event)
def write():
    loaded = [name for name in ("tensorflow", "torch", "keras", "onnx") if name in sys.modules]
    with open(os.environ["WATCHED"], "a") as file:
        file.writelines(word + chr(10) for word in seen + loaded)
sys.addaudithook(watch)
atexit.register(write)
"""


def test_a_run_with_nothing_to_do_starts_no_step_and_no_framework(made: Copy, tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    watched = tmp_path / "watched"
    environment = {"PYTHONPATH": str(tmp_path), "WATCHED": str(watched)}
    assert made.run(*TARGETS, **environment).returncode == 0
    # Snakemake asks for the processor, and its plugin for Slurm whether that is here.
    assert set(watched.read_text().split()) <= {"uname", "which", "scontrol"}
    (made.folder / "converted" / "a.tflite").unlink()
    assert made.run(*TARGETS, **environment).returncode == 0
    assert "bash" in watched.read_text().split()


def test_another_version_of_a_library_makes_again_what_uses_it(made: Copy, tmp_path: Path):
    """As does a file that was deleted."""
    (tmp_path / "tf2onnx-99.dist-info").mkdir()
    (tmp_path / "tf2onnx-99.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: tf2onnx\nVersion: 99\n")
    kept = (made.folder / "converted" / "a.tflite").rename(tmp_path / "a.tflite")
    try:
        assert made.planned(PYTHONPATH=str(tmp_path)) == {"a.onnx", "b.onnx", "a.tflite"}
    finally:
        os.replace(kept, made.folder / "converted" / "a.tflite")


def test_a_killed_step_is_reported_and_a_killed_run_continues(made: Copy, tmp_path: Path, monkeypatch):
    """SIGKILL in the middle of an import, as the kernel does when memory ends: first to the step, then to the whole run.

    The steps of a killed run end too, and the same command then finishes the work without `--unlock`, and cleans up.
    """
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (made.folder / "models" / "c.pbtxt").write_text(linear())
    run, steps = import_of_c(made)
    os.kill(steps[0], signal.SIGKILL)
    _, errors = run.communicate()
    sentence = "converted/c.onnx: a step was ended before it finished (killed, crashed, or out of memory or disk): run it again"
    assert run.returncode == 1 and errors.splitlines()[-1].startswith(sentence)
    assert made.report("c.onnx")["status"] == "failed"

    run, steps = import_of_c(made)
    second = made.run("converted/c.onnx")
    assert second.returncode == 1 and "cannot be locked" in second.stderr
    assert steps_of(run.pid), "the import ended before the run could be killed"
    run.kill()
    run.communicate()
    wait_for(lambda: not any(map(is_alive, steps)))
    assert list(tmp_path.glob("snakemake*"))
    again = made.run("converted/c.onnx")
    assert again.returncode == 0, again.stderr
    assert made.report("c.onnx")["status"] == "verified"
    assert not list(tmp_path.iterdir())


def import_of_c(made: Copy) -> tuple[subprocess.Popen, list[int]]:
    """A run that is just importing c, and its steps."""
    command = made.command("converted/c.onnx")
    run = subprocess.Popen(command, cwd=made.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: steps_of(run.pid) or run.poll() is not None)
    steps = steps_of(run.pid)
    assert steps, run.communicate()
    return run, steps


def wait_for(condition, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def steps_of(run: int) -> list[int]:
    """Process ids of the import steps of a run, which names itself in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            if (
                b"import_protobuf" in (folder / "cmdline").read_bytes()
                and f"CONVERTER_RUN={run}".encode() in environment
            ):
                found.append(int(folder.name))
        except OSError:
            continue  # ended meanwhile, or somebody else's
    return found


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
