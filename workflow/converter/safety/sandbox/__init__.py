"""What a step may do while it has a stranger's file open: nothing but read that file and write what it makes of it.

Linux lets a process give up rights without being root: a seccomp filter refuses system calls (seccomp.py), Landlock
refuses files, and signals to other processes (landlock.py). Both are for good and pass to threads and programs started from
then on. Where the kernel has neither, the step runs without, and its log says so.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from converter.run_state.lifetime import unwatched
from converter.safety.sandbox import capabilities, landlock, seccomp
from converter.safety.sandbox.directory import own_directory
from converter.safety.sandbox.libc import libc
from converter.safety.sandbox.limits import Limits, limit_memory, limit_time, limits_for
from converter.safety.sandbox.readable import programs_paths, system_paths

__all__ = ["OWN_PROGRAMS", "Access", "Limits", "confined", "limits_for", "own_directory"]

# For Access.programs: this program's own steps and measurements, run by the interpreter that runs it.
OWN_PROGRAMS = (Path(sys.prefix), Path(sys.base_prefix))

_NO_NEW_PRIVS = 38


@dataclass(frozen=True)
class Access:
    """What a step needs besides its temporary directory, the interpreter and its libraries, and this program's code.

    readable: files, and folders with all that is below them. listed: folders of which only the names may be read. writable:
    folders that exist. user_code: the user's own code runs, which may read and write what the user may, and start programs.
    programs: where the programs lie that the step starts, such as a legacy environment's; empty where it starts none.
    network: the step installs something.
    """

    readable: Sequence[Path] = ()
    listed: Sequence[Path] = ()
    writable: Sequence[Path] = ()
    user_code: bool = False
    programs: Sequence[Path] = ()
    network: bool = False


@contextmanager
def confined(limits: Limits, on_timeout: Callable[[], object], access: Access) -> Iterator[None]:
    """A temporary directory of the step's own, its limits, and nothing but what it needs, until this process ends.

    `on_timeout` is called in a thread before the process ends with status 1. Raises MemoryError where the process holds
    more than it may already.
    """
    with own_directory() as directory:
        limit_memory(limits)
        libc().prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
        starts_programs = access.user_code or access.network or bool(access.programs)
        if not starts_programs:
            os.environ["JOBLIB_MULTIPROCESSING"] = "0"  # else it warns that it cannot have processes
        # These bind the thread that asks for them and those that it starts afterwards.
        with unwatched():
            if not access.user_code and not access.network:
                capabilities.drop()
            restricted = _restrict_files(access, Path(directory))
        if not restricted:
            print("note: this kernel has no Landlock, so the step could read and write anywhere", file=sys.stderr)
        if not seccomp.refuse_calls(network=access.network, programs=starts_programs):
            print("note: this kernel has no seccomp filters, so the step ran with the network", file=sys.stderr)
        limit_time(limits, on_timeout)
        yield


def _restrict_files(access: Access, directory: Path) -> bool:
    if access.user_code or access.network:
        return landlock.restrict(None)
    own = [*access.writable, directory]
    readable = [*access.readable, *system_paths(), *own]
    rules = [(path, landlock.READ) for path in readable]
    rules += [(path, landlock.READ_DIR) for path in access.listed]
    rules += [(path, landlock.CHANGE) for path in own]
    # The temporary directory itself goes in the end.
    rules += [(directory.parent, landlock.REMOVE_DIR), (Path(os.devnull), landlock.WRITE_FILE)]
    if access.programs:
        rules += [(path, landlock.READ | landlock.EXECUTE) for path in (*access.programs, *programs_paths())]
    return landlock.restrict(rules)
