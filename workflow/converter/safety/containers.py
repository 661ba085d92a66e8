"""Untrusted archives and HDF5 files: what in them leads out of the file, and decompression bombs."""

from __future__ import annotations

import math
import os
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from converter.errors import SourceError, UntrustedError
from converter.wording import TRUST

if TYPE_CHECKING:
    import h5py

__all__ = ["refuse_archive", "refuse_hdf5"]

# Weights hardly shrink when they are packed; a bomb holds a thousand times its size (the limit of deflate).
_MOST_TIMES, _ALWAYS_ALLOWED = 100, 1 << 30


def refuse_archive(path: Path, hint: str = TRUST) -> None:
    """Raise UntrustedError for a zip file with names that lead out of it, links, names twice, or a bomb in it.

    A name twice: the libraries that read it may take either (Python the last, torch the first, and of names that differ
    in case only any), so that one is checked and the other is loaded. So may they where the file's end does not say for
    both of them where its directory is. Raises SourceError for a damaged archive. Keras, PyTorch and NumPy files (.npz) are
    archives.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
        one_directory = _has_one_directory(path)
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} is damaged or truncated ({error}): copy it again") from error
    if not one_directory:
        raise UntrustedError(f"{path} has a directory that not all programs find; {hint}")
    names = set()
    for entry in entries:
        name = entry.filename
        if name.startswith(("/", "\\")) or "\\" in name or ".." in PurePosixPath(name).parts:
            raise UntrustedError(f"{path} contains a name that leads out of it ({name!r}); {hint}")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise UntrustedError(f"{path} contains a symbolic link ({name!r}); {hint}")
        if name.lower() in names:
            raise UntrustedError(f"{path} contains the name {name!r} twice; {hint}")
        names.add(name.lower())
    _refuse_size(path, sum(entry.file_size for entry in entries), hint)


def _has_one_directory(path: Path) -> bool:
    """Whether the directory lies right before the records that end the file, and both records say so.

    Python counts back from the end (3.11), torch goes where the records point (APPNOTE.TXT 4.3.14 to 4.3.16).
    """
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        start = file.seek(max(0, size - (1 << 16) - 200))
        tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        return False
    length, offset, comment = struct.unpack_from("<IIH", tail, at + 12)
    end = start + at
    if at >= 20 and tail[at - 20 : at - 16] == b"PK\x06\x07":
        end -= 20 + 56
        (pointed,) = struct.unpack_from("<Q", tail, at - 12)
        if pointed != end or tail[at - 76 : at - 72] != b"PK\x06\x06":
            return False
        length, offset = struct.unpack_from("<QQ", tail, at - 76 + 40)
    return offset + length == end and at + 22 + comment == len(tail)


def refuse_hdf5(path: Path, within: str | None = None) -> None:
    """Raise UntrustedError for links to other files, data kept in other files, and sizes out of proportion.

    `within`: the name of an HDF5 file in the archive `path`. Raises OSError where the file is damaged.
    """
    if within is None:
        with open(path, "rb") as file:
            _refuse_in_hdf5(path, file)
        return
    with zipfile.ZipFile(path) as archive, archive.open(within) as packed, tempfile.TemporaryFile() as file:
        shutil.copyfileobj(packed, file, 1 << 20)
        file.seek(0)
        _refuse_in_hdf5(path, file)


def _refuse_in_hdf5(path: Path, stream: BinaryIO) -> None:
    import h5py

    total = 0
    with h5py.File(stream, "r") as file:
        _refuse_types(path, file)
        links: list[tuple[str, object]] = []
        file.visititems_links(lambda name, link: links.append((name, link)))
        for name, link in links:
            if isinstance(link, h5py.ExternalLink):
                raise UntrustedError(f"{path} contains a link to another file ({name} to {link.filename}); {TRUST}")
        datasets: list[h5py.Dataset] = []
        file.visititems(lambda _, entry: datasets.append(entry) if isinstance(entry, h5py.Dataset) else None)
        for entry in datasets:
            if entry.external or entry.is_virtual:
                raise UntrustedError(f"{path} keeps the data of {entry.name} in another file; {TRUST}")
            total += entry.nbytes
        _refuse_size(path, total, TRUST)
        for entry in datasets:
            _refuse_short(path, entry)


def _refuse_types(path: Path, file: h5py.File) -> None:
    """Raise UntrustedError for values of any type but numbers and text, of datasets and of attributes.

    h5py (3.14) takes NumPy's name of a type from the file, for bytes of the type OPAQUE with the tag "NUMPY:|O" also that of
    Python's objects: the bytes are then taken for their addresses.
    """
    import h5py

    objects: list[h5py.HLObject] = [file]
    file.visititems(lambda _, entry: objects.append(entry))
    for entry in objects:
        types = [h5py.h5a.open(entry.id, index=index).get_type() for index in range(h5py.h5a.get_num_attrs(entry.id))]
        if isinstance(entry, h5py.Dataset | h5py.Datatype):
            types.append(entry.id if isinstance(entry, h5py.Datatype) else entry.id.get_type())
        if not all(map(_is_plain, types)):
            raise UntrustedError(f"{path} keeps values in {entry.name} that are neither numbers nor text; {TRUST}")


def _is_plain(kind: h5py.h5t.TypeID) -> bool:
    from h5py import h5t

    if isinstance(kind, h5t.TypeCompoundID):  # complex numbers
        return all(_is_plain(kind.get_member_type(index)) for index in range(kind.get_nmembers()))
    if isinstance(kind, h5t.TypeArrayID | h5t.TypeVlenID | h5t.TypeEnumID):  # truth values are of an enumeration
        return _is_plain(kind.get_super())
    return isinstance(kind, h5t.TypeIntegerID | h5t.TypeFloatID | h5t.TypeStringID)


_DEFLATE, _SHUFFLE, _CHECKSUM = 1, 2, 3  # H5Zpublic.h


def _refuse_short(path: Path, entry: h5py.Dataset) -> None:
    """Raise for values that are not all there: HDF5 (1.14) fills the rest of a short chunk with what its memory held."""
    stored, size = entry.id.get_storage_size(), entry.id.get_type().get_size()
    if not entry.chunks:
        if entry.shape is not None and 0 < stored < entry.size * size:
            raise _short(path, entry)
        return
    plist = entry.id.get_create_plist()
    filters = [plist.get_filter(index)[0] for index in range(plist.get_nfilters())]
    wanted = math.prod(entry.chunks) * size
    for index in range(entry.id.get_num_chunks()):
        chunk = entry.id.get_chunk_info(index)
        mask, data = entry.id.read_direct_chunk(chunk.chunk_offset)
        left = min(len(data), chunk.size)  # without filters all of a chunk is read, however short it is
        for position, filter_ in reversed(list(enumerate(filters))):
            if mask >> position & 1:  # this chunk was written without it
                continue
            if filter_ == _DEFLATE:
                try:
                    data = zlib.decompressobj().decompress(data[:left], wanted + 4 + 1)
                except zlib.error:
                    raise _short(path, entry) from None
                left = len(data)
            elif filter_ == _CHECKSUM:
                left -= 4
            elif filter_ != _SHUFFLE:
                raise UntrustedError(
                    f"{path} keeps {entry.name} packed in a way that is not known here (filter {filter_}): "
                    f"save it without, or {TRUST}"
                )
        if left != wanted:
            raise _short(path, entry)


def _short(path: Path, entry: h5py.Dataset) -> SourceError:
    return SourceError(f"{path} is damaged: not all values of {entry.name} are there: copy it again")


def _refuse_size(path: Path, unpacked: int, hint: str) -> None:
    packed = path.stat().st_size
    if unpacked > max(_ALWAYS_ALLOWED, _MOST_TIMES * packed):
        raise UntrustedError(f"{path} holds {unpacked / 1e9:.1f} GB in {packed / 1e6:.3g} MB; {hint}")
