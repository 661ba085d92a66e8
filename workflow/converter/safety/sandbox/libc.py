"""System calls that Python has no function for."""

from __future__ import annotations

import ctypes

__all__ = ["libc"]


def libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
