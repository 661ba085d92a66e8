"""Whether the user's code that ran in a step is still the same, and the part of the step's rebuild key that stands for it.

Before its first run nobody knows what a script will import; afterwards the record (importing/user_code.py) does. For the key not
to change by that, the record keeps the key that the step was run under, and planning returns it as long as every file of the
record is what it was.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.errors import SourceError
from converter.importing.user_code import MISSING, importable, is_users
from converter.planning.source_files import file_sha256

if TYPE_CHECKING:
    from converter.hub.hub import Hub

__all__ = ["RecordedCode", "read_record", "record_of", "refuse_changed", "write_record"]


def record_of(staged: Path) -> Path:
    """Where an export leaves the record of the representative data's script."""
    return staged.with_name(f"{staged.name}.code.json")


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record (user_code.Record.to_json with its key) as one line of JSON."""
    path.write_text(json.dumps(record) + "\n", encoding="utf-8")


def read_record(path: Path) -> dict[str, Any]:
    """The record, or what `Hub.write` stores; {} where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


class RecordedCode:
    """Looks at each file and folder once: many models may share a script."""

    def __init__(self) -> None:
        self._sha256 = functools.cache(_sha256)
        self._importable = functools.cache(importable)
        self._beside = functools.cache(self._hashes_beside)

    def key(self, base: str, script: str | None, record: dict[str, Any]) -> str:
        """`base`, which stands for all other causes, and what stands for the user's code.

        script: the file that a parameter names. record: of the last run, {} where there was none.
        """
        kept = str(record.get("key", "")).partition(".")[2]
        if record.get("key") and self.is_current(record):
            return f"{base}.{kept}" if kept else base
        hashes = dict(self._beside(script)) if script else {}
        hashes |= {path: self._sha256(path) for path, *_ in record.get("files", [])}
        hashes |= {os.path.join(folder, name): "new" for folder, name in self._appeared(record)}
        if not hashes:
            return base
        digest = hashlib.sha256(json.dumps(sorted(hashes.items())).encode()).hexdigest()[:16]
        if record and digest == kept:  # the files changed after planning and were put back: what ran was something else
            digest += "-again"
        return f"{base}.{digest}"

    def is_current(self, record: dict[str, Any]) -> bool:
        """Whether all recorded files have their bytes, and no other has come that an import would find first."""
        for path, size, mtime, sha256 in record["files"]:
            try:
                stat = os.stat(path)
            except OSError:
                if sha256 == MISSING:
                    continue
                return False
            if (stat.st_size, stat.st_mtime_ns) != (size, mtime) and self._sha256(path) != sha256:
                return False
        return not self._appeared(record)

    def _appeared(self, record: dict[str, Any]) -> list[tuple[str, str]]:
        """(folder, name) of each module that was looked for in vain, or would be found first, and is there now."""
        found = [
            (folder, name)
            for folder, names in record.get("absent", {}).items()
            for name in sorted(self._importable(folder) & set(names))
        ]
        return found + [os.path.split(path) for path in record.get("packages", []) if os.path.exists(path)]

    def _hashes_beside(self, script: str) -> list[tuple[str, str]]:
        """Hashes of all Python files in the script's folder and in the packages below it: what it may import.

        This tells apart what a cache between workflows would otherwise take for the same, before anything has run.
        """
        found: list[tuple[str, str]] = []
        pending = [os.path.dirname(script) or "."]
        while pending:
            folder = pending.pop()
            for name in sorted(self._importable(folder)):
                path = os.path.normpath(os.path.join(folder, name))
                if os.path.isfile(f"{path}.py"):
                    found.append((f"{path}.py", self._sha256(f"{path}.py")))
                if os.path.isfile(os.path.join(path, "__init__.py")) and is_users(os.path.abspath(path)):
                    pending.append(path)
        return found


def _sha256(path: str) -> str:
    try:
        return file_sha256(Path(path))
    except OSError:
        return MISSING


def refuse_changed(hub: Hub) -> None:
    """Raise SourceError where the user's code is another by now than the one that the hub was made with.

    It was edited since, or the hub comes from a cache that workflows share. A file that is not on this machine at all, a
    cluster's node say, says nothing.
    """
    for path, _, _, sha256 in hub.user_code.get("files", []):
        if _sha256(path) not in (sha256, MISSING):
            raise SourceError(
                f"{path} is another file by now than when {hub.source.get('path')} was read: run it again"
            )
