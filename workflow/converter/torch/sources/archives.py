"""What a PyTorch file is, and loading of the two kinds that are no plain pickles: TorchScript and torch.export programs.

Both can carry code that runs while they load, or operators that write files; such files are refused unless trusted.
"""

from __future__ import annotations

import json
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch

from converter.errors import ConverterError, SourceError, UntrustedError
from converter.safety.containers import refuse_archive
from converter.torch.exact.quantized_program import (
    define_quantized_operators,
    has_quantized_operators,
    rewrite_quantized,
)
from converter.torch.sources.unwritten import refuse_unwritten, write_program, write_script
from converter.torch.trust.names import check_parts
from converter.torch.trust.numpy_pickles import check_dtypes
from converter.torch.trust.pickles import globals_in_file, is_zip, pickle_streams, unsafe_globals
from converter.torch.trust.program_trust import check_expression, inert_loading
from converter.torch.trust.records import Archive, check_sums, check_tensors
from converter.torch.trust.safetensors import is_safetensors
from converter.torch.trust.script_trust import (
    named_file_operator,
    named_unbounded_operator,
    used_file_operator,
    used_unbounded_operator,
)
from converter.wording import TRUST

__all__ = ["checked_kind", "load_program", "load_torchscript", "refuse_unread"]


def checked_kind(path: Path, trusted: bool) -> str:
    """ "torchscript", "program", "safetensors" or "pickle", once the archive that it may be is whole and leads nowhere.

    By the file's content: a pytorch_model.bin, say, may be any of them.

    Raises SourceError for a file that is damaged or none of PyTorch's, and UntrustedError (containers.refuse_archive).
    """
    kind = _kind(path)
    if is_zip(path):
        if not trusted:
            refuse_archive(path)
        check_sums(path)
    if kind == "torchscript":
        check_tensors(path)
    return kind


def _kind(path: Path) -> str:
    if not is_zip(path):
        with open(path, "rb") as stream:
            start = stream.read(1024)
        if start and is_safetensors(path):
            return "safetensors"
        if start[:1] == b"\x80":
            return "pickle"
        if tarfile.is_tarfile(path):
            raise SourceError(f"{path} is of the tar format of PyTorch before 0.2: load it there and save it again")
        kind = "an empty file" if not start else "HDF5" if start[:4] == b"\x89HDF" else "no file of PyTorch's"
        raise SourceError(
            f"{path} is {kind}: expected what torch.save, torch.jit.save, torch.export.save or safetensors wrote"
        )
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
        _refuse_code(path)
    try:
        script = torch.jit.load(path, map_location="cpu")
        write_script(script)
        found = None if trusted else used_file_operator(script)
        unbounded = None if trusted else used_unbounded_operator(script)
    except Exception as error:  # whatever the bytes lead its unpickler to
        raise SourceError(f"{path} cannot be loaded as TorchScript: {_last_line(error)}") from error
    _refuse_operator(path, found)
    _refuse_unbounded(path, unbounded)
    for named in (script.named_modules(), script.named_parameters(), script.named_buffers()):
        check_parts(path, (name for name, _ in named))
    refuse_unwritten(path, script)
    return script


def _refuse_code(path: Path) -> None:
    with _sound(path), Archive(path) as archive:
        for name in archive.namelist():
            if name.lower().endswith(".py"):  # torch finds its entries whatever the case of their names
                code = archive.read(name).decode("utf-8", "replace")
                _refuse_operator(path, named_file_operator(code))
                _refuse_unbounded(path, named_unbounded_operator(code))


def refuse_unread(path: Path) -> None:
    """What an old torch does not look at when it reads the file: all but pickled names. Raises UntrustedError."""
    if is_zip(path):
        _refuse_code(path)
    if _kind(path) == "pickle":
        try:
            for stream in pickle_streams(path):
                check_dtypes(stream)
        except MemoryError:
            raise
        except Exception as error:  # whatever the bytes lead the machine to
            raise UntrustedError(f"{path} cannot be loaded safely ({_last_line(error)}); {TRUST}") from error


def _refuse_operator(path: Path, name: str | None) -> None:
    if name is not None:
        raise UntrustedError(f"{path} contains code that calls torch.{name}, which uses files; {TRUST}")


def _refuse_unbounded(path: Path, name: str | None) -> None:
    if name is not None:
        raise UntrustedError(
            f"{path} contains code that calls {name}, which may reach beyond its tensors, into all of the memory; {TRUST}"
        )


def load_program(path: Path, trusted: bool) -> tuple[torch.export.ExportedProgram, torch.nn.Module]:
    """An exported program and its module. Raises UntrustedError when the archive holds pickled code, native code or Python."""
    if not trusted:
        with _sound(path), Archive(path) as archive:
            _check_program(path, archive)
    with _sound(path), Archive(path) as archive:
        if any(b"quantized_decomposed" in archive.read(name) for name in archive.namelist() if name.endswith(".json")):
            define_quantized_operators()
    try:
        with nullcontext() if trusted else inert_loading(path):
            program = torch.export.load(str(path))
        program._guards_code = []  # Python as text: no part of the model (torch 2.13)
        write_program(program)
        module = program.module(check_guards=False)
        if has_quantized_operators(program):  # the module stays as it is: what the program becomes is compared with it
            rewrite_quantized(path, program)
        return program, module
    except ConverterError:
        raise
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
    """What torch.export.load would unpickle, run and evaluate (torch 2.13), named before it is loaded (program_trust)."""
    for entry in archive.infolist():
        name = entry.filename.lower()  # as torch finds it
        if name.endswith((".so", ".o", ".cubin", ".cpp")) or "/aotinductor/" in name:
            raise UntrustedError(f"{path} contains compiled code ({name}); {TRUST}")
        if "/opaque_obj" in name or "/custom_obj" in name:
            raise UntrustedError(f"{path} contains pickled objects ({name}); {TRUST}")
        if name.endswith(".pt") or "/constants/" in name or "/weights/" in name:
            if name.endswith(".json"):
                _check_payloads(path, entry.filename, archive.read(entry), archive)
            elif name.endswith(".pt"):
                _check_pickle(path, entry.filename, archive.read(entry))
        if name.endswith(".json"):
            _check_expressions(path, json.loads(archive.read(entry)))


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
            f"{path} would run code when it is loaded: {name} in it names {', '.join(refused[:5])}; {TRUST}"
        )


def _check_expressions(path: Path, node: object) -> None:
    """Expressions of symbolic sizes, wherever they stand."""
    if isinstance(node, list):
        for item in node:
            _check_expressions(path, item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "expr_str" and isinstance(value, str):
                check_expression(path, value)
            else:
                _check_expressions(path, value)


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
