"""A hash of the code a step runs, so that a changed script rebuilds what it made and nothing else."""

from __future__ import annotations

import functools
import hashlib
import re
from pathlib import Path

__all__ = ["code_version", "step_files"]

_PACKAGES = Path(__file__).resolve().parents[2]
_SCRIPTS = _PACKAGES.parent / "scripts"
# A regular expression, because Python's parser takes a second for all of them, at the start of every run.
_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]+(\([^)]*\)|[^\n]*)|import[ \t]+([^\n]+))", re.MULTILINE
)


_TEMPLATE = re.compile(r"\"([\w.]+\.j2)\"")
_TYPES_ONLY = re.compile(r"^if TYPE_CHECKING:\n(?:[ \t]+[^\n]*\n|\n)+", re.MULTILINE)
# Offers convert(), which plans and runs steps; a step that imports the package runs none of that.
_FACADE = _PACKAGES / "converter" / "__init__.py"


# Files outside these packages import from them for sources of one framework only.
_OTHERS = {"tensorflow": ("converter.torch", "converter.torch_to_keras"), "pytorch": ("converter.tf",)}
_OWN = tuple(_PACKAGES / "converter" / name for name in ("tf", "torch", "torch_to_keras"))


@functools.cache
def code_version(script: str, framework: str | None = None) -> str:
    """Of scripts/{script}.py and all that it imports; for sources of one framework, "tensorflow" or "pytorch", where given."""
    digest = hashlib.sha256()
    for path in step_files(script, framework):
        digest.update(f"{path.relative_to(_PACKAGES.parent)}\0{_read(path)[0]}\0".encode())
    return digest.hexdigest()[:16]


def step_files(script: str, framework: str | None = None) -> list[Path]:
    """scripts/{script}.py and, transitively, this project's modules that it imports, sorted; see `code_version`."""
    seen: set[Path] = set()
    pending = {_SCRIPTS / f"{script}.py"}
    while pending:
        path = pending.pop()
        seen.add(path)
        for module, files in _read(path)[1].items():
            shared = not any(path.is_relative_to(folder) for folder in _OWN)
            others = _OTHERS.get(framework, ()) if shared else ()
            if not any(f"{module}.".startswith(f"{package}.") for package in others):
                pending |= files - seen
    return sorted(seen)


@functools.cache
def _read(path: Path) -> tuple[str, dict[str, set[Path]]]:
    """The text of a file, and this project's files that it imports, by module; with the templates that it names."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    found: dict[str, set[Path]] = {"": {path.with_name(name) for name in _TEMPLATE.findall(text)}}
    for module, names, plain in _IMPORT.findall(_TYPES_ONLY.sub("", text)):
        for name in [module] if module else re.findall(r"[\w.]+", plain):
            base = _PACKAGES.joinpath(*name.split("."))
            if not name.startswith(("converter", "aup")):
                continue
            submodules = [base / f"{word}.py" for word in re.findall(r"\w+", names)]
            files = {base.with_name(f"{base.name}.py"), base / "__init__.py", *submodules}
            files |= {base / word / "__init__.py" for word in re.findall(r"\w+", names)}
            # Python runs the packages around a module too.
            files |= {folder / "__init__.py" for folder in base.parents if folder.is_relative_to(_PACKAGES)}
            found.setdefault(name, set()).update(files)
    return text, {name: {file for file in files - {_FACADE} if file.is_file()} for name, files in found.items()}
