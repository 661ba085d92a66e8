"""What every step reads: the interpreter, its libraries, this program's code, and a few facts about the machine."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from converter.installation import PACKAGES, ROOT

__all__ = ["programs_paths", "system_paths"]

# Beside the code: the schemas and requirements that steps look at.
_PARTS = ("scripts", "configs", "constraints.txt", "requirements*.txt")
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64")
_SYSTEM = (
    *(
        "/etc/ld.so.cache",
        "/etc/localtime",
        "/etc/timezone",
        "/etc/os-release",
        "/etc/mime.types",
        "/etc/ssl/openssl.cnf",
    ),
    *("/usr/share/zoneinfo", "/usr/share/locale", "/usr/share/i18n"),
    *("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/version", "/proc/filesystems", "/proc/sys/vm"),
    *("/sys/devices/system", "/sys/fs/cgroup", "/sys/kernel/mm/transparent_hugepage"),
    *(
        "/sys/bus/pci/devices",
        "/sys/class/drm",
    ),  # where onnxruntime looks for graphics processors, and warns if it may not
    *("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"),
)
# /proc: programs look at themselves there. What it tells of other processes is what Landlock lets everybody see.
_PROGRAMS = ("/bin", "/usr/bin", "/usr/local/bin", "/proc")
# A rule for /proc/self names this process's folder as the kernel holds it now: an open descriptor makes it stay the same.
_held: list[int] = []


def system_paths() -> Iterator[Path]:
    """What every step reads: Python and its packages, this program's code, the system's libraries and facts."""
    for text in (*_LIBRARIES, *_SYSTEM, sys.prefix, sys.base_prefix, *sysconfig.get_paths().values()):
        yield Path(text)
    yield from Path("/sys/devices").glob("pci*")
    yield PACKAGES
    for part in _PARTS:
        yield from ROOT.glob(part)
    yield from map(Path, filter(None, os.environ.get("CONVERTER_FORMATS", "").split(os.pathsep)))  # the user's own code
    yield from _search_paths()
    # A user's settings of Keras, which it reads wherever they exist.
    yield Path(os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras"), "keras.json")
    if os.path.isdir("/proc/self"):
        if not _held:
            _held.append(os.open("/proc/self", os.O_PATH | os.O_CLOEXEC))
        yield Path("/proc/self")


def programs_paths() -> list[Path]:
    """What a program that a step starts needs besides: the system's own ones, which it may call in turn."""
    return [Path(path) for path in (*_PROGRAMS, *_LIBRARIES)]


def _search_paths() -> Iterator[Path]:
    """Where modules and libraries are looked for, but for folders that hold the working directory, and so all models."""
    here = Path.cwd()
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    for text in filter(None, (*sys.path, *libraries)):
        path = Path(text).resolve()
        if path != here and path not in here.parents:
            yield path
