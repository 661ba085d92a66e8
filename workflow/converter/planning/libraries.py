"""Libraries that only some conversions need, by the names that declarations give them: what is pinned, and what is there."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from converter.installation import ROOT

__all__ = ["LISTS", "missing", "state"]

# Lists of requirements beside the Snakefile of a clone, with options of pip for each.
LISTS: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "torch": (("requirements-torch.txt", ()), ("requirements-vision.txt", ("--no-deps",))),
    "micro": (("requirements-micro.txt", ("--no-deps",)),),
    "openvino": (("requirements-openvino.txt", ("--no-deps",)),),
}


def missing(requirements: Path) -> list[str]:
    """The lines `name==version` that are not installed at that version (a local suffix such as +cpu does not count)."""
    return [line for line in _lines(requirements) if _version(line) != line.split("==")[1]]


def state(name: str, marker: Path) -> str:
    """What is pinned, and whether it went away since `marker` says that it was installed; "" in a wheel, which has no lists."""
    paths = [path for path, _ in LISTS[name] if (ROOT / path).is_file()]
    pins = " ".join(line for path in paths for line in _lines(ROOT / path))
    gone = marker.exists() and any(missing(ROOT / path) for path in paths)
    return f"{pins} (gone)" if gone else pins


def _lines(requirements: Path) -> list[str]:
    lines = [line.strip() for line in requirements.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def _version(pin: str) -> str | None:
    try:
        return importlib.metadata.version(pin.split("==")[0]).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None
