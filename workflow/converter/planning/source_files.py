"""What a source consists of on disk, and the hash that stands for it in reports and in the decision to rebuild."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

from converter.errors import SourceError, UntrustedError
from converter.planning.model_directories import files_of_directory
from converter.planning.onnx_files import external_files
from converter.wording import TRUST

__all__ = [
    "file_sha256",
    "refuse_links",
    "refuse_patterns",
    "source_bytes",
    "source_files",
    "source_sha256",
    "source_stat",
    "unreadable",
]

# As for what is packed (safety/containers.py): weights are no hundred times smaller without their zeros.
_NEVER_HOLES, _MOST_TIMES = 1 << 30, 100
_PATTERN = "*?[\\"


def source_files(source: Path) -> list[Path]:
    """The files of a source, sorted: a checkpoint's .meta with its .index and .data files, an .onnx file with those
    that hold its weights, those of a directory, or one file.

    Of a Hugging Face directory these are its configurations and the weights that are read, and not whatever else lies there.

    Raises SourceError when the source does not exist, is neither a file nor a directory, or is one that may not be read.
    """
    source = Path(source)
    if source.is_dir():
        if (chosen := files_of_directory(source)) is not None:
            return chosen
        files = sorted(Path(folder, name) for folder, _, names in os.walk(source, onerror=_refuse) for name in names)
        return [file for file in files if file.is_file() and file.name != ".snakemake_timestamp"]
    if not source.exists():
        raise SourceError(f"{source} does not exist")
    if not source.is_file():
        raise SourceError(f"{source} is neither a file nor a directory")
    if source.suffix == ".onnx":
        return sorted({source, *external_files(source)})
    if source.suffix != ".meta":
        return [source]
    return sorted(file for file in _of_checkpoint(source) if file.is_file())


def _of_checkpoint(meta: Path) -> list[Path]:
    """What lies beside a checkpoint's .meta and belongs to it, whatever it is."""
    prefix = meta.name.removesuffix(".meta")
    # TF1's first checkpoint format keeps the values in one file named like the prefix.
    names = (meta.name, f"{prefix}.index", prefix)
    return [path for path in meta.parent.iterdir() if path.name in names or path.name.startswith(f"{prefix}.data-")]


def refuse_links(source: Path) -> None:
    """Raise UntrustedError where a part of the source is a symbolic link that leads out of it, or neither file nor directory.

    The source itself may be a link, which is the user's; a checkpoint's parts may also lie beside what its .meta is a link to.
    """
    if source.is_dir():
        parts = [Path(folder, name) for folder, folders, files in os.walk(source) for name in (*folders, *files)]
        inside = [os.path.realpath(source)]
    elif source.suffix == ".meta":
        parts = [path for path in _of_checkpoint(source) if path.name != source.name]
        inside = [os.path.realpath(source.parent), os.path.dirname(os.path.realpath(source))]
    else:
        return
    for path in parts:
        target = os.path.realpath(path)
        if path.is_symlink() and not any(os.path.commonpath([folder, target]) == folder for folder in inside):
            raise UntrustedError(
                f"{path} is a symbolic link to {target}, outside of the model: copy the files it means (cp -rL), "
                f"or {TRUST}"
            )
        if not path.is_dir() and not path.is_file() and path.exists():
            raise UntrustedError(f"{path} is neither a file nor a directory: take it out of the model")


def refuse_patterns(source: Path) -> None:
    """Raise SourceError for a checkpoint or SavedModel whose values TensorFlow would not look for under its own name.

    It (2.21) takes the name for a pattern: it finds nothing, or the values of another checkpoint.
    """
    if files_of_directory(source) is not None:
        return  # not TensorFlow's
    if (source.is_dir() or source.suffix == ".meta") and set(str(source)) & set(_PATTERN):
        raise SourceError(
            f"{source}: TensorFlow takes {' '.join(_PATTERN)} in its name for a pattern: rename it or its folder"
        )


def _refuse(error: OSError) -> None:
    raise unreadable(error) from error


def unreadable(error: OSError) -> SourceError:
    """The sentence for a file to which this user has no right of reading."""
    return SourceError(f"{error.filename} may not be read by this user: give rights to read it")


def source_bytes(source: Path) -> int:
    """The size in bytes of all files of a source; raises SourceError as `source_files` does."""
    return sum(file.stat().st_size for file in source_files(source))


def source_stat(source: Path) -> list[list[str | int]]:
    """[name, size, mtime in ns] of each file: unchanged means that the hash need not be computed again."""
    source = Path(source)
    base = source if source.is_dir() else source.parent
    stats = ((file, file.stat()) for file in source_files(source))
    return [[file.relative_to(base).as_posix(), stat.st_size, stat.st_mtime_ns] for file, stat in stats]


def _refuse_holes(path: Path) -> None:
    """Raise SourceError for a large file of almost nothing but holes: a few bytes in an untrusted archive, it would
    be read for hours, and Snakemake itself reads it, which has no limits.
    """
    size, data = path.stat().st_size, 0
    if size < _NEVER_HOLES or not hasattr(os, "SEEK_DATA"):
        return
    with open(path, "rb", buffering=0) as file:
        end = 0
        while data * _MOST_TIMES < size:
            try:
                start = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:  # a file system that does not know its holes
                    return
                raise SourceError(
                    f"{path} holds {size / 1e9:,.1f} GB, nearly all of it holes without data: copy it again"
                ) from None
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            data += end - start


def file_sha256(path: Path) -> str:
    """SHA-256 of the file's bytes, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def source_sha256(source: Path) -> str:
    """Of a file: its SHA-256. Of several: that of the sorted lines "name<tab>hash" of its files.

    Raises SourceError for a file of holes.
    """
    source = Path(source)
    files = source_files(source)
    for file in files:
        _refuse_holes(file)
    if files == [source]:
        return file_sha256(source)
    base = source if source.is_dir() else source.parent
    lines = sorted(f"{file.relative_to(base).as_posix()}\t{file_sha256(file)}\n" for file in files)
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()  # names may be any bytes
