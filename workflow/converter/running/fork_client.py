"""Starting and ending the preloaded processes of one run (fork_server.py); steps find them by CONVERTER_PRELOADED."""

from __future__ import annotations

import atexit
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable

from converter.installation import PACKAGES
from converter.running.fork_server import KINDS
from converter.running.step_command import environment as step_environment

__all__ = ["start"]

# What Snakemake sets for a rule's shell, of one thread each. OpenMP reads it once, when torch is imported; two threads that
# wait for each other at full speed on two busy cores made a forward pass cost up to ten times its CPU seconds.
_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def process_of(step: str) -> str:
    """The preloaded process that a step asks for: the NAME of "@NAME SCRIPT", as workflow/bin/step takes it; "" for none."""
    first = shlex.split(step)[:1]
    return first[0][1:] if first and first[0].startswith("@") else ""


def start(steps: Iterable[str]) -> list[subprocess.Popen]:
    """Start one process for each framework that at least two of `steps` need; one alone gains nothing.

    They end by themselves when the pipe to their standard input closes, that is when this process does.
    """
    counts = Counter(map(process_of, steps))
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
    environment = {**os.environ, **step_environment(), **_THREADS, "PYTHONPATH": str(PACKAGES)}
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
