"""Files that a process may read, write and run, and no signals to others: Landlock (landlock(7), Linux 6.2 and newer)."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path

from converter.safety.sandbox.libc import libc

__all__ = ["CHANGE", "EXECUTE", "READ", "READ_DIR", "REMOVE_DIR", "WRITE_FILE", "restrict"]

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
EXECUTE, WRITE_FILE, _READ_FILE, READ_DIR, REMOVE_DIR, _TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 14
READ = _READ_FILE | READ_DIR
# remove and make of every kind, and REFER: to link and rename from folder to folder
CHANGE = WRITE_FILE | _TRUNCATE | sum(1 << bit for bit in range(4, 14))
_ALL = EXECUTE | READ | CHANGE
# What a rule for a single file may grant.
_OF_FILES = EXECUTE | WRITE_FILE | _READ_FILE | _TRUNCATE
# Versions of Landlock: before 3 (Linux 6.2) truncation could not be refused, before 6 (6.12) signals and abstract sockets.
_TRUNCATE_SINCE, _SCOPES_SINCE = 3, 6
_SCOPES = 0b11


def restrict(rules: Iterable[tuple[Path, int]] | None) -> bool:
    """From here on this thread, and what it starts, has the rights of `rules` and no others, and signals only itself.

    None: files as before. Paths that do not exist grant nothing. False where the kernel has no such rights.
    """
    version = libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if version < _TRUNCATE_SINCE:
        return False
    scopes = _SCOPES if version >= _SCOPES_SINCE else 0
    if rules is None and not scopes:
        return True
    handled = 0 if rules is None else _ALL
    values = struct.pack("=QQQ", handled, 0, scopes)[: 24 if scopes else 8]
    attributes = ctypes.create_string_buffer(values, len(values))
    ruleset = libc().syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(values)), 0)
    if ruleset < 0:
        return False
    try:
        granted = _granted(rules or ())
        return all(_add(ruleset, path, rights) for path, rights in granted.items()) and (
            libc().syscall(_RESTRICT_SELF, ruleset, 0) == 0
        )
    finally:
        os.close(ruleset)


def _granted(rules: Iterable[tuple[Path, int]]) -> dict[Path, int]:
    granted: dict[Path, int] = {}
    for path, rights in rules:
        granted[path] = granted.get(path, 0) | rights
    return granted


def _add(ruleset: int, path: Path, rights: int) -> bool:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # not there, or out of reach for this user anyway
        return True
    try:
        if not os.path.isdir(path):
            rights &= _OF_FILES
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, descriptor), 12)
        return libc().syscall(_ADD_RULE, ruleset, 1, rule, 0) == 0
    finally:
        os.close(descriptor)
