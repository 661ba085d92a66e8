"""A hash of the code a step runs, so that a changed script rebuilds what it made and nothing else."""

from __future__ import annotations

import functools
import hashlib
import re
from pathlib import Path

__all__ = ["code_version"]

_PACKAGE = Path(__file__).resolve().parent
_SCRIPTS = _PACKAGE.parents[1] / "scripts"
_IMPORT = re.compile(
    r"^\s*(?:from\s+converter([\w.]*)\s+import\s+([\w, ()\n]+?)$|import\s+converter([\w.]*))", re.MULTILINE
)


@functools.cache
def code_version(script: str) -> str:
    """Of scripts/{script}.py and, transitively, the modules of this package that it names in an import."""
    seen: dict[Path, str] = {}
    pending = [_SCRIPTS / f"{script}.py"]
    while pending:
        path = pending.pop()
        if path in seen or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8")
        seen[path] = text
        pending += _imported(text)
    digest = hashlib.sha256()
    for path in sorted(seen):
        digest.update(f"{path.name}\0{seen[path]}\0".encode())
    return digest.hexdigest()[:16]


def _imported(text: str) -> list[Path]:
    files = []
    for module, names, plain in _IMPORT.findall(text):
        base = _PACKAGE.joinpath(*(module or plain).strip(".").split(".")) if (module or plain) else _PACKAGE
        files += [base.with_suffix(".py"), base / "__init__.py"]
        for name in re.findall(r"\w+", names):
            files += [base / f"{name}.py", base / name / "__init__.py"]
        if base.is_dir() and base != _PACKAGE:  # a package that registers its files by itself
            files += sorted(base.glob("*.py"))
    return files
