"""Exported PyTorch programs taken apart and put together again, for tests of hostile ones."""

from __future__ import annotations

import zipfile
from pathlib import Path

__all__ = ["read_entries", "write_entries"]


def read_entries(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_entries(folder: Path, entries: dict[str, bytes]) -> Path:
    """folder/model.pt2, without compression."""
    path = folder / "model.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path
