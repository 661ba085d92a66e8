"""Kills, full disks, read-only folders, two runs at once, clocks that jump: right files or none, and the next run finishes.

`make test-faults` does the long ones; the sample here takes about a minute.
"""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import ROOT
from faults.harness import KINDS, Preloaded, Runs, end, fingerprint
from faults.kills import MOMENTS, kills
from text_graphs import linear

YEAR = 365 * 86400
REST = ["export", "verification", "report"]
# How often the disk fills up in each phase.
TURNS = {"import": 1, "publishing": 1, **dict.fromkeys(REST, 4)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    preloaded = Preloaded()
    try:
        yield Runs(tmp_path_factory.mktemp("faults"), preloaded)
    finally:
        preloaded.stop()


def test_kills(runs: Runs) -> None:
    fallen, wrong = kills(runs, count=9, each=0, seed=3, chain=3)
    assert wrong == []
    assert sum(fallen[moment] for moment in MOMENTS) >= 9


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["--kills", "200", "--each", "20", "--chain", "5"],
        ["--kills", "40", "--each", "4", "--chain", "4", "--kind", "quantized"],
        ["--kills", "40", "--each", "4", "--chain", "4", "--kind", "huggingface"],
    ],
    ids=KINDS,
)
def test_many_kills(options: list[str]) -> None:
    command = [sys.executable, "-m", "faults", *options]
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "workflow")}
    run = subprocess.run(command, cwd=ROOT / "tests", env=environ, capture_output=True, text=True)
    print(run.stdout)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    if os.geteuid() or sys.platform != "linux":
        pytest.skip("only root on Linux may mount")
    folder.mkdir(parents=True, exist_ok=True)
    if subprocess.run(["mount", *options, str(folder)], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> None:
    """Leave no byte."""
    with open(disk / "ballast", "ab", buffering=0) as ballast:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    ballast.write(b"x" * size)
            except OSError:
                continue


@contextmanager
def small_disk(runs: Runs, folder: Path, megabytes: int = 4) -> Iterator[Path]:
    """A run's folder on a disk of its own."""
    with mounted(folder, "-t", "tmpfs", "-o", f"size={megabytes}m", "none"):
        yield runs.folder(folder / "run")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["quantized", "huggingface"])
def test_full_disk_while_targets_of_other_kinds_are_published(kind: str, tmp_path: Path) -> None:
    preloaded = Preloaded(kind)
    try:
        (tmp_path / "runs").mkdir()
        runs = Runs(tmp_path / "runs", preloaded, kind)
        for turn in range(4):
            with small_disk(runs, tmp_path / f"disk{turn}", megabytes=8) as folder:
                full_once(runs, folder, runs.moment("publishing", random.Random(turn)), left=4096 * (turn % 2))
    finally:
        preloaded.stop()


def full_once(runs: Runs, folder: Path, moment: str, left: int) -> None:
    """The run's disk is full but for `left` bytes from `moment` on; then there is room again."""
    process, _, fell = runs.start_until(folder, moment)
    ballast = folder.parent / "ballast"
    fill(folder.parent)
    if left:
        os.truncate(ballast, ballast.stat().st_size - left)
    errors = runs.resume(process)
    assert runs.wrong_now(folder) == []
    if process.returncode:
        one_sentence(errors)
    print(f"full disk during {fell or 'nothing: it ended before'}: exit status {process.returncode}")
    ballast.unlink()
    assert runs.wrong_in_the_end(folder) == []


def one_sentence(errors: str) -> None:
    """The last word is no traceback, and names what is not made."""
    last = (errors.strip().splitlines() or [""])[-1]
    assert "Traceback" not in errors, errors[-3000:]
    assert "converted/" in last or "cannot be written" in last or "No space left" in last, errors[-3000:]


@pytest.mark.parametrize("phase", ["import", "publishing", *(pytest.param(p, marks=pytest.mark.slow) for p in REST)])
def test_full_disk(runs: Runs, phase: str, tmp_path: Path) -> None:
    """No byte is left from a moment in the phase on; and once a few are, by turns."""
    random_ = random.Random(phase)
    for turn in range(TURNS[phase]):
        with small_disk(runs, tmp_path / f"disk{turn}") as folder:
            full_once(runs, folder, runs.moment(phase, random_), left=4096 * turn * (turn % 2))


