"""Write docs/licences.md from the metadata of what is installed: licences.py OUTPUT.

A package's licence is what its own metadata says (core metadata: License-Expression, else the classifiers, else License).
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_HEAD = """# Licences

What Converter's dependencies say of their licences, by their own metadata. Made by `make licences` from what is installed;
direct requirements are in bold. A package that is listed here and not installed on the machine that made the page is marked so.

| package | version | licence |
|---|---|---|
"""


def pinned() -> dict[str, tuple[str, bool]]:
    """(version, whether it is a direct requirement) by package name, of all requirement files and constraints.txt."""
    found: dict[str, tuple[str, bool]] = {}
    for path in [*sorted(ROOT.glob("requirements*.txt")), ROOT / "constraints.txt"]:
        for line in path.read_text(encoding="utf-8").splitlines():
            name, separator, version = line.partition("#")[0].strip().partition("==")
            if separator:
                found.setdefault(name, (version, path.name != "constraints.txt"))
    return dict(sorted(found.items(), key=lambda entry: entry[0].lower()))


def licence(name: str) -> str:
    """In one line."""
    try:
        metadata = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed here"
    if metadata.get("License-Expression"):
        return metadata["License-Expression"]
    prefix = "License :: "
    classifiers = [value for value in metadata.get_all("Classifier") or [] if value.startswith(prefix)]
    names = [value.rsplit(" :: ", 1)[-1] for value in classifiers if value.count(" :: ") > 1]
    if names:
        return ", ".join(names)
    text = re.sub(r"\s+", " ", metadata.get("License") or "").strip()
    return (text[:60] + "..." if len(text) > 63 else text) or "its metadata does not say"


def main(output: Path) -> None:
    rows = []
    for name, (version, direct) in pinned().items():
        rows.append(f"| {f'**{name}**' if direct else name} | {version} | {licence(name).replace('|', '/')} |\n")
    output.write_text(_HEAD + "".join(rows), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
