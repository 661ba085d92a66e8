"""Sentences of failed targets, remembered until Snakemake ends and prints them last of all."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from converter.escape import printable
from converter.run_state.folder import state_path
from converter.run_state.lifetime import in_run

__all__ = ["NO_MEMORY", "folders", "remember", "take"]

_FOLDER = ("intermediate", "failures")
# What libraries say, raise, or end the process with where Python would raise MemoryError.
NO_MEMORY = (
    *("std::bad_alloc", "Cannot allocate memory", "MemoryError", "RESOURCE_EXHAUSTED"),
    *("failed to map segment", "can't start new thread"),
)


def folders() -> list[Path]:
    """What must exist and be writable for `remember`; empty where no run keeps sentences."""
    if not in_run():
        return []
    folder = state_path(*_FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    return [folder]


def remember(name: str, sentence: str) -> None:
    """`name`: the target's path below reports/; a later failure of the same target replaces an earlier one."""
    folder = state_path(*_FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"
    path.write_text(json.dumps({"name": name, "sentence": printable(sentence)}), encoding="utf-8")


def take(since: float, prefix: str = "") -> list[str]:
    """The sentences remembered since that time (seconds since the epoch), by target name; they are forgotten.

    prefix: of the module that the workflow is.
    """
    entries = []
    folder = Path(prefix, *_FOLDER)
    for path in folder.glob("*.json") if folder.is_dir() else []:
        if path.stat().st_mtime >= since:
            entries.append(json.loads(path.read_text(encoding="utf-8")))
        path.unlink()
    return [entry["sentence"] for entry in sorted(entries, key=lambda entry: entry["name"])]
