"""A step's own temporary directory, which goes when the step ends, or when the next one begins."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["own_directory"]

_PREFIX = "converter-step-"


@contextmanager
def own_directory() -> Iterator[str]:
    """The process's temporary directory, for all libraries, removed in the end; what killed processes left goes too."""
    _sweep()
    directory, lock = _locked_directory()
    before = tempfile.tempdir, os.environ.get("TMPDIR")
    tempfile.tempdir = os.environ["TMPDIR"] = directory
    try:
        yield directory
    finally:
        tempfile.tempdir = before[0]
        if before[1] is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before[1]
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def _locked_directory() -> tuple[str, int]:
    """A new directory and the descriptor that holds its lock, which ends with the process."""
    while True:
        directory = tempfile.mkdtemp(prefix=_PREFIX)
        try:
            lock = os.open(directory, os.O_RDONLY)
        except FileNotFoundError:  # swept between the two calls
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.isdir(directory):
            return directory, lock
        os.close(lock)


def _sweep() -> None:
    """Remove the directories of this user's steps that nobody holds the lock of."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            if path.is_symlink() or path.stat().st_uid != os.getuid():
                continue
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:  # another process sweeps too
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        except BlockingIOError:
            pass  # in use
        finally:
            os.close(lock)
