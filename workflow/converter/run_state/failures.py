"""Sentences of failed targets, remembered until Snakemake ends and prints them last of all."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from converter.escape import printable
from converter.run_state.lifetime import in_run

__all__ = ["NO_MEMORY", "folders", "remember", "take"]

_FOLDER = Path("intermediate", "failures")
# What libraries say, raise, or end the process with where Python would raise MemoryError.
NO_MEMORY = (
    *("std::bad_alloc", "Cannot allocate memory", "MemoryError", "RESOURCE_EXHAUSTED"),
    *("failed to map segment", "can't start new thread"),
)


def folders() -> list[Path]:
    """What must exist and be writable for `remember`; empty where no run keeps sentences."""
    if not in_run():
        return []
    _FOLDER.mkdir(parents=True, exist_ok=True)
    return [_FOLDER]


def remember(name: str, sentence: str) -> None:
    """`name`: the target's path below reports/; a later failure of the same target replaces an earlier one."""
    _FOLDER.mkdir(parents=True, exist_ok=True)
    path = _FOLDER / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"
    path.write_text(json.dumps({"name": name, "sentence": printable(sentence)}), encoding="utf-8")


def take(since: float) -> list[str]:
    """The sentences remembered since that time (seconds since the epoch), by target name; they are forgotten."""
    entries = []
    for path in _FOLDER.glob("*.json") if _FOLDER.is_dir() else []:
        if path.stat().st_mtime >= since:
            entries.append(json.loads(path.read_text(encoding="utf-8")))
        path.unlink()
    return [entry["sentence"] for entry in sorted(entries, key=lambda entry: entry["name"])]
