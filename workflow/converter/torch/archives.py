"""What a PyTorch file is, and loading of the two kinds that are no plain pickles: TorchScript and torch.export programs.

Both can carry code that runs while they load, or operators that write files; such files are refused unless trusted.
"""

from __future__ import annotations

import json
import re
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from converter.errors import ConverterError, SourceError, UntrustedError
from converter.torch.pickles import globals_in_file, is_zip, unsafe_globals
from converter.torch.records import Archive

__all__ = ["file_kind", "load_program", "load_torchscript"]

_TRUST = "write `trusted: true` if you know where the file comes from"

# Operators of TorchScript that reach beyond the model: they read and write files.
_FILE_OPERATORS = re.compile(r"\b(?:ops\.aten|torch)\.(save|from_file|load)\b")

# What the expressions for symbolic sizes in a program consist of. sympy evaluates them as Python (torch 2.13).
_EXPRESSION_FUNCTIONS = {
    *("FloorDiv", "CleanDiv", "CeilDiv", "IntTrueDiv", "FloatTrueDiv", "Mod", "PythonMod", "ModularIndexing", "Where"),
    *("Max", "Min", "Abs", "Pow", "PowByNatural", "FloatPow", "ToFloat", "TruncToInt", "TruncToFloat", "FloorToInt"),
    *(
        "CeilToInt",
        "RoundToInt",
        "Eq",
        "Ne",
        "Lt",
        "Le",
        "Gt",
        "Ge",
        "And",
        "Or",
        "Not",
        "Identity",
        "floor",
        "ceiling",
    ),
}
_SYMBOL = re.compile(r"Symbol\('(\w+)'(?:, \w+=(?:True|False))*\)")
_EXPRESSION = re.compile(r"[\w\s+\-*/%(),.<>=!&|~]*")


def file_kind(path: Path) -> str:
    """ "torchscript", "program" or "pickle". Raises SourceError for a file that is none of PyTorch's."""
    if not is_zip(path):
        with open(path, "rb") as stream:
            start = stream.read(1024)
        if start[:1] == b"\x80":
            return "pickle"
        if tarfile.is_tarfile(path):
            raise SourceError(f"{path} is of the tar format of PyTorch before 0.2: load it there and save it again")
        kind = "an empty file" if not start else "HDF5" if start[:4] == b"\x89HDF" else "no file of PyTorch's"
        raise SourceError(f"{path} is {kind}: expected what torch.save, torch.jit.save or torch.export.save wrote")
    try:
        with Archive(path) as archive:
            names = archive.namelist()
    except Exception as error:  # zipfile raises more than BadZipFile: for names, sizes and offsets that are none
        raise SourceError(f"{path} is damaged or truncated ({error}): copy it again") from error
    if "serialized_exported_program.json" in names or any(name.endswith("/archive_format") for name in names):
        return "program"
    if any(name.endswith("/constants.pkl") for name in names):
        return "torchscript"
    if any(name.endswith("/data.pkl") for name in names):
        return "pickle"
    raise SourceError(f"{path} is a zip archive, but not one that PyTorch wrote")


def load_torchscript(path: Path, trusted: bool) -> torch.jit.ScriptModule:
    """Load a TorchScript module on the CPU. Raises UntrustedError when its code reads or writes files."""
    if not trusted:
        with _sound(path), Archive(path) as archive:
            for name in archive.namelist():
                if name.endswith(".py") and (
                    found := _FILE_OPERATORS.search(archive.read(name).decode("utf-8", "replace"))
                ):
                    raise UntrustedError(
                        f"{path} contains code that calls torch.{found[1]}, which uses files; {_TRUST}"
                    )
    try:
        return torch.jit.load(path, map_location="cpu")
    except Exception as error:  # whatever the bytes lead its unpickler to
        raise SourceError(f"{path} cannot be loaded as TorchScript: {_last_line(error)}") from error


def load_program(path: Path, trusted: bool) -> torch.export.ExportedProgram:
    """Load an exported program. Raises UntrustedError when the archive holds pickled code, native code or Python."""
    if not trusted:
        with _sound(path), Archive(path) as archive:
            _check_program(path, archive)
    try:
        return torch.export.load(str(path))
    except Exception as error:  # the deserializer raises whatever its parts raise
        raise SourceError(
            f"{path} cannot be loaded as a torch.export program: {_last_line(error)}; "
            "save it again with this version of torch, or give the module itself"
        ) from error


@contextmanager
def _sound(path: Path) -> Iterator[None]:
    """What zipfile, json and our own look at them raise for a damaged archive is the file's fault."""
    try:
        yield
    except (ConverterError, MemoryError):
        raise
    except Exception as error:
        raise SourceError(f"{path} is damaged or truncated ({_last_line(error)}): copy it again") from error


def _check_program(path: Path, archive: zipfile.ZipFile) -> None:
    """torch.export.load unpickles constants and evaluates expressions without a check of its own (torch 2.13)."""
    for entry in archive.infolist():
        name = entry.filename
        if name.endswith((".so", ".o", ".cubin", ".cpp")):
            raise UntrustedError(f"{path} contains compiled code ({name}); {_TRUST}")
        if "/opaque_obj" in name or "/custom_obj" in name:
            raise UntrustedError(f"{path} contains pickled objects ({name}); {_TRUST}")
        if name.endswith(".pt") or "/constants/" in name or "/weights/" in name:
            if name.endswith(".json"):
                _check_payloads(path, name, archive.read(name), archive)
            elif name.endswith(".pt"):
                _check_pickle(path, name, archive.read(name))
        if name.endswith(".json"):
            _check_expressions(path, json.loads(archive.read(name)))


def _check_payloads(path: Path, config_name: str, config: bytes, archive: zipfile.ZipFile) -> None:
    folder = config_name.rsplit("/", 1)[0]
    for payload in json.loads(config).get("config", {}).values():
        if payload.get("use_pickle"):
            name = f"{folder}/{payload['path_name']}"
            _check_pickle(path, name, archive.read(name))


def _check_pickle(path: Path, name: str, content: bytes) -> None:
    """Pickles within the archive may name only what torch allows anyway."""
    if not content:
        return
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        names = globals_in_file(Path(file.name))
    refused, _ = unsafe_globals(names, None)
    if refused:
        raise UntrustedError(
            f"{path} would run code when it is loaded: {name} in it names {', '.join(refused[:5])}; {_TRUST}"
        )


def _check_expressions(path: Path, node: object) -> None:
    """Expressions of symbolic sizes: numbers, names, operators and sympy's size functions, nothing else."""
    if isinstance(node, list):
        for item in node:
            _check_expressions(path, item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "expr_str" and isinstance(value, str):
                value = _SYMBOL.sub(r"\1", value)
                calls = set(re.findall(r"([A-Za-z_]\w*)\s*\(", value))
                attribute = re.search(r"[A-Za-z_)]\s*\.", value)
                if not _EXPRESSION.fullmatch(value) or "__" in value or attribute or not calls <= _EXPRESSION_FUNCTIONS:
                    raise UntrustedError(f"{path} contains Python in place of a size ({value[:80]!r}); {_TRUST}")
            else:
                _check_expressions(path, value)


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
