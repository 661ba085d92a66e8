"""A hash of the code a step runs, so that a changed script rebuilds what it made and nothing else."""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
import sys
from pathlib import Path

from converter import formats
from converter.installation import PACKAGES, ROOT, SCRIPTS

__all__ = ["code_version", "step_files"]

# A regular expression, because Python's parser takes a second for all of them, at the start of every run.
_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]+(\([^)]*\)|[^\n]*)|import[ \t]+([^\n]+))", re.MULTILINE
)


_DATA = re.compile(r"\"([\w.]+\.(?:j2|json))\"")
_TYPES_ONLY = re.compile(r"^if TYPE_CHECKING:\n(?:[ \t]+[^\n]*\n|\n)+", re.MULTILINE)
# converter/__init__.py offers convert(), which plans and runs steps; a step that imports the package runs none of that.
# A declaration of a format says what runs; that code and its libraries are in the keys of steps themselves.
_FACADE = PACKAGES / "converter" / "__init__.py"
_DECLARATIONS = PACKAGES / "converter" / "formats"


@functools.cache
def code_version(script: str, framework: str | None = None, functions: tuple[str, ...] = ()) -> str:
    """Of scripts/{script}.py, of the modules of `functions` ("module:name"), and of all that they import.

    framework: for sources of this framework alone, where given.
    """
    digest = hashlib.sha256()
    for path in step_files(script, framework, functions):
        base = next((folder for folder in (ROOT, PACKAGES) if path.is_relative_to(folder)), None)
        name = path.relative_to(base) if base else path
        digest.update(f"{name}\0{_read(path)[0]}\0".encode())
    return digest.hexdigest()[:16]


def step_files(script: str, framework: str | None = None, functions: tuple[str, ...] = ()) -> list[Path]:
    """scripts/{script}.py and, transitively, this project's modules that it imports, sorted; see `code_version`."""
    # Files outside the packages of a framework import from them for sources of that framework only. Frameworks may share some.
    ours = formats.framework(framework).code if framework is not None else ()
    others = tuple(package for entry in formats.frameworks().values() for package in entry.code if package not in ours)
    own = tuple(_folder(package) for entry in formats.frameworks().values() for package in entry.code)
    seen: set[Path] = set()
    pending = {SCRIPTS / f"{script}.py", *(_file(name.partition(":")[0]) for name in functions)}
    while pending:
        path = pending.pop()
        seen.add(path)
        for module, files in _read(path)[1].items():
            shared = framework is not None and not any(path.is_relative_to(folder) for folder in own)
            if not (shared and any(f"{module}.".startswith(f"{package}.") for package in others)):
                pending |= files - seen
    return sorted(seen)


def _counts(file: Path) -> bool:
    return file != _FACADE and not file.is_relative_to(_DECLARATIONS)


def _folder(package: str) -> Path:
    return PACKAGES.joinpath(*package.split("."))


def _file(module: str) -> Path:
    """Of a module of this program, or of one that declares formats (CONVERTER_FORMATS)."""
    ours = _folder(module).with_suffix(".py")
    return ours if ours.is_file() else Path(inspect.getfile(sys.modules[module]))


@functools.cache
def _read(path: Path) -> tuple[str, dict[str, set[Path]]]:
    """The text of a file, and this project's files that it imports, by module; with the data beside it that it names."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    beside = {path.with_name(name) for name in _DATA.findall(text)}
    found: dict[str, set[Path]] = {"": {file for file in beside if file.is_file()}}
    for module, names, plain in _IMPORT.findall(_TYPES_ONLY.sub("", text)):
        for name in [module] if module else re.findall(r"[\w.]+", plain):
            base = PACKAGES.joinpath(*name.split("."))
            if not name.startswith(("converter", "aup")):
                continue
            submodules = [base / f"{word}.py" for word in re.findall(r"\w+", names)]
            files = {base.with_name(f"{base.name}.py"), base / "__init__.py", *submodules}
            files |= {base / word / "__init__.py" for word in re.findall(r"\w+", names)}
            # Python runs the packages around a module too.
            files |= {folder / "__init__.py" for folder in base.parents if folder.is_relative_to(PACKAGES)}
            found.setdefault(name, set()).update(files)
    return text, {name: {file for file in files if file.is_file() and _counts(file)} for name, files in found.items()}
