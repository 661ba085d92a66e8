"""Weights in a .safetensors file, read without a library: what was checked of the header is what is loaded.

The format (https://github.com/huggingface/safetensors#format): eight bytes of header length, little-endian; the header,
JSON of {name: {dtype, shape, data_offsets}}, which may end in spaces; then the values, which the offsets cover without
holes. Nothing in such a file can be code.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from converter.errors import SourceError
from converter.torch.trust.names import check_parts

__all__ = ["is_safetensors", "load_safetensors"]

_LENGTH = 8
# As the format's own library: larger headers are none.
_LONGEST_HEADER = 100_000_000
_LONGEST_NAME = 1_000
# torch.Tensor holds any number of dimensions, NumPy (1.26) none beyond this.
_MOST_DIMENSIONS = 32
_METADATA = "__metadata__"
_DTYPES = {
    **{f"F{size}": getattr(torch, f"float{size}") for size in (16, 32, 64)},
    **{f"I{size}": getattr(torch, f"int{size}") for size in (8, 16, 32, 64)},
    **{f"U{size}": getattr(torch, f"uint{size}") for size in (8, 16, 32, 64)},
    "BF16": torch.bfloat16,
    "BOOL": torch.bool,
    "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
}


def is_safetensors(path: Path) -> bool:
    """By its name, or by its first bytes: the length of a header that lies in the file, and the brace that begins it.

    The first byte of a length may well be that of a pickle; no pickle has a number as small in its first eight bytes.
    """
    if path.suffix == ".safetensors":
        return True
    with open(path, "rb") as stream:
        start = stream.read(_LENGTH + 1)
    length = int.from_bytes(start[:_LENGTH], "little")
    return start[_LENGTH:] == b"{" and _LENGTH + length <= path.stat().st_size


def load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors by name, mapped from the file; writing to them does not reach it.

    Raises SourceError, in one sentence, for a file that is none or damaged, and for dtypes that torch does not have;
    UntrustedError for names that torch could take for code.
    """
    entries, start = _header(path)
    values = _checked(path, entries, path.stat().st_size - start)
    check_parts(path, values)
    if not values:
        raise SourceError(f"{path} holds no tensors: save the model's state_dict with safetensors.torch.save_file")
    # A map of no bytes cannot be made; all tensors are empty then.
    whole = start < path.stat().st_size
    data = torch.from_numpy(np.memmap(path, np.uint8, "c", start) if whole else np.zeros(0, np.uint8))
    return {name: _tensor(data, *value) for name, value in values.items()}


def _tensor(data: torch.Tensor, dtype: torch.dtype, shape: list[int], begin: int, end: int) -> torch.Tensor:
    part = data[begin:end]
    if part.data_ptr() % dtype.itemsize or begin % dtype.itemsize:  # only a copy is aligned
        part = part.clone()
    return part.view(dtype).reshape(shape)


def _header(path: Path) -> tuple[Mapping[str, Any], int]:
    """Its entries, and the offset of the values."""
    size = path.stat().st_size
    with open(path, "rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH), "little")
        if size < _LENGTH or length > size - _LENGTH:
            raise SourceError(
                f"{path} is truncated, or no .safetensors file: its header would end at byte {_LENGTH + length:,} of {size:,}: "
                "copy it again"
            )
        if length > _LONGEST_HEADER:
            raise _damaged(path, f"its header of {length:,} bytes is longer than the format allows")
        text = stream.read(length)
    if not text.startswith(b"{"):
        raise _damaged(path, "its header is not that of a .safetensors file")
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refused)
    except (ValueError, RecursionError) as error:  # JSON, UTF-8, numbers of thousands of digits
        raise _damaged(path, f"its header cannot be read ({str(error)[:120]})") from error
    return header, _LENGTH + length


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice[:80]!r} is there twice")
    return found


def _refused(constant: str) -> object:
    raise ValueError(f"{constant} is no number")


def _checked(path: Path, entries: Mapping[str, Any], size: int) -> dict[str, tuple[torch.dtype, list[int], int, int]]:
    """(dtype, shape, begin, end in bytes) by name, that together cover the `size` bytes of values, each byte once."""
    found: dict[str, tuple[torch.dtype, list[int], int, int]] = {}
    for name, entry in entries.items():
        if name == _METADATA:
            if not isinstance(entry, dict) or not all(isinstance(text, str) for text in entry.values()):
                raise _damaged(path, f"{_METADATA} in its header is no mapping of texts")
            continue
        if not name or len(name) > _LONGEST_NAME:
            raise _damaged(path, f"a tensor's name has {len(name):,} characters")
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise _damaged(path, f"its header does not give dtype, shape and data_offsets of {_shown(name)}")
        dtype = _DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
        if dtype is None:
            raise SourceError(
                f"{path}: {_shown(name)} is of the type {str(entry['dtype'])[:40]!r}, which torch does not have: save it as F32"
            )
        shape, offsets = entry["shape"], entry["data_offsets"]
        if not _are_sizes(shape) or len(shape) > _MOST_DIMENSIONS:
            raise _damaged(path, f"{_shown(name)} has no shape that a tensor can have")
        if not _are_sizes(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= size:
            raise _damaged(path, f"{_shown(name)} does not lie in the file's {size:,} bytes of values")
        needed = math.prod(shape) * dtype.itemsize
        if needed != offsets[1] - offsets[0]:
            raise _damaged(
                path,
                f"{_shown(name)} of shape {shape} needs {needed:,} bytes, and {offsets[1] - offsets[0]:,} are given",
            )
        found[name] = (dtype, shape, *offsets)
    end = 0
    for name, (_, _, begin, stop) in sorted(found.items(), key=lambda item: item[1][2:]):
        if begin != end:
            raise _damaged(path, f"{_shown(name)} {'overlaps another tensor' if begin < end else 'follows a gap'}")
        end = stop
    if end != size:
        raise _damaged(path, f"{size - end:,} bytes at its end belong to no tensor")
    return found


def _are_sizes(values: object) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 48 for value in values)


def _shown(name: str) -> str:
    return ascii(name)[1:-1][:80]


def _damaged(path: Path, what: str) -> SourceError:
    return SourceError(f"{path} is damaged: {what}: copy it again, or save it again with safetensors.torch.save_file")
