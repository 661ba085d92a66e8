"""What a Keras file says about itself before any Keras opens it: its format, the Keras that wrote it, its configuration."""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

from converter.errors import ConverterError, SourceError, UntrustedError
from converter.safety.containers import refuse_archive, refuse_hdf5
from converter.wording import TRUST

__all__ = ["KerasFile", "read_keras_file"]


@dataclass(frozen=True)
class KerasFile:
    """config: the model's configuration, None for a file of weights alone. version: of the Keras that wrote it."""

    path: Path
    version: str | None
    config: dict | None

    @property
    def is_legacy(self) -> bool:
        """Whether it is a file for tf_keras.

        Keras 3 (3.15) opens some files of Keras 2 silently with an extra input dimension, and fails on most;
        tf_keras opens them all. Files without a version are older still.
        """
        return self.version is None or int(self.version.split(".")[0]) < 3


def read_keras_file(path: Path, trusted: bool = False) -> KerasFile:
    """Raises SourceError for a file that is empty, truncated, or no Keras file, UntrustedError for what leads out of it."""
    if path.stat().st_size == 0:
        raise SourceError(f"{path} is empty: copy it again")
    with open(path, "rb") as file:
        start = file.read(8)
    if not trusted:
        _refuse_both(path, start)
    if start == b"\x89HDF\r\n\x1a\n":
        return _read_hdf5(path, trusted)
    if start.startswith(b"PK"):
        if not trusted:
            refuse_archive(path)
        return _read_zip(path, trusted)
    raise SourceError(f"{path} is no Keras file, neither HDF5 nor a .keras archive: copy it again, or correct its name")


def _refuse_both(path: Path, start: bytes) -> None:
    """Raise UntrustedError for a file that is an archive and HDF5: Keras might open it as the other than what was looked at.

    HDF5 may begin behind 512, 1024 or more bytes, the directory of an archive lies at its end. Keras 2 and 3 go by the
    name, and take a .keras for an archive where it can be one; weights in that may lie where HDF5 may begin.
    """
    import h5py

    is_archive = start.startswith(b"PK") and path.suffix == ".keras"
    if not is_archive and zipfile.is_zipfile(path) and h5py.is_hdf5(path):
        raise UntrustedError(f"{path} is both an archive and an HDF5 file: save the model again, or {TRUST}")


def _read_hdf5(path: Path, trusted: bool) -> KerasFile:
    import h5py

    try:
        if not trusted:
            refuse_hdf5(path)
        with h5py.File(path, "r") as file:
            version = file.attrs.get("keras_version")
            config = file.attrs.get("model_config")
            groups = set(file.keys())
            if version is None and "model_weights" in file:
                version = file["model_weights"].attrs.get("keras_version")
            weights_only = "layer_names" in file.attrs or bool(
                groups & {"layers", "_layer_checkpoint_dependencies", "vars"}
            )
            if config is None and not weights_only and "layer_names" not in file.attrs:
                raise SourceError(
                    f"{path} is an HDF5 file without a Keras model ({', '.join(sorted(groups)) or 'empty'})"
                )
            if version is None and "layer_names" not in file.attrs and config is None:
                version = "3"  # Keras 3's own weights format has no attributes
    except ConverterError:
        raise
    except Exception as error:  # h5py raises whatever the bytes lead it to
        raise SourceError(f"{path} is damaged or truncated ({path.stat().st_size} bytes): copy it again") from error
    return KerasFile(path, _version(path, version), None if config is None else _json(path, _text(config)))


def _text(value: object) -> str | None:
    return value.decode() if isinstance(value, bytes) else value


def _version(path: Path, value: object) -> str | None:
    text = _text(value)
    if text is not None and not (isinstance(text, str) and re.match(r"\d{1,3}(\.|$)", text, re.ASCII)):
        raise SourceError(f"{path} is damaged: it says that Keras {str(text)[:40]!r} wrote it")
    return text


def _json(path: Path, text: str) -> dict:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} is damaged: its configuration is no JSON ({error})") from None
    if not isinstance(value, dict):
        raise SourceError(f"{path} is damaged: its configuration is no JSON object")
    return value


def _read_zip(path: Path, trusted: bool) -> KerasFile:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            if "config.json" not in names:
                raise SourceError(f"{path} is an archive without a Keras model: it has no config.json")
            config = _json(path, archive.read("config.json").decode())
            metadata = _json(path, archive.read("metadata.json").decode()) if "metadata.json" in names else {}
        for name in () if trusted else names:
            if name.endswith((".h5", ".hdf5")):
                refuse_hdf5(path, within=name)
    except ConverterError:
        raise
    except Exception as error:  # zipfile, zlib and h5py raise whatever the bytes lead them to
        raise SourceError(f"{path} is damaged or truncated ({path.stat().st_size} bytes): copy it again") from error
    return KerasFile(path, _version(path, metadata.get("keras_version", "3")), config)
