"""Cases that know nothing of a format: truncated, flipped, zeroed, spliced; in the file, or in a member of an archive."""

from __future__ import annotations

import io
import random
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["Case", "byte_cases"]

# Writes the spoilt source to a path that ends like the seed's, and returns the path to give to the import step.
Build = Callable[[Path], Path]
Case = tuple[str, Build]  # what was done, in words


def byte_cases(seed: Path, random_: random.Random) -> Iterator[Case]:
    """Without end."""
    while True:
        files = _files(seed)
        file = random_.choice(files)
        data = file.read_bytes()
        inside = zipfile.is_zipfile(file) and random_.random() < 0.7
        if inside:
            with zipfile.ZipFile(file) as archive:
                member = random_.choice([name for name in archive.namelist() if not name.endswith("/")])
                words, spoilt = _spoil(archive.read(member), random_)
            yield f"{words} in {Path(member).name}", _writer(seed, file, _repacked(data, member, spoilt))
        else:
            words, spoilt = _spoil(data, random_)
            yield f"{words} in {file.name}", _writer(seed, file, spoilt)


def _files(seed: Path) -> list[Path]:
    if seed.is_dir():
        return sorted(path for path in seed.rglob("*") if path.is_file() and path.stat().st_size)
    return sorted(seed.parent.glob("model.*")) if seed.suffix == ".meta" else [seed]


def _writer(seed: Path, file: Path, data: bytes) -> Build:
    def build(folder: Path) -> Path:
        if seed.is_dir():
            target = folder / seed.name
            shutil.copytree(seed, target)
            (target / file.relative_to(seed)).write_bytes(data)
            return target
        for sibling in _files(seed):
            shutil.copy(sibling, folder / sibling.name)
        (folder / file.name).write_bytes(data)
        return folder / seed.name

    return build


def _repacked(data: bytes, member: str, content: bytes) -> bytes:
    """The archive with other bytes in one member, and a right checksum over them."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(packed, "w") as new:
        for entry in old.infolist():
            new.writestr(entry, content if entry.filename == member else old.read(entry.filename))
    return packed.getvalue()


def _spoil(data: bytes, random_: random.Random) -> tuple[str, bytes]:
    kinds = [_truncate, _flip, _flip, _flip_many, _zero, _all_ones, _delete, _repeat, _magic, _number]
    kind = random_.choice(kinds)
    return kind.__name__.removeprefix("_").replace("_", " "), kind(bytearray(data), random_)


def _truncate(data: bytearray, random_: random.Random) -> bytes:
    # Headers and ends break other things than the middle.
    length = len(data)
    return bytes(
        data[
            : random_.choice(
                [
                    random_.randrange(min(64, length) + 1),
                    random_.randrange(length + 1),
                    max(0, length - 1 - random_.randrange(64)),
                ]
            )
        ]
    )


def _position(data: bytearray, random_: random.Random) -> int:
    return (
        random_.randrange(max(1, min(256, len(data))))
        if random_.random() < 0.3
        else random_.randrange(max(1, len(data)))
    )


def _flip(data: bytearray, random_: random.Random) -> bytes:
    if data:
        data[_position(data, random_)] ^= 1 << random_.randrange(8)
    return bytes(data)


def _flip_many(data: bytearray, random_: random.Random) -> bytes:
    for _ in range(random_.choice([4, 16, 64])):
        _flip(data, random_)
    return bytes(data)


def _zero(data: bytearray, random_: random.Random) -> bytes:
    start, count = _position(data, random_), random_.choice([1, 4, 8, 64, 512])
    data[start : start + count] = bytes(len(data[start : start + count]))
    return bytes(data)


def _all_ones(data: bytearray, random_: random.Random) -> bytes:
    start, count = _position(data, random_), random_.choice([1, 2, 4, 8])
    data[start : start + count] = b"\xff" * len(data[start : start + count])
    return bytes(data)


def _delete(data: bytearray, random_: random.Random) -> bytes:
    start = _position(data, random_)
    del data[start : start + random_.choice([1, 3, 16, 200])]
    return bytes(data)


def _repeat(data: bytearray, random_: random.Random) -> bytes:
    start = _position(data, random_)
    data[start:start] = data[start : start + random_.choice([1, 8, 100])]
    return bytes(data)


def _magic(data: bytearray, random_: random.Random) -> bytes:
    magic = random_.choice(
        [b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b"\x80\x02", b"\x0a", b"TFL3", b"\x1f\x8b\x08", b"<xml", b"\0" * 8]
    )
    data[: len(magic)] = magic
    return bytes(data)


def _number(data: bytearray, random_: random.Random) -> bytes:
    """A digit of a decimal number becomes several: sizes in JSON, in pickles of protocol 0, and in text graphs."""
    places = [place for place in range(len(data)) if 48 <= data[place] <= 57]
    if not places:
        return _flip(data, random_)
    place = random_.choice(places)
    data[place : place + 1] = random_.choice([b"99999999999", b"-1", b"1e99", b"0", b"NaN", b'"x"', b"null", b"[]"])
    return bytes(data)
