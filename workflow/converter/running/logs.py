"""Logs: what libraries and models wrote while a step worked, made harmless for a terminal when the run is over.

A model may print (prim::Print of TorchScript, PrintV2 of TensorFlow), also what a terminal obeys.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from converter.escape import printable

__all__ = ["clean_logs", "output_to_log"]


def clean_logs(since: float, prefix: str = "") -> None:
    """Show what is not printable as `\\x1b` in all logs written since that time (seconds since the epoch).

    prefix: of the module that the workflow is.
    """
    for path in sorted(Path(prefix, "logs").rglob("*.log")):
        with contextlib.suppress(OSError):  # a disk that is full, or cannot be written: a log is no reason to fail
            if path.is_symlink() or path.stat().st_mtime < since:
                continue
            text = path.read_bytes().decode("utf-8", "backslashreplace")
            lines = text.split("\n")
            if not all(line.isprintable() for line in lines):
                path.write_text("\n".join(map(_harmless, lines)), encoding="utf-8")


def _harmless(line: str) -> str:
    return "\t".join(map(printable, line.split("\t")))


@contextlib.contextmanager
def output_to_log() -> Iterator[None]:
    """Inside, what this process writes to standard output goes where its errors go, which is the log: also what libraries do."""
    _flush()
    output = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        _flush()
        os.dup2(output, 1)
        os.close(output)


def _flush() -> None:
    sys.stdout.flush()
    ctypes.CDLL(None).fflush(None)
