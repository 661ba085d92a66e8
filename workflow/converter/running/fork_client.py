"""Starting and ending the preloaded processes of one run (fork_server.py); steps find them by CONVERTER_PRELOADED."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from converter import formats
from converter.running.fork_server import KINDS

__all__ = ["start"]

# The source format in a hub's folder, as planning names it.
_HUB = re.compile(r"\bintermediate/[^/ ]*-([a-z0-9_]+)-[0-9a-f]{12}(?![^/ ])")
_PACKAGES = Path(__file__).resolve().parents[2]
# What Snakemake sets for a rule's shell, of one thread each. OpenMP reads it once, when torch is imported; two threads that
# wait for each other at full speed on two busy cores made a forward pass cost up to ten times its CPU seconds.
_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def kind_of(rule: str, key: str) -> str | None:
    """Which preloaded process a job would use: by its rule and the hub it reads or writes; None for short steps."""
    hub = _HUB.search(key)
    if hub is None or hub[1] not in formats.sources():
        return None
    framework = formats.source(hub[1]).framework
    if rule.startswith("import_"):
        return formats.framework(framework).module or None
    target = next((entry for entry in formats.targets().values() if entry.script == rule), None)
    exporter = target.exporters.get(framework) if target else None
    return exporter.process if exporter else None


def start(jobs: Iterable[tuple[str, str]]) -> list[subprocess.Popen]:
    """Start one process for each framework that at least two of `jobs` (rule, hub) need; one step alone gains nothing.

    They end by themselves when the pipe to their standard input closes, that is when this process does.
    """
    counts = Counter(kind_of(rule, key) for rule, key in jobs)
    wanted = [kind for kind in KINDS if counts[kind] > 1]
    # The program that started this run may keep processes for several runs.
    if not wanted or not hasattr(os, "pidfd_open") or "CONVERTER_PRELOADED" in os.environ:
        return []
    folder = tempfile.mkdtemp(prefix="converter-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["CONVERTER_PRELOADED"] = folder
    return [_start(kind, os.path.join(folder, kind)) for kind in wanted]


def _start(kind: str, path: str) -> subprocess.Popen:
    """The socket is listening before the process is there, so that no step can come too early."""
    environment = {**os.environ, **_THREADS, "PYTHONPATH": str(_PACKAGES)}
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(128)
        return subprocess.Popen(
            # -P: the working directory holds strangers' files, none of which is a module that a library may import.
            [sys.executable, "-P", "-m", "converter.running.fork_server", kind, str(server.fileno())],
            pass_fds=[server.fileno()],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
