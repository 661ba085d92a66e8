"""A hash of the code a step runs, so that a changed script rebuilds what it made and nothing else."""

from __future__ import annotations

import functools
import hashlib
import re
from pathlib import Path

__all__ = ["code_version", "step_files"]

_PACKAGES = Path(__file__).resolve().parents[1]
_SCRIPTS = _PACKAGES.parent / "scripts"
# A regular expression, because Python's parser takes a second for all of them, at the start of every run.
_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]+(\([^)]*\)|[^\n]*)|import[ \t]+([^\n]+))", re.MULTILINE
)


_TYPES_ONLY = re.compile(r"^if TYPE_CHECKING:\n(?:[ \t]+[^\n]*\n|\n)+", re.MULTILINE)
# Offers convert(), which plans and runs steps; a step that imports the package runs none of that.
_FACADE = _PACKAGES / "converter" / "__init__.py"


@functools.cache
def code_version(script: str) -> str:
    """Of scripts/{script}.py and all that it imports."""
    digest = hashlib.sha256()
    for path in step_files(script):
        digest.update(f"{path.relative_to(_PACKAGES.parent)}\0{_read(path)[0]}\0".encode())
    return digest.hexdigest()[:16]


def step_files(script: str) -> list[Path]:
    """scripts/{script}.py and, transitively, this project's modules that it imports, sorted."""
    seen: set[Path] = set()
    pending = {_SCRIPTS / f"{script}.py"}
    while pending:
        path = pending.pop()
        seen.add(path)
        pending |= _read(path)[1] - seen
    return sorted(seen)


@functools.cache
def _read(path: Path) -> tuple[str, frozenset[Path]]:
    """The text of a file, and this project's files that it imports; all of a package, templates too."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    found: set[Path] = set()
    for module, names, plain in _IMPORT.findall(_TYPES_ONLY.sub("", text)):
        for name in [module] if module else re.findall(r"[\w.]+", plain):
            base = _PACKAGES.joinpath(*name.split("."))
            if not name.startswith(("converter", "aup")):
                continue
            submodules = [base / f"{word}.py" for word in re.findall(r"\w+", names)]
            found |= {base.with_name(f"{base.name}.py"), base / "__init__.py", *submodules}
            found |= {base / word / "__init__.py" for word in re.findall(r"\w+", names)}
            if name.count(".") and base.is_dir():
                found |= {*base.glob("*.py"), *base.glob("*.j2")}
    return text, frozenset(path for path in found - {_FACADE} if path.is_file())
