"""In the steps of a run: a process says what it is doing, by its name, and can be made to stand still at a moment of that.

CONVERTER_MOMENT in a run's environment is "PHASE seconds 0.012", so long after the phase began, by a timer of the
kernel's, which also strikes inside of libraries; or "PHASE change 3", before its third change to a file. The step is
stopped there (SIGSTOP), so that whoever watches knows where it is when it is killed, or when the disk fills up.
CONVERTER_LENGTHS names a file to which each phase adds a line when it ends: its name, its seconds, its changes.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import sys
import time

__all__ = ["DONE", "enter"]

DONE = "done"
_PR_SET_NAME = 15
_CLOCK_MONOTONIC = 1
_CHANGES = {"os.rename", "os.link", "os.symlink", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.utime"}
_WRITES = os.O_WRONLY | os.O_RDWR
_libc = ctypes.CDLL(None, use_errno=True)
_state = {"phase": "", "began": 0.0, "changes": 0, "stop before": 0, "hooked": False, "lengths": None}


def enter(phase: str) -> None:
    """The process is in `phase` from now on."""
    if _state["phase"] == phase:
        return
    if _state["lengths"] is None and (path := os.environ.get("CONVERTER_LENGTHS")):
        # Once, and early: a step that is confined opens no files elsewhere.
        _state["lengths"] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    if _state["lengths"] is not None and _state["phase"]:
        line = f"{_state['phase']} {time.monotonic() - _state['began']:.6f} {_state['changes']}\n"
        os.write(_state["lengths"], line.encode())
    _libc.prctl(_PR_SET_NAME, phase.encode())
    _state.update({"phase": phase, "began": time.monotonic(), "changes": 0, "stop before": 0})
    if not _state["hooked"]:
        sys.addaudithook(_hook)
        _state["hooked"] = True
    wanted, kind, value = os.environ.get("CONVERTER_MOMENT", "- - -").split()
    if wanted != phase:
        return
    if kind == "change":
        _state["stop before"] = int(value)
    else:
        _stop_after(float(value))


def _hook(event: str, arguments: tuple) -> None:
    if event == "open":
        if not isinstance(arguments[2], int) or not arguments[2] & _WRITES:
            return
    elif event not in _CHANGES:
        return
    _state["changes"] += 1
    if _state["changes"] == _state["stop before"]:
        os.kill(os.getpid(), signal.SIGSTOP)


def _stop_after(seconds: float) -> None:
    """timer_create(2) with SIGSTOP for its signal."""
    event = ctypes.create_string_buffer(struct.pack("@Pii", 0, signal.SIGSTOP, 0), 64)
    timer = ctypes.c_void_p()
    nanoseconds = max(1, int(seconds * 1e9))
    when = ctypes.create_string_buffer(struct.pack("@4q", 0, 0, *divmod(nanoseconds, 1_000_000_000)))
    if _libc.timer_create(_CLOCK_MONOTONIC, event, ctypes.byref(timer)) or _libc.timer_settime(timer, 0, when, None):
        raise OSError(ctypes.get_errno(), "no timer")
