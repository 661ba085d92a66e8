"""What a process may do that compares or times files and makes none: read them, and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from converter.planning.source_files import source_bytes, source_files
from converter.planning.toolchains import is_built, programs
from converter.safety.sandbox import OWN_PROGRAMS, Access, confined, limits_for

__all__ = ["confined_check", "confined_reader"]


def confined_reader(file: Path, writable: Sequence[Path] = ()) -> AbstractContextManager[None]:
    """The context of sandbox.confined for running a converted file. `writable`: folders that exist."""
    return _confined([file], Access(readable=_read_with(file), writable=writable))


def confined_check(paths: Sequence[str], parameters: Mapping[str, object]) -> AbstractContextManager[None]:
    """The same for `converter check`, which starts an import step for each source; that confines itself further.

    `parameters`: import parameters, canonical. Raises SourceError for a source that may not be read.
    """
    toolchain = str(parameters.get("toolchain", "default"))
    builds = toolchain != "default" and not is_built(toolchain)
    files = [Path(path) for path in paths]
    return _confined(
        files,
        Access(
            readable=[readable for file in files for readable in _read_with(file)],
            listed=[file.parent for file in files if file.suffix == ".meta"],
            user_code="network_script" in parameters or bool(parameters.get("trusted")),
            programs=[*OWN_PROGRAMS, *(programs(toolchain) if toolchain != "default" and not builds else [])],
            network=builds,
        ),
    )


def _confined(files: Sequence[Path], access: Access) -> AbstractContextManager[None]:
    limits = limits_for(sum(source_bytes(file) for file in files if file.exists()))

    def say() -> None:
        names = " and ".join(map(str, files))
        print(f"{names}: {limits.seconds} s were not enough: CONVERTER_STEP_SECONDS gives more", file=sys.stderr)

    return confined(limits, say, access)


def _read_with(file: Path) -> list[Path]:
    """A file and what belongs to it: an ONNX file may keep its weights in any files of its folder."""
    if file.suffix == ".onnx":
        return [file.parent]
    return [file] if file.is_dir() or not file.exists() else source_files(file)
