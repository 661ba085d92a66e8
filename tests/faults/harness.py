"""A user's folder, runs of Snakemake in it, and what must be true of it after any fault.

Runs take their steps from one preloaded process of the harness, so that a run costs two seconds of CPU and not ten; it is
the same program that Snakemake starts for itself where a run has several steps, and it is killed like the others.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from text_graphs import linear

__all__ = ["Preloaded", "Runs", "fingerprint"]

ROOT = Path(__file__).resolve().parents[2]
TARGETS = ("converted/tiny.onnx", "converted/sub/tiny.tflite")
_CONFIG = {"jobs": [{"convert_from": "models/tiny.pbtxt", "convert_to": "converted/sub/tiny.tflite"}]}
_TIMES = ("cpu_seconds", "wall_seconds", "peak_memory_mb")


class Preloaded:
    """A preloaded TensorFlow process (converter/preload.py); `kill` and it is there again."""

    def __init__(self) -> None:
        self.folder = ""
        self._process: subprocess.Popen | None = None
        self.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="converter-")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.join(self.folder, "tensorflow"))
            server.listen(128)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "converter.preload", "tensorflow", str(server.fileno())],
                pass_fds=[server.fileno()],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": str(ROOT / "workflow"), "PYTHONHASHSEED": "0"},
            )

    def stop(self, kill: bool = False) -> None:
        if kill:
            self._process.kill()
        self._process.stdin.close()
        self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def steps(self) -> list[int]:
        """Process ids of the steps that run in it."""
        return _children(self.pid)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def descendants(pid: int) -> list[int]:
    found = []
    pending = [pid]
    while pending:
        children = _children(pending.pop())
        found += children
        pending += children
    return found


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def fingerprint(folder: Path) -> dict[str, str]:
    """SHA-256 of everything below converted/ and rejected/, and reports without their times, by path."""
    found = {}
    for part in ("converted", "rejected", "reports"):
        for path in sorted((folder / part).rglob("*")) if (folder / part).is_dir() else []:
            if path.is_file() and path.name != ".snakemake_timestamp":
                data = path.read_bytes()
                if part == "reports":
                    data = _without_times(data)
                found[str(path.relative_to(folder))] = hashlib.sha256(data).hexdigest()
    return found


def _without_times(data: bytes) -> bytes:
    report = json.loads(data)
    for step in report.get("steps", []):
        for name in _TIMES:
            step.pop(name, None)
    return json.dumps(report, sort_keys=True).encode()


class Runs:
    """Folders that start alike, and the undisturbed outcome that all of them must come to."""

    def __init__(self, base: Path, preloaded: Preloaded | None) -> None:
        self.base, self.preloaded = base, preloaded
        self._count = 0
        self.expected: dict[str, str] = {}
        undisturbed = self.folder()
        run = self.finish(undisturbed)
        if run.returncode:
            raise RuntimeError(f"the undisturbed run failed: {run.stderr[-2000:]}")
        self.expected = fingerprint(undisturbed)
        if set(self.expected) != {*TARGETS, "reports/tiny.onnx.json", "reports/sub/tiny.tflite.json"}:
            raise RuntimeError(f"the undisturbed run made {sorted(self.expected)}")

    def folder(self, path: Path | None = None) -> Path:
        """A new folder of a user who has run nothing yet."""
        self._count += 1
        path = path or self.base / f"run{self._count}"
        (path / "models").mkdir(parents=True)
        (path / "models" / "tiny.pbtxt").write_text(linear())
        (path / "jobs.json").write_text(json.dumps(_CONFIG))
        return path

    def start(self, folder: Path, **environment: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), *TARGETS]
        command += ["--cores", "1", "--configfile", "jobs.json"]
        environ = {**os.environ, **environment}
        if self.preloaded is not None:
            environ["CONVERTER_PRELOADED"] = self.preloaded.folder
        return subprocess.Popen(
            command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip

    def finish(self, folder: Path) -> subprocess.CompletedProcess:
        """One plain run, to its end."""
        process = self.start(folder)
        out, err = process.communicate(timeout=1800)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def wrong_now(self, folder: Path) -> list[str]:
        """What may not be there at any moment: a file below converted/ that is not one of the right ones, whole."""
        wrong = []
        for name, digest in fingerprint(folder).items():
            if name.startswith("converted/") and self.expected.get(name) != digest:
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


def wait_until(condition, process: subprocess.Popen, seconds: float = 900.0) -> bool:
    """False where the run ends first."""
    limit = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > limit:
            return False
        time.sleep(0.001)
    return True
