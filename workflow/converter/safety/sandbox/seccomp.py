"""System calls that no step needs are refused: a seccomp filter (seccomp(2)), which holds in all threads."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Iterable, Sequence

from converter.safety.sandbox.calls import NUMBERS, OF_OTHERS, REFUSED, REFUSED_WITHOUT_PROGRAMS
from converter.safety.sandbox.libc import libc

__all__ = ["refuse_calls"]

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000
_EACCES, _ENOSYS = 13, 38
# BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_JMP|JGE|K, BPF_JMP|JSET|K, BPF_RET|K
_LOAD, _EQUAL, _AT_LEAST, _ANY_OF, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_REFUSE = (_RETURN, 0, 0, _ERRNO | _EACCES)
_PERMIT = (_RETURN, 0, 0, _ALLOW)
# Flags of clone(2): a thread, and namespaces of every kind.
_CLONE_THREAD, _CLONE_NEW = 0x00010000, 0x7E020000
# Requests of ioctl(2): to type into a terminal, and to change a file's flags without writing to it.
_TIOCSTI, _TIOCLINUX, _SETFLAGS, _FSSETXATTR = 0x5412, 0x541C, 0x40086602, 0x401C5820

Instruction = tuple[int, int, int, int]


def refuse_calls(network: bool, programs: bool) -> bool:
    """Refused calls fail with EACCES from here on, in all threads and programs. False where that is not to be had.

    `network`: sockets are left. `programs`: so are the calls that start programs, end them, and set the rights of files.
    """
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        return False
    column = list(_ARCHITECTURES).index(machine)
    numbers = {name: pair[column] for name, pair in NUMBERS.items() if pair[column] is not None}
    instructions = [
        (_LOAD, 0, 0, 4),  # seccomp_data.arch
        (_EQUAL, 1, 0, _ARCHITECTURES[machine]),  # another calling convention: refuse all
        _REFUSE,
        (_LOAD, 0, 0, 0),  # seccomp_data.nr
        (_AT_LEAST, 0, 1, _X32),
        _REFUSE,
        *_filter(numbers, network, programs),
        _PERMIT,
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *entry) for entry in instructions))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(instructions), ctypes.addressof(code)))
    set_filter, all_threads = 1, 1
    return libc().syscall(numbers["seccomp"], set_filter, all_threads, program) == 0


def _filter(numbers: dict[str, int], network: bool, programs: bool) -> Iterable[Instruction]:
    refused = [*REFUSED, *([] if network else ["socket"]), *([] if programs else REFUSED_WITHOUT_PROGRAMS)]
    for name in refused:
        if name in numbers:
            yield from _when(numbers[name], [_REFUSE])
    requests = [(_EQUAL, 0, 1, request) for request in (_TIOCSTI, _TIOCLINUX, _SETFLAGS, _FSSETXATTR)]
    checked = [instruction for request in requests for instruction in (request, _REFUSE)]
    yield from _when(numbers["ioctl"], [_argument(1), *checked, _PERMIT])
    # Its flags lie in memory, where a filter cannot look. The C library then takes clone.
    yield from _when(numbers["clone3"], [(_RETURN, 0, 0, _ERRNO | _ENOSYS)])
    namespaces = [_argument(0), (_ANY_OF, 0, 1, _CLONE_NEW), _REFUSE]
    if programs:
        yield from _when(numbers["clone"], [*namespaces, _PERMIT])
        return
    yield from _when(numbers["clone"], [*namespaces, (_ANY_OF, 1, 0, _CLONE_THREAD), _REFUSE, _PERMIT])
    # Programs read their limits with the call that sets them: a pointer to new ones is refused.
    nothing = [_argument(2), (_EQUAL, 1, 0, 0), _REFUSE, _argument(2, high=True), (_EQUAL, 1, 0, 0), _REFUSE, _PERMIT]
    yield from _when(numbers["prlimit64"], nothing)
    for name in OF_OTHERS:
        yield from _when(numbers[name], [_argument(0), (_EQUAL, 1, 0, os.getpid()), _REFUSE, _PERMIT])


def _when(number: int, instructions: Sequence[Instruction]) -> list[Instruction]:
    """`instructions`, which end with a verdict, for one system call; its number stays loaded for all others."""
    return [(_EQUAL, 0, len(instructions), number), *instructions]


def _argument(position: int, high: bool = False) -> Instruction:
    """Load half of an argument; both machines have the low half first."""
    return (_LOAD, 0, 0, 16 + 8 * position + 4 * high)
