"""The user's own Python code: loaded from its files, and recorded file by file, because it shapes what is converted. So are
the data files that it opens, itself or through a library that opens them in Python, as NumPy, json and yaml do.

What counts as the user's: every module that is neither of the standard library, nor installed, nor of this program. A
package installed in editable form lies in the user's folders, and counts.

This file runs in the legacy environments too (Python 3.7), where no other module of this program does: it imports nothing
but the standard library, and keeps to the syntax of that version.
"""

from __future__ import annotations

import ast
import contextlib
import dis
import functools
import hashlib
import importlib
import importlib.util
import os
import re
import sys
import sysconfig
import tempfile
import threading
import time
import types
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader

__all__ = ["MISSING", "Record", "active", "importable", "is_users", "load_file", "recorded"]

_HERE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))  # the package converter
_OURS = [os.path.dirname(_HERE), os.path.join(os.path.dirname(os.path.dirname(_HERE)), "scripts")]
_INSTALLED = {"site-packages", "dist-packages"}
_SUFFIXES = ("py", "pyc", "so", "pyd")
_SAVED_MODEL = ("saved_model.pb", "saved_model.pbtxt")
# A step's own temporary directory (safety/sandbox/directory.py): what is written there is a product of the step.
_TEMPORARY = "converter-step-"
_IMPORT_NAME = dis.opmap["IMPORT_NAME"]
# In place of the SHA-256 of a file that is not there.
MISSING = "missing"
# What the machine tells, other than data.
_MACHINE = ("/proc/", "/sys/", "/dev/", "/etc/")


@functools.lru_cache(maxsize=None)  # noqa: UP033  (Python 3.7)
def is_users(path: str) -> bool:
    """Whether a file or folder belongs to the user."""
    real = os.path.realpath(path)
    if _INSTALLED & {*real.split(os.sep), *path.split(os.sep)}:
        return False
    return not any(real == root or real.startswith(root + os.sep) for root in _libraries())


