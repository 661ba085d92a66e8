"""System calls that Python has no function for."""

from __future__ import annotations

import ctypes

__all__ = ["libc"]


def libc() -> ctypes.CDLL:
    """The C library that this process is linked with; `ctypes.get_errno` has the error of a call."""
    return ctypes.CDLL(None, use_errno=True)
