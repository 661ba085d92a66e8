"""All declared formats: this program's own, and those of the files that CONVERTER_FORMATS names."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from converter.errors import ParameterError
from converter.formats.declarations import Framework, SourceFormat, TargetFormat, load
from converter.formats.frameworks import PYTORCH, TENSORFLOW

__all__ = [
    "added",
    "extensions_of_sources",
    "framework",
    "frameworks",
    "source",
    "sources",
    "target",
    "target_extensions",
    "targets",
]

Declaration = Framework | SourceFormat | TargetFormat
_Kind = TypeVar("_Kind", Framework, SourceFormat, TargetFormat)

# By name, in the order of tables and of messages. A step reads the declarations that it needs, and no others.
_FRAMEWORKS = {"tensorflow": TENSORFLOW, "pytorch": PYTORCH}
_SOURCES = {
    "keras": "converter.formats.sources.keras:KERAS",
    "savedmodel": "converter.formats.sources.savedmodel:SAVEDMODEL",
    "checkpoint": "converter.formats.sources.checkpoint:CHECKPOINT",
    "protobuf": "converter.formats.sources.protobuf:PROTOBUF",
    "pytorch": "converter.formats.sources.pytorch:PYTORCH",
}
_TARGETS = {
    "onnx": "converter.formats.targets.onnx:ONNX",
    "tflite": "converter.formats.targets.tflite:TFLITE",
    "protobuf": "converter.formats.targets.protobuf:PROTOBUF",
    "keras": "converter.formats.targets.keras:KERAS",
}


# The first import of a folder binds its name in the package `formats`, over the function of that name: not after this.
for _folder in ("sources", "targets"):
    importlib.import_module(f"converter.formats.{_folder}")


@functools.cache
def added() -> tuple[Declaration, ...]:
    """The declarations of the files that CONVERTER_FORMATS names. Raises ParameterError where one cannot be read."""
    found: list[Declaration] = []
    for path in filter(None, os.environ.get("CONVERTER_FORMATS", "").split(os.pathsep)):
        name = Path(path).stem
        if not Path(path).is_file():
            raise ParameterError(f"CONVERTER_FORMATS names {path}, which is no file: write the path of a Python file")
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise ParameterError(f"CONVERTER_FORMATS names {path}, whose name does not end in .py: name a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # so that "NAME:function" in its declarations is found
        spec.loader.exec_module(module)
        if not isinstance(getattr(module, "FORMATS", None), list | tuple):
            raise ParameterError(f"{path} defines no FORMATS: write FORMATS = [SourceFormat(...), TargetFormat(...)]")
        found += module.FORMATS
    return tuple(found)


@functools.cache
def frameworks() -> Mapping[str, Framework]:
    """By name."""
    return MappingProxyType(_FRAMEWORKS | _added(Framework))


@functools.cache
def sources() -> Mapping[str, SourceFormat]:
    """By name."""
    return MappingProxyType({name: load(place) for name, place in _SOURCES.items()} | _added(SourceFormat))


@functools.cache
def targets() -> Mapping[str, TargetFormat]:
    """By name."""
    return MappingProxyType({name: load(place) for name, place in _TARGETS.items()} | _added(TargetFormat))


@functools.cache
def extensions_of_sources() -> Mapping[str, str]:
    """Names of source formats, by the extension of their files, with the dot."""
    return MappingProxyType({suffix: entry.name for entry in sources().values() for suffix in entry.extensions})


@functools.cache
def target_extensions() -> Mapping[str, TargetFormat]:
    """Target formats, by extension without the dot."""
    return MappingProxyType({suffix: entry for entry in targets().values() for suffix in entry.extensions})


def framework(name: str) -> Framework:
    """The framework of that name. Raises KeyError."""
    return frameworks()[name]


def source(name: str) -> SourceFormat:
    """The source format of that name. Raises KeyError."""
    return load(_SOURCES[name]) if name in _SOURCES else sources()[name]


def target(extension: str) -> TargetFormat:
    """Of files with this extension, which is given without the dot. Raises KeyError."""
    usual = load(_TARGETS[extension]) if extension in _TARGETS else None
    return usual if usual is not None and extension in usual.extensions else target_extensions()[extension]


def _added(kind: type[_Kind]) -> dict[str, _Kind]:
    return {entry.name: entry for entry in added() if isinstance(entry, kind)}
