"""The formats of the user's own that CONVERTER_FORMATS names: read once, and looked at before anything uses them."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from converter.errors import ParameterError
from converter.formats.declarations import Declaration, Framework, SourceFormat, TargetFormat

__all__ = ["read_added"]

# As keys of hubs, rules and steps are written.
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_EXTENSION = re.compile(r"[A-Za-z0-9_]+")


def read_added(known: Mapping[type, Mapping[str, Declaration]]) -> tuple[Declaration, ...]:
    """The declarations of all files, in their order. known: this program's own, by kind and name.

    Raises ParameterError where a file cannot be read, or one of its declarations cannot stand beside the others.
    """
    taken = {kind: dict(entries) for kind, entries in known.items()}
    found: list[Declaration] = []
    for path in filter(None, os.environ.get("CONVERTER_FORMATS", "").split(os.pathsep)):
        declared: Any = getattr(_module(path), "FORMATS", None)
        if type(declared) not in (list, tuple):
            raise ParameterError(f"{path} defines no FORMATS: write FORMATS = [SourceFormat(...), TargetFormat(...)]")
        for entry in declared:
            if not isinstance(entry, Framework | SourceFormat | TargetFormat):
                raise ParameterError(
                    f"{path}: FORMATS holds a {type(entry).__name__}: write a Framework, SourceFormat or TargetFormat"
                )
            if mistake := _mistake(entry, taken):
                raise ParameterError(f"{path}: {type(entry).__name__} {entry.name!r}: {mistake}")
            taken[type(entry)][entry.name] = entry
            found.append(entry)
    return tuple(found)


def _module(path: str) -> ModuleType:
    name = Path(path).stem
    if not Path(path).is_file():
        raise ParameterError(f"CONVERTER_FORMATS names {path}, which is no file: write the path of a Python file")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ParameterError(f"CONVERTER_FORMATS names {path}, whose name does not end in .py: name a Python file")
    other = getattr(sys.modules.get(name), "__spec__", None) or importlib.util.find_spec(name)
    if other is not None and not (
        other.origin and os.path.exists(other.origin) and os.path.samefile(other.origin, path)
    ):
        raise ParameterError(
            f"CONVERTER_FORMATS names {path}, and {name} is a module already: give the file another name"
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that "NAME:function" in its declarations is found
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        del sys.modules[name]
        raise ParameterError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    return module


def _mistake(entry: Declaration, taken: Mapping[type, Mapping[str, Declaration]]) -> str | None:
    """Why it cannot be used, and what to write instead."""
    if not _NAME.fullmatch(entry.name):
        return "write a name of lower-case letters, digits and _"
    if entry.name in taken[type(entry)]:
        return "that name is taken: write another one"
    if isinstance(entry, Framework):
        return None
    if isinstance(entry, SourceFormat):
        named, extensions = [entry.framework], [suffix.removeprefix(".") for suffix in entry.extensions]
        if not entry.importer:
            return 'write importer="MODULE:FUNCTION"'
        if not (entry.extensions or entry.contains):
            return "write extensions, or what a directory of it contains"
        if any(not suffix.startswith(".") for suffix in entry.extensions):
            return "write extensions with the dot"
    else:
        named, extensions = list(entry.exporters), list(entry.extensions)
    unknown = sorted(set(named) - set(taken[Framework]))
    if unknown:
        return f"there is no framework {unknown[0]}: declare it before, or write one of {', '.join(taken[Framework])}"
    return _wrong_extension(entry, extensions, taken[type(entry)].values())


def _wrong_extension(
    entry: SourceFormat | TargetFormat, extensions: Collection[str], others: Collection[Declaration]
) -> str | None:
    used = {suffix.removeprefix("."): other.name for other in others for suffix in getattr(other, "extensions", ())}
    for suffix in extensions:
        if not _EXTENSION.fullmatch(suffix):
            return f"{suffix} is no extension: write one word of letters and digits"
        if suffix in used:
            return f".{suffix} belongs to {used[suffix]}: write another extension"
    return None
