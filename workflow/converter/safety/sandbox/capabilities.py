"""Root's rights over the machine and over other processes (capabilities(7)), which no step needs."""

from __future__ import annotations

import ctypes
import struct
import sys

from converter.safety.sandbox.libc import libc

__all__ = ["drop"]

_VERSION = 0x20080522
# CAP_CHOWN to CAP_FSETID: files of other users, which root converts as its own.
_KEPT = 0b11111


def drop() -> None:
    """This thread, and what it starts, keeps nothing but access to other users' files. Users other than root lose nothing."""
    if sys.platform != "linux":
        return
    header = ctypes.create_string_buffer(struct.pack("=Ii", _VERSION, 0))
    data = ctypes.create_string_buffer(24)
    if libc().capget(header, data) != 0:
        return
    effective, permitted = struct.unpack("=II", data.raw[:8])
    kept = struct.pack("=IIIIII", effective & _KEPT, permitted & _KEPT, 0, 0, 0, 0)
    libc().capset(header, ctypes.create_string_buffer(kept, 24))
