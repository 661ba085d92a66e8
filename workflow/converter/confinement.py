"""What a step may do while it has a stranger's file open: no network, writes in its own folders, bounded memory and time.

Linux lets a process give up rights without being root: a seccomp filter takes socket(2) away (seccomp(2)), Landlock takes
writing away everywhere but below given folders (landlock(7), Linux 5.19 and newer). Both are for good and pass to
threads and programs started from then on. Where the kernel has neither, the step runs without, and its log says so.
"""

from __future__ import annotations

import _thread
import ctypes
import fcntl
import os
import platform
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["Limits", "confined", "limits_for", "own_directory"]

_PREFIX = "converter-step-"
# A step that reads or writes `size` bytes: generous, so that only what runs wild meets a limit.
_SECONDS, _SECONDS_PER_MB = 1800, 10
_MEMORY, _MEMORY_PER_BYTE = 8 << 30, 24
# After its time a step says so and ends; if it cannot (all threads stand still in a library), the kernel ends it.
_GRACE_SECONDS = 30

_NO_NEW_PRIVS = 38
_EACCES = 13


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


@contextmanager
def confined(
    limits: Limits, on_timeout: Callable[[], None], writable: Sequence[Path] | None, network: bool = False
) -> Iterator[None]:
    """A temporary directory of the step's own, its limits, and nothing but what it needs, until this process ends.

    `writable`: folders that exist, besides the temporary one; None where the user's own code runs, which may write
    anywhere. `on_timeout` is called in a thread before the process ends with status 1.
    """
    with own_directory() as directory:
        _limit(limits, on_timeout)
        _libc().prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
        if not network and not _refuse_sockets():
            print("note: this kernel has no seccomp filters, so the step ran with the network", file=sys.stderr)
        if writable is not None and not _write_only_below([*writable, Path(directory)]):
            print("note: this kernel has no Landlock, so the step could write anywhere", file=sys.stderr)
        yield


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


def _limit(limits: Limits, on_timeout: Callable[[], None]) -> None:
    """Raises MemoryError where this process holds more memory already."""
    if limits.seconds:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, limits.seconds + _GRACE_SECONDS)
        # Not threading.Thread, which waits without end for a thread that dies of too little memory at once (Python 3.11).
        _thread.start_new_thread(_end_after, (limits.seconds, on_timeout))
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


def _end_after(seconds: int, on_timeout: Callable[[], None]) -> None:
    time.sleep(seconds)
    try:
        on_timeout()
    finally:
        sys.stderr.flush()
        shutil.rmtree(os.environ["TMPDIR"], ignore_errors=True)
        os._exit(1)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


# --- no sockets: a seccomp filter. (AUDIT_ARCH, socket(2), seccomp(2)) by machine; io_uring has one number everywhere.
_ARCHITECTURES = {"x86_64": (0xC000003E, 41, 317), "aarch64": (0xC00000B7, 198, 277)}
_IO_URING_SETUP = 425
_X32 = 0x40000000
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_JMP|JGE|K, BPF_RET|K
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


def _refuse_sockets() -> bool:
    """socket(2) fails with EACCES from here on, in all threads. False where that is not to be had."""
    if platform.machine() not in _ARCHITECTURES:
        return False
    architecture, socket_call, seccomp_call = _ARCHITECTURES[platform.machine()]
    instructions = [
        (_LOAD, 0, 0, 4),  # seccomp_data.arch
        (_EQUAL, 0, 5, architecture),  # another calling convention: refuse all
        (_LOAD, 0, 0, 0),  # seccomp_data.nr
        (_AT_LEAST, 3, 0, _X32),
        (_EQUAL, 2, 0, socket_call),
        (_EQUAL, 1, 0, _IO_URING_SETUP),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ERRNO | _EACCES),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *entry) for entry in instructions))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(instructions), ctypes.addressof(code)))
    set_filter, all_threads = 1, 1
    return _libc().syscall(seccomp_call, set_filter, all_threads, program) == 0


# --- writes only below some folders: Landlock
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_WRITE_FILE, _REMOVE_DIR, _TRUNCATE = 1 << 1, 1 << 4, 1 << 14
# remove and make of every kind, and REFER: to link and rename from folder to folder
_CHANGE = _WRITE_FILE | _TRUNCATE | sum(1 << bit for bit in range(4, 14))
_TRUNCATE_SINCE = 3


def _write_only_below(folders: Sequence[Path]) -> bool:
    """Files elsewhere cannot be written, made, or removed from here on. False where the kernel has no such rights."""
    libc = _libc()
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if version < _TRUNCATE_SINCE:  # before, truncation could not be refused
        return False
    attributes = ctypes.create_string_buffer(struct.pack("=Q", _CHANGE), 8)
    ruleset = libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(8), 0)
    if ruleset < 0:
        return False
    try:
        # /dev/shm: semaphores and shared memory of libraries' worker processes.
        rules = [(folder, _CHANGE) for folder in (*folders, Path("/dev/shm")) if folder.is_dir()]
        # The temporary directory itself goes in the end.
        rules += [(Path(tempfile.gettempdir()).parent, _REMOVE_DIR), (Path("/dev/null"), _WRITE_FILE)]
        for path, rights in rules:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, descriptor), 12)
            added = libc.syscall(_ADD_RULE, ruleset, 1, rule, 0)
            os.close(descriptor)
            if added != 0:
                return False
        return libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0
    finally:
        os.close(ruleset)
