"""Write a Keras model so that the same model gives the same bytes."""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from pathlib import Path

import keras

__all__ = ["save"]

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip archive can hold
_SHARED = re.compile(r'("shared_object_id": )(\d+)')


def save(model: keras.Model, path: Path) -> None:
    """Write `model` to `path`, whose suffix says the format: .keras, .h5 or .hdf5."""
    model.save(path)
    if path.suffix == ".keras":
        _without_times(path)


def _without_times(path: Path) -> None:
    """A .keras file holds the time of saving three times, and memory addresses as identities of shared objects."""
    rewritten = path.with_name(path.name + ".rewritten")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(rewritten, "w") as target:
        for member in source.infolist():
            info = zipfile.ZipInfo(member.filename, _EPOCH)
            info.external_attr = 0o644 << 16
            with source.open(member) as old, target.open(info, "w", force_zip64=True) as new:
                if member.filename == "metadata.json":
                    metadata = json.load(old) | {"date_saved": "1980-01-01@00:00:00"}
                    new.write(json.dumps(metadata).encode())
                elif member.filename == "config.json":
                    new.write(_numbered(old.read().decode()).encode())
                else:
                    shutil.copyfileobj(old, new, 1 << 22)
    os.replace(rewritten, path)


def _numbered(config: str) -> str:
    """Identities of shared objects numbered in order of appearance."""
    numbers: dict[str, int] = {}
    return _SHARED.sub(lambda match: match[1] + str(numbers.setdefault(match[2], len(numbers))), config)
