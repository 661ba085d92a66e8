"""The files in which an ONNX model keeps its weights: found in its bytes, so that planning imports no library for it.

Format: onnx.proto, in protobuf's wire format. TensorProto.external_data is a list of key and value; `location` is a path relative
to the model's folder.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

__all__ = ["external_files"]

# By message: the fields that lead to tensors, and what message each of them is (onnx.proto).
_FIELDS = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DEEPEST = 64


def external_files(path: Path) -> list[Path]:
    """Sorted, only those that exist: what is missing, or lies elsewhere, the import says. None for damaged files."""
    with open(path, "rb") as file:
        if path.stat().st_size == 0:
            return []
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data.find(b"location") < 0:  # hardly a model has, and a search costs nothing
                return []
            try:
                names = set(_locations(data, "model", 0, len(data), 0))
            except (ValueError, IndexError, RecursionError):
                return []
    found: list[Path] = []
    for name in names:
        beside = path.parent / name
        if "\0" not in name and beside.is_file() and beside.resolve().is_relative_to(path.parent.resolve()):
            found.append(beside)
    return sorted(found)


def _locations(data: mmap.mmap, message: str, start: int, end: int, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise ValueError("too deep")
    for field, begin, stop in _parts(data, start, end):
        inner = _FIELDS[message].get(field)
        if inner == "entry":
            parts = {number: bytes(data[a:b]) for number, a, b in _parts(data, begin, stop)}
            if parts.get(1) == b"location":
                yield parts.get(2, b"").decode("utf-8", "replace")
        elif inner is not None:
            yield from _locations(data, inner, begin, stop, depth + 1)


def _parts(data: mmap.mmap, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(field, start, end) of the fields that hold bytes."""
    while position < end:
        tag, position = _varint(data, position, end)
        kind = tag & 7
        if kind == _BYTES:
            length, position = _varint(data, position, end)
            if position + length > end:
                raise ValueError("beyond the end")
            yield tag >> 3, position, position + length
            position += length
        elif kind == _VARINT:
            _, position = _varint(data, position, end)
        elif kind in (_FIXED64, _FIXED32):
            position += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError("no protobuf")


def _varint(data: mmap.mmap, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while position < end and shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("damaged number")
