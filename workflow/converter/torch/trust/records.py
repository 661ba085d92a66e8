"""Whether the records of a PyTorch archive are what its index says: torch (2.13) compares neither checksums nor, for
TorchScript, sizes. A damaged weight would be converted as it is, and a tensor larger than its record would be filled with
whatever lies in the process's memory behind it.
"""

from __future__ import annotations

import math
import pickle
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch

from converter.errors import SourceError, UnsupportedError
from converter.torch.trust.inert import Inert

__all__ = ["Archive", "TensorSizes", "check_sums", "check_tensors", "record_sizes"]


class Archive(zipfile.ZipFile):
    """A zip file of torch's, to read. Where it was written without checksums, there are none to compare."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        for entry in self.infolist():
            if entry.CRC == 0:  # as torch.serialization.set_crc32_options(False) writes
                entry.CRC = None


def check_sums(path: Path) -> None:
    """Raise SourceError where a member of the archive `path` does not have the CRC-32 that was recorded with it."""
    with Archive(path) as archive:
        for entry in archive.infolist():
            if entry.CRC is None:
                continue
            try:
                with archive.open(entry) as stream:
                    while stream.read(1 << 20):
                        pass
            except Exception as error:  # zipfile's own, and zlib's for what was compressed
                raise SourceError(f"{path} is damaged ({error}): copy it again") from error


def check_tensors(path: Path) -> None:
    """Raise SourceError where a tensor of the TorchScript archive `path` is larger than the record that holds it."""
    with Archive(path) as archive:
        for name in archive.namelist():
            if name.lower().rpartition("/")[2] not in ("data.pkl", "constants.pkl"):
                continue
            with archive.open(name) as stream:
                try:
                    TensorSizes(path, stream, record_sizes(archive, name)).load()
                except (MemoryError, UnsupportedError):
                    raise
                except Exception as error:  # whatever the bytes lead the machine to
                    text = (str(error).splitlines() or [type(error).__name__])[0]
                    raise SourceError(f"{path} is damaged: {name} in it: {text[:200]}") from error


def record_sizes(archive: zipfile.ZipFile, pickle_name: str) -> dict[str, int]:
    """Bytes of each record of a pickle's tensors, by its key in lower case: torch finds records whatever their case."""
    prefix = pickle_name.lower().removesuffix(".pkl") + "/"
    sizes = {entry.filename.lower(): entry.file_size for entry in archive.infolist()}
    return {key.removeprefix(prefix): size for key, size in sizes.items() if key.startswith(prefix)}


@dataclass
class _Storage:
    elements: int


class TensorSizes(pickle.Unpickler):
    """Runs a pickle for its tensors' sizes. Nothing that it names is imported or called."""

    def __init__(self, path: Path, stream: BinaryIO, records: dict[str, int]) -> None:
        super().__init__(stream)
        self._path, self._records = path, records

    def find_class(self, module: str, name: str) -> Callable | str:
        """Storages by name, a check for tensors, inert stubs for the rest; raises UnsupportedError for sparse tensors."""
        if module == "torch" and name.endswith("Storage"):
            return name
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_qtensor"):
            return _check_tensor
        if module == "torch._utils" and "sparse" in name:
            raise UnsupportedError(f"{self._path} holds a sparse tensor: convert it with to_dense() before it is saved")
        return Inert

    def persistent_load(self, reference: tuple) -> _Storage:
        """The number of elements of a storage; raises UnpicklingError if its record is too short for them."""
        _, storage, key, _, elements = reference
        needed = elements * _item_size(storage)
        if elements < 0 or needed > (there := self._records.get(key.lower(), 0)):
            raise pickle.UnpicklingError(f"record {key} holds {there} bytes, and its tensor needs {needed}")
        return _Storage(elements)


def _item_size(storage: str) -> int:
    """Bytes of an element of torch.FloatStorage and the like; torch itself has no such class for the newer dtypes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        name = storage.removesuffix("Storage").lower()
        dtype = getattr(getattr(torch, storage, None), "dtype", None) or getattr(torch, name, None)
    if name == "untyped":
        return 1
    if not isinstance(dtype, torch.dtype):
        raise pickle.UnpicklingError(f"unknown type {storage}")
    return dtype.itemsize


def _check_tensor(storage: _Storage, offset: int, size: tuple, stride: tuple, *_: object) -> Inert:
    """Arguments of torch._utils._rebuild_tensor_v2, in elements."""
    if min([offset, *size, *stride, 0]) < 0 or len(size) != len(stride):
        raise pickle.UnpicklingError(f"no tensor has size {size}, stride {stride} and offset {offset}")
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True)) + 1
    if math.prod(size) and last > storage.elements:
        raise pickle.UnpicklingError(f"a tensor of size {size} lies beyond its {storage.elements} elements")
    return Inert()
