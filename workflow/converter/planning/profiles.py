"""The profiles of configs/devices.yaml, checked when they are read."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from converter.errors import ParameterError, nearest

__all__ = ["Profile", "profile", "profiles", "profiles_file"]

_FILE = Path(__file__).resolve().parents[3] / "configs" / "devices.yaml"


@dataclass(frozen=True)
class Profile:
    """What a device, or the compiler or runtime for it, takes; None and empty: not checked.

    formats: extensions of files that it is for. release: of the runtime on it, which must know all that a file needs.
    opset: the lowest and the highest. operators: those that it has, each with its highest version, None for any.
    max_bytes: of the file; max_arena: of the tensors of a C array. source: where the facts stand.
    """

    name: str
    title: str
    formats: tuple[str, ...]
    source: str
    release: str | None = None
    opset: tuple[int, int] | None = None
    ir_version: int | None = None
    fixed_shapes: bool = False
    integer_only: bool = False
    operators: Mapping[str, int | None] = field(default_factory=dict[str, "int | None"])
    max_bytes: int | None = None
    max_arena: int | None = None


def profiles_file() -> Path:
    """Where they stand."""
    return _FILE


@functools.cache
def profiles() -> Mapping[str, Profile]:
    """By name, in the order of the file. Raises ParameterError where an entry is none."""
    entries = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    return MappingProxyType({name: _read(name, entry) for name, entry in entries.items()})


def profile(name: str) -> Profile:
    """The profile of that name. Raises ParameterError with the nearest ones."""
    if name in profiles():
        return profiles()[name]
    close = nearest(name, profiles())
    hint = f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(profiles())}"
    raise ParameterError(f"device {name} has no profile: {hint}")


def _read(name: str, entry: dict[str, Any]) -> Profile:
    known = {entry.name for entry in fields(Profile)} - {"name"}
    unknown = sorted(set(entry) - known)
    if unknown or not {"title", "formats", "source"} <= set(entry):
        raise ParameterError(f"configs/devices.yaml: {name} has {', '.join(unknown) or 'no title, formats or source'}")
    values: dict[str, Any] = {**entry, "formats": tuple(entry["formats"])}
    values["operators"] = {
        key: None if version == "any" else int(version) for key, version in entry.get("operators", {}).items()
    }
    values["opset"] = tuple(entry["opset"]) if "opset" in entry else None
    return Profile(name, **values)