@functools.lru_cache(maxsize=None)  # noqa: UP033  (Python 3.7)
def _libraries() -> tuple:
    paths = sysconfig.get_paths()
    roots = {os.path.realpath(paths[key]) for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    return (*sorted(roots), *_OURS)


def importable(folder: str) -> set[str]:
    """The names that an import could find in `folder`: its modules and its subfolders."""
    found: set[str] = set()
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            stem, dot, rest = entry.name.partition(".")
            if rest.rpartition(".")[2] in _SUFFIXES if dot else entry.is_dir():
                found.add(stem)
    return found


class Record:
    """What ran of the user's code: a finder that stands first on sys.meta_path while it runs.

    files: by absolute path, (size, mtime in ns, SHA-256) of the very bytes that were run, or read; (0, 0, MISSING) of a data file
    that was looked for in vain. tried: by folder of the user's,
    the names that imports looked for there, found or not. packages: files that would make packages of the names of modules,
    and then be found before them. scripts: the folders of scripts, where Python would look first.
    path: what was added to sys.path. beside: the same while a script still loads; no library finds modules there.
    """

    def __init__(self) -> None:
        self.files: dict = {}
        self.tried: dict = {}
        self.packages: set = set()
        self.scripts: list = []
        self.path: list = []
        self.beside: set = set()
        self._start: int = 0
        self._written: set = set()
        self._temporary: str | None = None

    def begin(self) -> None:
        """What is changed from now on, and what lies in the step's temporary directory, was made by the step itself."""
        self._start = time.time_ns()
        folder = os.path.abspath(tempfile.gettempdir())
        if os.path.basename(folder).startswith(_TEMPORARY):
            self._temporary = folder + os.sep

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        """The user's module of this name, to be read from its source. None leaves the search to Python's own finders."""
        searched = [
            os.path.abspath(folder) for folder in (sys.path if path is None else path) if os.path.isdir(folder or ".")
        ]
        if not any(map(is_users, searched)):
            return None
        if path is None and self.beside & set(searched) and _by_a_library():
            return self._of_libraries(name)
        spec = PathFinder.find_spec(name, path, target)
        _refuse_model(name, spec)
        origin = spec.origin if spec is not None and spec.has_location else None
        base = None if origin is None else os.path.dirname(os.path.abspath(origin))
        if base is not None and spec.submodule_search_locations is not None:
            base = os.path.dirname(base)
        for folder in searched:
            if is_users(folder):
                self.tried.setdefault(folder, set()).add(name.rpartition(".")[2])
            if folder == base:
                break
        if spec is not None and spec.loader is None:  # folders that make up a package without an __init__.py
            folders = filter(is_users, map(os.path.abspath, spec.submodule_search_locations))
            self.packages.update(os.path.join(folder, "__init__.py") for folder in folders)
        if origin is None or not is_users(os.path.abspath(origin)):
            return None
        if not isinstance(spec.loader, SourceFileLoader):  # an extension module, or a compiled one without its source
            self.add(_on_disk(os.path.abspath(origin)))
            return spec
        spec.loader, spec.cached = _Loader(name, os.path.abspath(origin), self), None
        if spec.submodule_search_locations is None:
            self.packages.add(os.path.join(os.path.splitext(os.path.abspath(origin))[0], "__init__.py"))
        return spec

    def _of_libraries(self, name: str) -> ModuleSpec:
        """What a library finds that looks for another one: nothing beside a script, which may lie among a stranger's files."""
        folders = [
            folder for folder in sys.path if os.path.abspath(folder) not in self.beside or sys.path.count(folder) > 1
        ]
        for finder in sys.meta_path:
            if finder is self:
                continue
            spec = finder.find_spec(name, folders if finder is PathFinder else None)
            if spec is not None:
                return spec
        raise ModuleNotFoundError(f"No module named {name!r} (what lies beside a script is no library)", name=name)

    def add(self, path: str) -> bytes:
        """Record a file, and return its bytes."""
        stat = os.stat(path)  # first: a file that changes meanwhile is then seen to have changed
        with open(path, "rb") as file:
            data = file.read()
        self.files[path] = (stat.st_size, stat.st_mtime_ns, hashlib.sha256(data).hexdigest())
        return data

    def opened(self, path: str) -> None:
        """Record a data file that is opened for reading, if the user's code does that, and not while a library is imported."""
        known = self.files.get(path, (0, 0, MISSING))
        if path in self._written:
            self.files.pop(path, None)
            return
        if known[2] != MISSING or path.startswith(_MACHINE) or not is_users(path) or not self._runs_users():
            return
        try:
            stat = os.stat(path)
            if not os.path.isfile(path) or stat.st_mtime_ns >= self._start:  # the step itself wrote it
                self.files.pop(path, None)
                return
            digest = hashlib.sha256()
            with open(path, "rb") as file:
                for piece in iter(lambda: file.read(1 << 20), b""):
                    digest.update(piece)
            self.files[path] = (stat.st_size, stat.st_mtime_ns, digest.hexdigest())
        except FileNotFoundError:
            self.files[path] = known
        except OSError:
            pass  # what may not be read shapes nothing

    def written(self, path: str) -> None:
        """A file that the step makes: clocks do not tell, since files are stamped by one that lags by some milliseconds."""
        self._written.add(path)

    def _runs_users(self) -> bool:
        """Whether one of the recorded files is running, and what it called imports nothing."""
        frame = sys._getframe(2)
        while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
            if frame.f_code.co_filename in self.files:
                return True
            frame = frame.f_back
        return False

    def merge(self, stored: dict) -> None:
        """Add what another process recorded (`to_json`)."""
        for path, size, mtime, sha256 in stored["files"]:
            self.files[os.path.abspath(path)] = (size, mtime, sha256)
        self.packages.update(os.path.abspath(path) for path in stored["packages"])
        for folder, names in stored["absent"].items():
            self.tried.setdefault(os.path.abspath(folder), set()).update(names)

    def to_json(self) -> dict:
        """files: [path, size, mtime in ns, SHA-256] of each. absent: by folder, names that would be found first if they
        were there. packages: files that are not there, and would be found first.

        Paths are relative to the working directory where they lie below it.
        """
        # Names that are there now were found, or are reached by the files that were.
        absent = {folder: sorted(names - importable(folder)) for folder, names in self.tried.items()}
        return {
            "files": [[_shown(path), *entry] for path, entry in sorted(self.files.items()) if not self._is_own(path)],
            "absent": {
                _shown(folder): names
                for folder, names in sorted(absent.items())
                if names and not self._is_own(folder + os.sep)
            },
            "packages": [
                _shown(path) for path in sorted(self.packages) if not self._is_own(path) and not os.path.exists(path)
            ],
        }

    def _is_own(self, path: str) -> bool:
        """Whether it lies in the step's temporary directory."""
        return self._temporary is not None and path.startswith(self._temporary)

    def add_loaded(self) -> None:
        """Modules that came in another way: before the recording began, by an import hook, from a zip file.

        Not those written since then or lying in the temporary directory itself, as TensorFlow's AutoGraph writes some: they
        follow from the others.
        """
        temporary = os.path.abspath(tempfile.gettempdir())
        for module in list(sys.modules.values()):
            file = vars(module).get("__file__") if isinstance(module, types.ModuleType) else None
            if not isinstance(file, str) or not is_users(os.path.dirname(os.path.abspath(file))):
                continue
            path = _on_disk(os.path.abspath(file))
            if os.path.dirname(path) == temporary:
                continue
            with contextlib.suppress(OSError):
                if path not in self.files and os.path.isfile(path) and os.stat(path).st_mtime_ns < self._start:
                    self.add(path)


def _refuse_model(name: str, spec: ModuleSpec | None) -> None:
    """Raise ModuleNotFoundError for a package that is a SavedModel: a script in models/ has those of strangers beside it, and
    libraries try to import modules that are not installed.
    """
    for folder in (spec.submodule_search_locations if spec is not None else None) or ():
        if is_users(folder) and any(os.path.exists(os.path.join(folder, file)) for file in _SAVED_MODEL):
            raise ModuleNotFoundError(f"No module named {name!r} ({_shown(folder)} is a SavedModel)", name=name)


def _by_a_library() -> bool:
    """Whether an import statement of a library asks.

    What libraries import by a name that they were given (importlib.import_module, pickle) may well be the user's.
    """
    frame = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    file = "" if frame is None else frame.f_code.co_filename
    return os.path.isabs(file) and not is_users(file) and frame.f_code.co_code[frame.f_lasti] == _IMPORT_NAME


def _on_disk(path: str) -> str:
    """The file, or the zip file that it is in."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def _shown(path: str) -> str:
    folder = os.getcwd()
    return os.path.relpath(path, folder) if path.startswith(folder + os.sep) else path


class _Loader(SourceFileLoader):
    """Always reads the source: Python takes a compiled copy for current by its size and its time in whole seconds, and
    runs the old code after an edit that changes neither.
    """

    def __init__(self, name: str, path: str, record: Record) -> None:
        super().__init__(name, path)
        self._record = record
        _listen()

    def get_code(self, fullname: str) -> types.CodeType:
        data = self._record.add(self.path)
        code = self.source_to_code(data, self.path)
        _refuse_hidden(self.path, data, self._record.scripts)
        return code


def _refuse_hidden(path: str, data: bytes, folders: Sequence[str]) -> None:
    """Raise ImportError where `path` imports a name that a file beside the script has, and a loaded library has too.

    Where the script itself is the program, Python finds the file beside it; here it would find the library.
    """
    for name in _imported(data):
        module = sys.modules.get(name)
        file = getattr(module, "__file__", None)
        spec = getattr(module, "__spec__", None)
        if not file or is_users(os.path.abspath(file)) or getattr(spec, "origin", None) in ("built-in", "frozen"):
            continue
        for folder in folders:
            for beside in (os.path.join(folder, name + ".py"), os.path.join(folder, name, "__init__.py")):
                if os.path.isfile(beside) and beside != path:
                    raise ImportError(
                        f"{os.path.basename(path)} imports {name}, which is {_shown(beside)} and also the name of a library "
                        f"that is in use here: rename {_shown(beside)}"
                    )


def _imported(data: bytes) -> list:
    """The top-level names that absolute imports in this source name."""
    names = set()
    for node in ast.walk(ast.parse(data)):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.partition(".")[0])
    return sorted(names)


_active: list = []
_listening = threading.local()


@functools.lru_cache(maxsize=None)  # noqa: UP033  (Python 3.7)
def _listen() -> None:
    """Hear of every file that is opened in this process from now on: such a hook stays for good (Python 3.8)."""
    if hasattr(sys, "addaudithook"):
        sys.addaudithook(_hear)


def _hear(event: str, args: tuple) -> None:
    if event != "open" or not _active or getattr(_listening, "busy", False):
        return
    path, _, flags = args
    if isinstance(path, (str, bytes, os.PathLike)):
        _listening.busy = True
        try:
            path = os.path.abspath(os.fsdecode(path))
            if not flags & (os.O_WRONLY | os.O_RDWR):
                _active[-1].opened(path)
            elif flags & os.O_TRUNC or not os.path.exists(path):
                _active[-1].written(path)
        finally:
            _listening.busy = False


def active() -> Record | None:
    """The record that is being kept in this process, the innermost one; None outside of `recorded`."""
    return _active[-1] if _active else None


@contextlib.contextmanager
def recorded(record: Record) -> Iterator[None]:
    """Record the user's code that runs inside. Afterwards its modules are forgotten, so that a next conversion in this
    process reads its own, whatever their names.
    """
    before = set(sys.modules)
    record.begin()
    sys.meta_path.insert(0, record)
    _active.append(record)
    try:
        yield
    finally:
        record.add_loaded()
        _active.remove(record)
        sys.meta_path.remove(record)
        for folder in record.path:
            with contextlib.suppress(ValueError):
                sys.path.remove(folder)
        for name in set(sys.modules) - before:
            if getattr(sys.modules[name], "__file__", None) in record.files:
                del sys.modules[name]


def load_file(path: str) -> types.ModuleType:
    """Run a Python file of any suffix as a module and return it. Raises whatever it raises, SystemExit too.

    Its folder stands first on sys.path while it loads, and last from then on, for what it imports when it is called. It
    bears its own stem's name, as pickles record it, unless that is taken (numpy.py). A file with relative imports is
    loaded as a member of its package, which is run first.
    """
    path = os.path.abspath(path)
    folder, file = os.path.split(path)
    stem = os.path.splitext(file)[0]
    parts, root = _package(path)
    record = active()
    installed = record is None
    if installed:
        record = Record()
        sys.meta_path.insert(0, record)
    entries = [root, folder] if parts else [folder]
    sys.path[:0] = entries
    record.beside.update(entries)
    if not os.path.isfile(os.path.join(folder, "__init__.py")):
        record.scripts.append(folder)
    try:
        if parts:
            return importlib.import_module(".".join([*parts, stem]))
        name = stem if stem.isidentifier() and stem not in sys.modules else "network_script_" + re.sub(r"\W", "_", stem)
        spec = importlib.util.spec_from_file_location(name, path, loader=_Loader(name, path, record))
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(name, None)
            raise
        return module
    finally:
        for entry in entries:
            sys.path.remove(entry)
        if installed:
            sys.meta_path.remove(record)
        else:
            sys.path.extend(entries)
            record.path.extend(entries)


def _package(path: str) -> tuple:
    """(names of the packages around a file with relative imports, the folder of the outermost); ([], "") for other files.

    A folder is a package if it has an __init__.py, or if the relative imports reach above it.
    """
    stem, suffix = os.path.splitext(os.path.basename(path))
    levels = _levels(path)
    if not levels or suffix != ".py" or not stem.isidentifier():
        return [], ""
    parts, folder = [], os.path.dirname(path)
    while folder != os.path.dirname(folder) and (
        len(parts) < levels or os.path.isfile(os.path.join(folder, "__init__.py"))
    ):
        parts.insert(0, os.path.basename(folder))
        folder = os.path.dirname(folder)
    if not all(part.isidentifier() for part in parts):
        raise ImportError(
            f"it has relative imports, and its folder {os.sep.join(parts)} cannot be a package: rename the folder"
        )
    taken = sys.modules.get(parts[0])
    if taken is not None and os.path.join(folder, parts[0]) not in map(os.path.abspath, getattr(taken, "__path__", [])):
        raise ImportError(f"its package {parts[0]} bears the name of a library that is in use here: rename the folder")
    return parts, folder


def _levels(path: str) -> int:
    """How many folders the relative imports of a file reach up at most; 0 without such imports."""
    with open(path, "rb") as file:
        data = file.read()
    try:
        nodes = ast.walk(ast.parse(data))
    except (SyntaxError, ValueError):
        return 0  # running it will say so
    return max((node.level for node in nodes if isinstance(node, ast.ImportFrom)), default=0)
