"""All declared formats: this program's own, and those of the files that CONVERTER_FORMATS names."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from converter.errors import ParameterError
from converter.formats.declarations import Framework, SourceFormat, TargetFormat
from converter.formats.frameworks import PYTORCH, TENSORFLOW
from converter.formats.sources import checkpoint, keras, protobuf, pytorch, savedmodel
from converter.formats.targets import keras as keras_target
from converter.formats.targets import onnx, tflite
from converter.formats.targets import protobuf as protobuf_target

__all__ = [
    *("added", "extensions_of_sources", "framework", "frameworks", "source", "sources"),
    *("target", "target_extensions", "targets"),
]

Declaration = Framework | SourceFormat | TargetFormat
_Kind = TypeVar("_Kind", Framework, SourceFormat, TargetFormat)

# The order is that of tables and of messages.
_OWN: tuple[Declaration, ...] = (
    *(TENSORFLOW, PYTORCH),
    *(keras.KERAS, savedmodel.SAVEDMODEL, checkpoint.CHECKPOINT, protobuf.PROTOBUF, pytorch.PYTORCH),
    *(onnx.ONNX, tflite.TFLITE, protobuf_target.PROTOBUF, keras_target.KERAS),
)


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
    return _by_name(Framework)


@functools.cache
def sources() -> Mapping[str, SourceFormat]:
    """By name."""
    return _by_name(SourceFormat)


@functools.cache
def targets() -> Mapping[str, TargetFormat]:
    """By name."""
    return _by_name(TargetFormat)


@functools.cache
def extensions_of_sources() -> Mapping[str, str]:
    """Names of source formats, by the extension of their files, with the dot."""
    return MappingProxyType({suffix: entry.name for entry in sources().values() for suffix in entry.extensions})


@functools.cache
def target_extensions() -> Mapping[str, TargetFormat]:
    """Target formats, by extension without the dot."""
    return MappingProxyType({suffix: entry for entry in targets().values() for suffix in entry.extensions})


def framework(name: str) -> Framework:
    return frameworks()[name]


def source(name: str) -> SourceFormat:
    return sources()[name]


def target(extension: str) -> TargetFormat:
    """Of files with this extension, which is given without the dot. Raises KeyError."""
    return target_extensions()[extension]


def _by_name(kind: type[_Kind]) -> Mapping[str, _Kind]:
    entries = (entry for entry in (*_OWN, *added()) if isinstance(entry, kind))
    return MappingProxyType({entry.name: entry for entry in entries})
