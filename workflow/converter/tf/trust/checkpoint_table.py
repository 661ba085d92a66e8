"""The table of a checkpoint, in its .index file: looked at before TensorFlow (2.21) reads it, which ends its process for shapes
that are none, for types of references, and for parts that do not fit their tensor.

A table of LevelDB: blocks of sorted entries, an index block of where these are, and a footer that says where that is.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError, Message
from tensorflow.core.framework import tensor_shape_pb2, types_pb2
from tensorflow.core.protobuf import tensor_bundle_pb2
from tensorflow.core.util import saved_tensor_slice_pb2
from tensorflow.python.framework import dtypes

from converter.errors import SourceError

__all__ = ["entries", "refuse_table"]

_FOOTER, _MAGIC = 48, 0xDB4775248B80FB57
_TRAILER = 5  # of a block: how it is packed, and its checksum
_UNPACKED = 0
_MOST_DIMENSIONS = 254  # TensorShape::MaxDimensions()
_MOST_SHARDS = 1 << 20
_FIRST_REFERENCE = 101  # types.proto: DT_FLOAT_REF


def refuse_table(prefix: str) -> None:
    """Raise SourceError for a checkpoint whose table TensorFlow could not read, or not without ending the process.

    prefix: of the checkpoint's files; where none of them is a table, nothing is done.
    """
    index, old = Path(f"{prefix}.index"), Path(prefix)
    path = index if index.is_file() else old
    if not path.is_file():
        return
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if path is index:
                _refuse_bundle(data)
            else:
                _refuse_old(data)
    except _Damaged as error:
        raise SourceError(f"{path} is damaged ({error}): copy the checkpoint again") from None
    except (ValueError, DecodeError, struct.error, UnicodeDecodeError) as error:  # of an empty file, and of protobuf
        raise SourceError(f"{path} is damaged ({path.stat().st_size} bytes): copy the checkpoint again") from error


class _Damaged(Exception):
    """A few words on what is wrong."""


def entries(data: mmap.mmap | bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a table. Raises _Damaged."""
    if len(data) < _FOOTER or struct.unpack("<Q", data[-8:])[0] != _MAGIC:
        raise _Damaged("it does not end as a table does")
    footer = data[-_FOOTER:-8]
    position = 0
    for _ in range(2):  # where the index of filters is, which is not used
        _, position = _number(footer, position)
    for _, handle in _block(data, footer[position:]):
        yield from _block(data, handle)


def _block(data: mmap.mmap | bytes, handle: bytes) -> Iterator[tuple[bytes, bytes]]:
    offset, position = _number(handle, 0)
    size, _ = _number(handle, position)
    if size < 4 or offset + size + _TRAILER > len(data) - _FOOTER + 8:
        raise _Damaged("a block of its table lies outside of it")
    if data[offset + size] != _UNPACKED:
        raise _Damaged("a block of its table is packed")
    block = data[offset : offset + size]
    (restarts,) = struct.unpack("<I", block[-4:])
    end = size - 4 - 4 * restarts
    if end < 0:
        raise _Damaged("a block of its table ends before it begins")
    position, key = 0, b""
    while position < end:
        shared, position = _number(block, position)
        own, position = _number(block, position)
        length, position = _number(block, position)
        if shared > len(key) or position + own + length > end:
            raise _Damaged("an entry of its table is longer than the table")
        key = key[:shared] + block[position : position + own]
        yield key, block[position + own : position + own + length]
        position += own + length


def _number(data: bytes, position: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and the position behind it."""
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise _Damaged("a number of its table has no end")
        byte = data[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position


def _refuse_bundle(data: mmap.mmap) -> None:
    shards = None
    for key, value in entries(data):
        if not key:
            shards = tensor_bundle_pb2.BundleHeaderProto.FromString(value).num_shards
            if not 0 < shards <= _MOST_SHARDS:
                raise _Damaged(f"it says that its values are in {shards} files")
            continue
        entry = tensor_bundle_pb2.BundleEntryProto.FromString(value)
        name = key.decode(errors="replace")
        count = _refuse_tensor(name, entry.dtype, entry.shape, entry.slices)
        if shards is None or not 0 <= entry.shard_id < shards or entry.offset < 0 or entry.size < 0:
            raise _Damaged(f"{name} lies outside of its files")
        width = dtypes.as_dtype(entry.dtype).size  # 1 for those that have no size of their own
        fixed = entry.dtype not in (types_pb2.DT_STRING, types_pb2.DT_VARIANT, types_pb2.DT_RESOURCE)
        if fixed and not entry.slices and width > 1 and entry.size != count * width:
            raise _Damaged(f"{name} has {entry.size} bytes, and {count * width} by its shape")
    if shards is None:
        raise _Damaged("it does not say in how many files its values are")


def _refuse_old(data: mmap.mmap) -> None:
    """The first format: the entry without a key says what there is."""
    key, value = next(entries(data), (None, b""))
    if key != b"":
        raise _Damaged("it does not say what it holds")
    for tensor in saved_tensor_slice_pb2.SavedTensorSlices.FromString(value).meta.tensor:
        _refuse_tensor(tensor.name, tensor.type, tensor.shape, tensor.slice)


def _refuse_tensor(name: str, dtype: int, shape: tensor_shape_pb2.TensorShapeProto, slices: list[Message]) -> int:
    """Raise _Damaged for what no tensor can be; returns the number of its elements."""
    if dtype not in types_pb2.DataType.values() or not 0 < dtype < _FIRST_REFERENCE:
        raise _Damaged(f"{name} is of type {dtype}, which is none of a value")
    sizes = [dim.size for dim in shape.dim]
    count = math.prod(size for size in sizes if size) if sizes else 1  # TensorFlow multiplies as they come
    if shape.unknown_rank or len(sizes) > _MOST_DIMENSIONS or min(sizes, default=0) < 0 or count >= 1 << 63:
        shown = ", ".join(map(str, sizes[:6])) + (", ..." if len(sizes) > 6 else "")
        raise _Damaged(f"{name} has the shape [{shown}], which is none of a value")
    for part in slices:
        if len(part.extent) != len(sizes):
            raise _Damaged(f"a part of {name} has {len(part.extent)} dimensions")
        for extent, size in zip(part.extent, sizes, strict=True):
            whole = not extent.HasField("length")
            if (
                extent.start < 0
                or (whole and extent.start)
                or not whole
                and not 0 < extent.length <= size - extent.start
            ):
                raise _Damaged(f"a part of {name} lies outside of it")
    return 0 if 0 in sizes else count
