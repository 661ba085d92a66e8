"""All declared formats: this program's own, and those of the files that CONVERTER_FORMATS names."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

from converter.formats.declarations import Declaration, Framework, SourceFormat, TargetFormat, load
from converter.formats.frameworks import ONNX, PYTORCH, TENSORFLOW

__all__ = [
    "added",
    "extensions_of_sources",
    "find_target",
    "framework",
    "frameworks",
    "source",
    "sources",
    "target",
    "target_extensions",
    "targets",
]

_Kind = TypeVar("_Kind", Framework, SourceFormat, TargetFormat)

# By name, in the order of tables and of messages. A step reads the declarations that it needs, and no others.
_FRAMEWORKS = {"tensorflow": TENSORFLOW, "pytorch": PYTORCH, "onnx": ONNX}
_SOURCES = {
    "keras": "converter.formats.source_formats.keras:KERAS",
    "savedmodel": "converter.formats.source_formats.savedmodel:SAVEDMODEL",
    "checkpoint": "converter.formats.source_formats.checkpoint:CHECKPOINT",
    "protobuf": "converter.formats.source_formats.protobuf:PROTOBUF",
    "pytorch": "converter.formats.source_formats.pytorch:PYTORCH",
    "huggingface": "converter.formats.source_formats.huggingface:HUGGINGFACE",
    "onnx": "converter.formats.source_formats.onnx:ONNX",
    "tflite": "converter.formats.source_formats.tflite:TFLITE",
}
_TARGETS = {
    "onnx": "converter.formats.target_formats.onnx:ONNX",
    "tflite": "converter.formats.target_formats.tflite:TFLITE",
    "protobuf": "converter.formats.target_formats.protobuf:PROTOBUF",
    "keras": "converter.formats.target_formats.keras:KERAS",
    "micro": "converter.formats.target_formats.micro:MICRO",
    "openvino": "converter.formats.target_formats.openvino:OPENVINO",
}


@functools.cache
def added() -> tuple[Declaration, ...]:
    """The declarations of the files that CONVERTER_FORMATS names. Raises ParameterError where they cannot be used."""
    if not os.environ.get("CONVERTER_FORMATS"):
        return ()
    from converter.formats.added_files import read_added

    sources, targets = ({name: load(place) for name, place in own.items()} for own in (_SOURCES, _TARGETS))
    return read_added({Framework: _FRAMEWORKS, SourceFormat: sources, TargetFormat: targets})


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
    found = find_target(extension)
    if found is None:
        raise KeyError(extension)
    return found


def find_target(extension: str) -> TargetFormat | None:
    """Of files with this extension, which is given without the dot; None where there is no such format."""
    usual = load(_TARGETS[extension]) if extension in _TARGETS else None
    return usual if usual is not None and extension in usual.extensions else target_extensions().get(extension)


def _added(kind: type[_Kind]) -> dict[str, _Kind]:
    return {entry.name: entry for entry in added() if isinstance(entry, kind)}
