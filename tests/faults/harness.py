"""A user's folder, runs of Snakemake in it, and what must be true of it after any fault.

Runs take their steps from one preloaded process of the harness, so that a run costs two seconds of CPU and not ten; it is
the same program that Snakemake starts for itself where a run has several steps, and it is killed like the others. Its
steps can be stopped at a moment of a phase (moments.py).
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from text_graphs import linear

__all__ = ["KINDS", "PHASES", "Preloaded", "Runs", "end", "fingerprint", "wait_until"]

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
PHASES = ("import", "export", "verification", "report", "publishing")
_TINY = {"convert_from": "models/tiny.pbtxt", "convert_to": "converted/tiny.onnx"}
_BERT = {"convert_from": "models/bert", "convert_to": "converted/bert.onnx"}
# Jobs of a run, by their kind; each has two targets.
KINDS = {
    "plain": (_TINY, {**_TINY, "convert_to": "converted/sub/tiny.tflite"}),
    "quantized": (
        {**_TINY, "convert_to": "converted/tiny.tflite", "quantization": {"type": "int8", "load": "models/data.npz"}},
        {**_TINY, "convert_to": "converted/sub/tiny.tflite", "quantization": {"type": "float16"}},
    ),
    "huggingface": (_BERT, {**_BERT, "convert_to": "converted/sub/bert.tflite", "batch": 1}),
}
# The preloaded processes that the steps of each kind are forked from.
_PRELOADED = {"plain": ["tensorflow"], "quantized": ["tensorflow"], "huggingface": ["torch", "torch+tensorflow"]}
_TIMES = ("cpu_seconds", "wall_seconds", "peak_memory_mb")


class Preloaded:
    """Preloaded processes (converter/running/fork_server.py) for runs of a kind; `kill` and they are there again."""

    def __init__(self, kind: str = "plain") -> None:
        self.folder = ""
        self._frameworks = _PRELOADED[kind]
        self._processes: list[subprocess.Popen] = []
        self.start()

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    def start(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="converter-")
        self._processes = [self._started(framework) for framework in self._frameworks]

    def _started(self, framework: str) -> subprocess.Popen:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.join(self.folder, framework))
            server.listen(128)
            return subprocess.Popen(
                [sys.executable, "-m", "faults.preloaded", framework, str(server.fileno())],
                pass_fds=[server.fileno()],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": f"{ROOT / 'workflow'}:{TESTS}", "PYTHONHASHSEED": "0"},
            )

    def stop(self, kill: bool = False) -> None:
        for process in self._processes:
            if kill:
                process.kill()
            process.stdin.close()
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def steps(self) -> list[int]:
        """Process ids of the steps that run in them."""
        return [step for pid in self.pids for step in _children(pid)]


def _children(pid: int) -> list[int]:
    """Of all threads: Snakemake starts its jobs from several."""
    try:
        lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    return [int(child) for text in lists for child in text.split()]


def descendants(pid: int) -> list[int]:
    found = []
    pending = [pid]
    while pending:
        children = _children(pending.pop())
        found += children
        pending += children
    return found


def _name_and_state(pid: int) -> tuple[str, str]:
    try:
        before, _, after = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    except OSError:  # it has just ended
        return "", ""
    return before.partition("(")[2], after.split()[0]


def fingerprint(folder: Path, parts: Sequence[str] = ("converted", "rejected", "reports")) -> dict[str, str]:
    """SHA-256 of everything below converted/ and rejected/, and reports without their times, by path."""
    found = {}
    for part in parts:
        for path in sorted((folder / part).rglob("*")) if (folder / part).is_dir() else []:
            if path.is_file() and path.name != ".snakemake_timestamp":
                data = path.read_bytes()
                if part == "reports":
                    data = _without_times(data)
                found[str(path.relative_to(folder))] = hashlib.sha256(data).hexdigest()
    return found


def _without_times(data: bytes) -> bytes:
    try:
        report = json.loads(data)
    except ValueError:
        return data
    for step in report.get("steps", []):
        for name in _TIMES:
            step.pop(name, None)
    return json.dumps(report, sort_keys=True).encode()


class Runs:
    """Folders that start alike, and the undisturbed outcome that all of them must come to.

    `lengths`: by phase, (seconds, changes to files) of its undisturbed occurrences.
    """

    def __init__(self, base: Path, preloaded: Preloaded, kind: str = "plain") -> None:
        self.base, self.preloaded, self.jobs = base, preloaded, KINDS[kind]
        self.targets = [job["convert_to"] for job in self.jobs]
        self._count = 0
        if kind == "huggingface":
            make = "import sys, pathlib, huggingface_models as m; m.bert(pathlib.Path(sys.argv[1]))"
            environ = {**os.environ, "PYTHONPATH": f"{ROOT / 'workflow'}:{TESTS}"}
            subprocess.run([sys.executable, "-c", make, base / "bert"], check=True, env=environ)
        undisturbed, again = self.folder(), self.folder()
        lengths = str(base / "lengths")
        self._must_end_well(undisturbed)  # the first one also waits for the preloaded process
        self._must_end_well(again, CONVERTER_LENGTHS=lengths)
        self.expected = fingerprint(undisturbed)
        reports = {f"reports/{target.removeprefix('converted/')}.json" for target in self.targets}
        if set(self.expected) != {*self.targets, *reports}:
            raise RuntimeError(f"the undisturbed run made {sorted(self.expected)}")
        if fingerprint(again) != self.expected:
            raise RuntimeError("two undisturbed runs differ")
        self.lengths = defaultdict(list)
        for line in Path(lengths).read_text().splitlines():
            phase, seconds, changes = line.split()
            self.lengths[phase].append((float(seconds), int(changes)))
        if set(self.lengths) < set(PHASES):
            raise RuntimeError(f"the undisturbed run went through {sorted(self.lengths)} only")

    def _must_end_well(self, folder: Path, **environment: str) -> None:
        run = self.finish(folder, **environment)
        if run.returncode:
            raise RuntimeError(f"the undisturbed run failed: {run.stderr[-2000:]}")

    def folder(self, path: Path | None = None) -> Path:
        """A new folder of a user who has run nothing yet."""
        self._count += 1
        path = path or self.base / f"run{self._count}"
        (path / "models").mkdir(parents=True)
        if (self.base / "bert").is_dir():
            shutil.copytree(self.base / "bert", path / "models" / "bert")
        (path / "models" / "tiny.pbtxt").write_text(linear())
        data = np.random.default_rng(1).uniform(-3, 3, (200, 2)).astype(np.float32)
        np.savez(path / "models" / "data.npz", x=data)
        (path / "jobs.json").write_text(json.dumps({"jobs": self.jobs}))
        return path

    def start(self, folder: Path, **environment: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), *self.targets]
        command += ["--cores", "1", "--configfile", "jobs.json"]
        environ = {**os.environ, "CONVERTER_PRELOADED": self.preloaded.folder, **environment}
        environ["PYTHONPATH"] = str(TESTS / "faults" / "site")
        return subprocess.Popen(
            command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip

    def finish(self, folder: Path, **environment: str) -> subprocess.CompletedProcess:
        """One plain run, to its end."""
        process = self.start(folder, **environment)
        out, err = process.communicate(timeout=1800)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def moment(self, phase: str, random_: random.Random) -> str:
        """For CONVERTER_MOMENT: anywhere in the phase, by the clock or by its changes to files."""
        seconds, changes = random_.choice(self.lengths[phase])
        if changes and random_.random() < 0.5:
            return f"{phase} change {random_.randint(1, changes)}"
        return f"{phase} seconds {random_.random() * 0.9 * seconds:.6f}"

    def start_until(self, folder: Path, moment: str, **environment: str) -> tuple[subprocess.Popen, int, str]:
        """A run, its step that was stopped at `moment`, and the phase of that step; (run, 0, "") where the run ended first."""
        process = self.start(folder, CONVERTER_MOMENT=moment, **environment)
        found: list[tuple[int, str]] = []
        wait_until(lambda: found.extend(self.stopped(process)) or found, process)
        return (process, *found[0]) if found else (process, 0, "")

    def stopped(self, process: subprocess.Popen) -> list[tuple[int, str]]:
        """Steps that stand still, and their phases."""
        pids = self.preloaded.steps() + descendants(process.pid)
        states = ((pid, *_name_and_state(pid)) for pid in pids)
        return [(pid, name) for pid, name, state in states if state == "T"]

    def resume(self, process: subprocess.Popen) -> str:
        """Let the run and all its steps go on to their end; what it wrote to stderr."""
        wait_until(lambda: [os.kill(pid, signal.SIGCONT) for pid, _ in self.stopped(process)] and False, process)
        return end(process)

    def wrong_now(self, folder: Path) -> list[str]:
        """What may not be there at any moment: a file below converted/ that is not one of the right ones, whole."""
        wrong = []
        for name, digest in fingerprint(folder, ["converted"]).items():
            if self.expected.get(name) != digest:
                wrong.append(f"{name} is not the right file")
        return wrong

    def wrong_in_the_end(self, folder: Path) -> list[str]:
        """After one plain run more: what is not as if nothing had happened."""
        run = self.finish(folder)
        wrong = [] if run.returncode == 0 else [f"the next run failed: {run.stderr.strip().splitlines()[-1:]}"]
        found = fingerprint(folder)
        wrong += [f"{name} differs" for name in self.expected if found.get(name) != self.expected[name]]
        wrong += [f"{name} is left over" for name in found if name not in self.expected]
        return wrong


def end(process: subprocess.Popen, seconds: float = 900.0) -> str:
    """Wait for a run to end; what it wrote to stderr."""
    try:
        return process.communicate(timeout=seconds)[1]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise


def wait_until(condition: Callable[[], object], process: subprocess.Popen, seconds: float = 900.0) -> bool:
    """False where the run ends first."""
    limit = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > limit:
            return False
        time.sleep(0.002)
    return True
