"""How much memory and time a step may take."""

from __future__ import annotations

import _thread
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

__all__ = ["Limits", "limit_memory", "limit_time", "limits_for"]

# A step that reads or writes `size` bytes: generous, so that only what runs wild meets a limit.
_SECONDS, _SECONDS_PER_MB = 1800, 10
_MEMORY, _MEMORY_PER_BYTE = 8 << 30, 24
# After its time a step says so and ends; if it cannot (all threads stand still in a library), the kernel ends it.
_GRACE_SECONDS = 30


class Limits:
    """`seconds` of wall time, `memory` in bytes of writable private pages (RLIMIT_DATA: reservations do not count)."""

    def __init__(self, seconds: int, memory: int) -> None:
        self.seconds, self.memory = seconds, memory


def limits_for(size: int) -> Limits:
    """The limits for a model of `size` bytes; CONVERTER_STEP_SECONDS and CONVERTER_STEP_MEMORY_MB replace them, 0 lifts one."""
    seconds = _environment("CONVERTER_STEP_SECONDS")
    memory = _environment("CONVERTER_STEP_MEMORY_MB")
    return Limits(
        _SECONDS + _SECONDS_PER_MB * (size // 1_000_000) if seconds is None else seconds,
        _MEMORY + _MEMORY_PER_BYTE * size if memory is None else memory * 1_000_000,
    )


def _environment(name: str) -> int | None:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else None


def limit_time(limits: Limits, on_timeout: Callable[[], object]) -> None:
    """`on_timeout` is called in a thread before this process ends with status 1."""
    if limits.seconds:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, limits.seconds + _GRACE_SECONDS)
        # Not threading.Thread, which waits without end for a thread that dies of too little memory at once (Python 3.11).
        _thread.start_new_thread(_end_after, (limits.seconds, on_timeout))


def limit_memory(limits: Limits) -> None:
    """Raises MemoryError where this process holds more memory already."""
    if limits.memory:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        allowed = limits.memory if hard == resource.RLIM_INFINITY else min(limits.memory, hard)
        if _data_bytes() > allowed:
            raise MemoryError(f"{_data_bytes() / 1e6:.0f} MB are in use already")
        with suppress(ValueError):  # somebody set a lower one meanwhile: that holds
            resource.setrlimit(resource.RLIMIT_DATA, (allowed, hard))


def _data_bytes() -> int:
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii")
    except FileNotFoundError:  # not Linux
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmData:")), 0)


def _end_after(seconds: int, on_timeout: Callable[[], object]) -> None:
    time.sleep(seconds)
    try:
        on_timeout()
    finally:
        sys.stderr.flush()
        shutil.rmtree(os.environ["TMPDIR"], ignore_errors=True)
        os._exit(1)
