"""Weights beside the graph: streamed out once, memory-mapped when read.

The file format is safetensors (https://github.com/huggingface/safetensors#format): eight bytes of header length, a JSON
header with dtype, shape and byte range of each tensor, then the tensors. Its library copies every tensor to bytes when it
writes and when it reads; weights of hundreds of megabytes are this project's main cost, so both are done here.
"""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypedDict, cast

import numpy as np

__all__ = ["STORABLE_DTYPES", "Weights", "as_dtype", "pieces", "write_weights"]


class _Entry(TypedDict):
    """Of the header. dtype: one of _CODES; data_offsets: begin and end, in bytes behind the header."""

    dtype: str
    shape: list[int]
    data_offsets: list[int]


_CODES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "uint32": "U32",
    "int32": "I32",
    "uint64": "U64",
    "int64": "I64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
    "complex64": "C64",
    "complex128": "C128",
}
_NAMES = {code: name for name, code in _CODES.items()}
STORABLE_DTYPES = frozenset(_CODES)
_ALIGNMENT = 64
_PIECE = 1 << 24
_TILE = 512


def as_dtype(name: str) -> np.dtype:
    """numpy's dtype of that name; numpy by itself does not know bfloat16."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def write_weights(path: Path, tensors: Mapping[str, np.ndarray] | Iterable[tuple[str, np.ndarray]]) -> None:
    """Write named arrays to `path`, one at a time; the same arrays give the same bytes.

    Wide values come first, so that each array lies at a multiple of its item size, which its consumers want; by name
    within a width. Raises ValueError for a dtype outside STORABLE_DTYPES, a name that occurs twice, and "__metadata__".
    """
    pairs = cast("Iterable[tuple[str, np.ndarray]]", tensors.items() if isinstance(tensors, Mapping) else tensors)
    items = sorted(pairs, key=lambda item: (-item[1].dtype.itemsize, item[0]))
    header: dict[str, _Entry] = {}
    offset = 0
    for name, array in items:
        if array.dtype.name not in _CODES:
            raise ValueError(f"{name}: dtype {array.dtype.name} cannot be stored")
        if name == "__metadata__":
            raise ValueError("__metadata__: the format reserves this name")
        if name in header:
            raise ValueError(f"{name}: two weights of this name")
        header[name] = {
            "dtype": _CODES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-(8 + len(encoded)) % _ALIGNMENT)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(encoded)))
        file.write(encoded)
        for _, array in items:
            for piece in pieces(np.asarray(array)):
                file.write(piece)


def pieces(array: np.ndarray) -> Iterator[memoryview]:
    """The array's bytes in row-major order, little-endian, about 16 MB at a time.

    numpy copies a transposed matrix line by line of its source and misses the cache with every element: 1.8 CPU s for
    the largest matrix of VGG16, a fifth of that in tiles. What has been read of a mapped file is given back: it would
    count as this process's memory until the mapping is closed.
    """
    if not array.nbytes:
        return
    little = array.dtype.newbyteorder("<")
    if array.flags.c_contiguous:
        data = np.ascontiguousarray(array, little).reshape(-1).view(np.uint8)
        for start in range(0, data.size, _PIECE):
            yield data[start : start + _PIECE].data
    else:
        try:
            rows = np.reshape(array, (len(array), -1), copy=False)
        except ValueError:  # axes that do not merge
            rows = array
        count = max(1, _PIECE // (array.nbytes // len(array)))
        for start in range(0, len(rows), count):
            part = rows[start : start + count]
            copy = np.empty(part.shape, little)
            for column in range(0, part.shape[1], _TILE):
                copy[:, column : column + _TILE] = part[:, column : column + _TILE]
            yield copy.reshape(-1).view(np.uint8).data
    base: object = array
    while isinstance(base, np.ndarray):
        mapped = getattr(base, "_mmap", None)
        if isinstance(base, np.memmap) and mapped is not None and base.mode == "r":
            mapped.madvise(mmap.MADV_DONTNEED)
            break
        base = base.base


class Weights(Mapping[str, np.ndarray]):
    """The arrays of a weights file, as read-only views of the mapped file: nothing is read before it is used."""

    def __init__(self, path: Path) -> None:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        self.path = Path(path)
        self._header: dict[str, _Entry] = header
        self._start = 8 + length
        size = self.path.stat().st_size - self._start
        self._data = np.memmap(path, np.uint8, "r", offset=self._start) if size else np.empty(0, np.uint8)

    def __getitem__(self, name: str) -> np.ndarray:
        entry = self._header[name]
        begin, end = entry["data_offsets"]
        return self._data[begin:end].view(as_dtype(_NAMES[entry["dtype"]])).reshape(entry["shape"])

    def __iter__(self) -> Iterator[str]:
        return iter(self._header)

    def __len__(self) -> int:
        return len(self._header)

    def nbytes(self, name: str) -> int:
        """The size in bytes, without reading values; raises KeyError for an unknown name."""
        begin, end = self._header[name]["data_offsets"]
        return end - begin
