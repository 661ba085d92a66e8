"""Runs in one folder: what a killed run leaves behind, its locks and its steps, must not stand in the next one's way.

Snakemake notes the files of a run below .snakemake/locks and refuses another run of the same files. The notes outlive a
killed run and then ask for `--unlock`; so do its steps, which go on writing (Snakemake 9.27).
"""

from __future__ import annotations

import _thread
import contextlib
import fcntl
import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

__all__ = ["end_with_run", "in_run", "mark_run", "unwatched"]

_RUN = "CONVERTER_RUN"
_SECONDS = 0.5
_held = []
_watches: list[_Watch] = []


def mark_run(alone: bool, temporary: Path) -> None:
    """Make this process the run that steps belong to. `alone`: not a part of another run (on another machine, say).

    Such a run holds a shared lock of the kernel's, which ends with the process however that ends: a run that finds
    nobody else holding it removes the notes of dead ones, and their folders in the system's temporary directory, of which
    this run's is `temporary`. Runs of different files side by side stay possible.
    """
    os.environ[_RUN] = str(os.getpid())
    if not alone:
        return
    folder = Path(".snakemake")
    folder.mkdir(exist_ok=True)
    file = open(folder / "converter.lock", "a+")  # noqa: SIM115 - closed, and so released, when the process ends
    _held.append(file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pass  # another run is alive: Snakemake compares its notes with ours
    else:
        for note in (folder / "locks").glob("*.lock"):
            note.unlink(missing_ok=True)
        file.seek(0)
        for left in file.read().splitlines():
            with contextlib.suppress(OSError):  # gone, or in use by somebody else after all
                os.rmdir(left)
        file.truncate(0)
    with contextlib.suppress(OSError):  # a full disk: then the folder stays
        os.write(file.fileno(), f"{temporary}\n".encode())
    fcntl.flock(file, fcntl.LOCK_SH)


# A thread that lives answers at once, however busy the machine; a step that went on without would keep its rights.
_ANSWER_SECONDS = 30.0


def end_with_run() -> None:
    """End this step when its run is gone, before the next run can start the same step. Alone at a shell it goes on."""
    if run := os.environ.get(_RUN):
        # Ctrl-C at the run reaches its steps too: they end at once, wherever they are, and not at their next line of Python.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _watches.append(_Watch(int(run)))


@contextlib.contextmanager
def unwatched() -> Iterator[None]:
    """No thread of this module's runs in between: one that is there already would keep the rights that the step gives up."""
    for watch in _watches:
        watch.stop()
    try:
        yield
    finally:
        for watch in _watches:
            watch.start()


def in_run() -> bool:
    """Whether Snakemake started this step, and not somebody at a shell."""
    return _RUN in os.environ


class _Watch:
    """A thread that ends this process when another one has ended."""

    def __init__(self, process: int) -> None:
        self._process, self._descriptor = process, None
        # Asked for now: a confined step may not send signals, not even the one that only asks.
        if hasattr(os, "pidfd_open"):
            try:
                self._descriptor = os.pidfd_open(process)
            except ProcessLookupError:
                os._exit(1)
            except OSError:  # before Linux 5.3
                pass
        self.start()

    def start(self) -> None:
        self._stopping, self._stopped = _thread.allocate_lock(), _thread.allocate_lock()
        self._stopping.acquire()
        self._stopped.acquire()
        # Not threading.Thread, which waits without end for a thread that dies of too little memory at once (Python 3.11).
        _thread.start_new_thread(self._watch, ())

    def stop(self) -> None:
        """Raises MemoryError where the thread does not answer: it has died of too little memory, in the midst of a function."""
        self._stopping.release()
        if not self._stopped.acquire(timeout=_ANSWER_SECONDS):
            raise MemoryError("the thread that watches the run does not answer")

    def _watch(self) -> None:
        while self._is_alive():
            if self._stopping.acquire(timeout=_SECONDS):
                self._stopped.release()
                return
        os._exit(1)

    def _is_alive(self) -> bool:
        if self._descriptor is not None:
            return not select.select([self._descriptor], [], [], 0)[0]
        try:
            os.kill(self._process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # alive, and somebody else's
        return True