@pytest.mark.parametrize("name", ["converted", "reports", "intermediate"])
def test_output_folder_that_cannot_be_written(runs: Runs, name: str) -> None:
    folder = runs.folder()
    with mounted(folder / name, "-t", "tmpfs", "-o", "size=1m,ro", "none"):
        process = runs.start(folder)
        errors = end(process)
        assert process.returncode == 1 and not [path for path in folder.glob("converted/**/*") if path.is_file()]
    assert errors.strip().splitlines()[-1] == f"{name} cannot be written: give rights to this folder, and run it again"
    assert "Traceback" not in errors
    assert runs.wrong_in_the_end(folder) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "phase"),
    [("converted", "export"), ("converted", "publishing"), ("reports", "import"), ("reports", "report"),
     ("intermediate", "publishing"), ("logs", "import")],
)  # fmt: skip
def test_output_folder_that_turns_read_only(runs: Runs, name: str, phase: str) -> None:
    """While a step is before its first change to a file, so that the system lets it turn."""
    folder = runs.folder()
    with mounted(folder / name, "-t", "tmpfs", "-o", "size=1m", "none"):
        process, _, fell = runs.start_until(folder, f"{phase} change 1")
        assert fell == phase
        if subprocess.run(["mount", "-o", "remount,ro", str(folder / name)], capture_output=True).returncode:
            # Something is open for writing there, logs mostly: a full disk instead.
            fill(folder / name)
        errors = runs.resume(process)
        assert runs.wrong_now(folder) == []
        print(f"{name}/ read-only during {phase}: exit status {process.returncode} {errors.strip().splitlines()[-1:]}")
        if process.returncode:
            one_sentence(errors)
    assert runs.wrong_in_the_end(folder) == []


def test_two_runs_at_once(runs: Runs) -> None:
    folder = runs.folder()
    first, second = runs.start(folder), runs.start(folder)
    messages = [end(first), end(second)]
    assert runs.wrong_now(folder) == []
    assert 0 in (first.returncode, second.returncode), messages
    assert "Traceback" not in "".join(messages)
    assert runs.wrong_in_the_end(folder) == []


@pytest.mark.parametrize("jump", [YEAR, -YEAR])
def test_a_clock_that_jumps(runs: Runs, jump: float) -> None:
    """Everything made so far seems to be of next year, or of last year, while the source is changed today."""
    folder = runs.folder()
    source = folder / "models" / "tiny.pbtxt"
    source.write_text(linear((9.0, 9.5, -3.0, 0.5)))
    end(runs.start(folder))
    assert set(fingerprint(folder)) == set(runs.expected) and runs.wrong_now(folder)
    then = time.time() + jump
    for path in folder.rglob("*"):
        os.utime(path, (then, then))
    source.write_text(linear())
    if jump < 0:
        os.utime(source, (then - YEAR, then - YEAR))
    assert runs.wrong_in_the_end(folder) == []


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["import", "export", "verification", "report"])
def test_out_of_memory(runs: Runs, phase: str) -> None:
    """From a moment in the phase on a step gets so many MB more, and no others."""
    random_ = random.Random(phase)
    for megabytes in (0, 1, 4, 16, 40, 80):
        folder = runs.folder()
        process, step, fell = runs.start_until(folder, runs.moment(phase, random_))
        if step:
            used = next(
                int(line.split()[1]) << 10
                for line in Path(f"/proc/{step}/status").read_text().splitlines()
                if line.startswith("VmData:")
            )
            resource.prlimit(step, resource.RLIMIT_DATA, (used + (megabytes << 20),) * 2)
        errors = runs.resume(process)
        assert runs.wrong_now(folder) == []
        if process.returncode:
            one_sentence(errors)
        last = errors.strip().splitlines()[-1] if process.returncode else ""
        print(f"{megabytes} MB left during {fell or 'nothing'}: exit status {process.returncode} {last}")
        assert runs.wrong_in_the_end(folder) == []


@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [100, 300, 500, 700, 900])
def test_too_little_memory_from_the_start(runs: Runs, megabytes: int) -> None:
    folder = runs.folder()
    process = runs.start(folder, CONVERTER_STEP_MEMORY_MB=str(megabytes))
    errors = end(process)
    assert runs.wrong_now(folder) == []
    print(f"{megabytes} MB: exit status {process.returncode} {errors.strip().splitlines()[-1:]}")
    if process.returncode:
        one_sentence(errors)
        assert "memory" in errors.strip().splitlines()[-1]
    assert runs.wrong_in_the_end(folder) == []
