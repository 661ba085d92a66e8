"""Load pickled PyTorch files without letting them run code: torch's weights-only unpickler with an allow-list.

Allowed are what torch itself allows (tensors and containers), module classes of torch.nn and torchvision, inert helpers
that such modules hold (activations of torch.nn.functional, functools.partial, numpy scalars, argparse.Namespace), and the
classes of the user's network_script. Everything else a file names is refused before anything is unpickled.
"""

from __future__ import annotations

import importlib
import inspect
import pickle
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import torch
from torch._utils import IMPORT_MAPPING, NAME_MAPPING

from converter.errors import SourceError, UntrustedError
from converter.importing.network_script import NetworkScript
from converter.torch.trust.legacy_pickles import CONTAINER_CLASS, container_class, with_plain_classes
from converter.torch.trust.numpy_pickles import PLAIN
from converter.torch.trust.pickle_content import check_pickle_content
from converter.torch.trust.records import Archive
from converter.wording import TRUST

__all__ = ["globals_in_file", "is_zip", "load_pickled", "pickle_streams", "unsafe_globals"]

# Exact names that hold or rebuild plain data, and call nothing that is not itself allowed.
_INERT = {
    "functools.partial",
    "argparse.Namespace",
    "collections.defaultdict",
    "pathlib.PosixPath",
    "pathlib.PurePosixPath",
    "torch.nn.utils.weight_norm.WeightNorm",
    "torch.nn.utils.spectral_norm.SpectralNorm",
    "torch.nn.utils.spectral_norm.SpectralNormStateDictHook",
    "torch.nn.utils.spectral_norm.SpectralNormLoadStateDictPreHook",
}

# Classes that moved or were renamed after the file was written (torch before 1.9; torchvision before 0.9, 0.12, 0.13).
_MOVED = {
    "torch.nn.modules.linear._LinearWithBias": "torch.nn.modules.linear.NonDynamicallyQuantizableLinear",
    "torchvision.models.mobilenet.ConvBNReLU": "torchvision.ops.misc.Conv2dNormActivation",
    "torchvision.models.mobilenetv2.ConvBNReLU": "torchvision.ops.misc.Conv2dNormActivation",
    "torchvision.models.mobilenetv2.ConvBNActivation": "torchvision.ops.misc.Conv2dNormActivation",
    "torchvision.models.mobilenetv3.ConvBNActivation": "torchvision.ops.misc.Conv2dNormActivation",
    "torchvision.ops.misc.ConvNormActivation": "torchvision.ops.misc.Conv2dNormActivation",
    "torchvision.models.mobilenetv3.SqueezeExcitation": "torchvision.ops.misc.SqueezeExcitation",
    "torchvision.models.mobilenet.InvertedResidual": "torchvision.models.mobilenetv2.InvertedResidual",
    "torchvision.models.mobilenet.MobileNetV2": "torchvision.models.mobilenetv2.MobileNetV2",
    "torchvision.models.segmentation.segmentation._SimpleSegmentationModel": (
        "torchvision.models.segmentation._utils._SimpleSegmentationModel"
    ),
}


def is_zip(path: Path) -> bool:
    """By the file's first bytes, as torch decides; zipfile.is_zipfile looks at the end, where weights may look alike."""
    with open(path, "rb") as stream:
        return stream.read(4) == b"PK\x03\x04"


def pickle_streams(path: Path) -> Iterator[BinaryIO]:
    """The pickles in a file that can name code: data.pkl of a zip archive, or the file itself in the old format."""
    if is_zip(path):
        with Archive(path) as archive:
            for name in archive.namelist():
                if name.endswith(".pkl"):
                    with archive.open(name) as stream:
                        yield stream
    else:
        with open(path, "rb") as stream:
            yield stream


def globals_in_file(path: Path) -> list[str]:
    """Every "module.name" that the file's pickles name, in order, each once. Nothing is unpickled.

    Raises SourceError when the file is no pickle.
    """
    names: dict[str, None] = {}
    try:
        for stream in pickle_streams(path):
            for name in _globals(stream):
                names.setdefault(name)
    except MemoryError:
        raise
    except Exception as error:  # zipfile's and pickletools's, whatever the bytes lead them to
        if not names:
            raise SourceError(f"{path} is not a PyTorch file: it holds no pickle ({error})") from None
        raise SourceError(f"{path} is damaged: its pickle breaks off ({error})") from None
    return list(names)


def _globals(stream: BinaryIO) -> Iterator[str]:
    """Names of GLOBAL, INST and STACK_GLOBAL instructions of the pickles at the start of a stream.

    The old format is a row of pickles (a magic number, a version, system information, the object, the storages' keys),
    behind which the storages' raw bytes follow; the fifth is the last.
    """
    for _ in range(5):
        strings: list[str] = []
        memo: dict[int, str | None] = {}
        last: str | None = None
        for opcode, argument, _position in pickletools.genops(stream):
            if opcode.name in ("GLOBAL", "INST"):
                yield _full_name(*argument.split(" ", 1))
            elif opcode.name == "STACK_GLOBAL":
                # Without two plain strings before it the name cannot be known: refused by being on no list.
                yield _full_name(*strings[-2:]) if len(strings) >= 2 else "<computed>.<name>"
            elif opcode.name in ("EXT1", "EXT2", "EXT4"):
                yield f"copyreg.extension_{argument}"
            if "UNICODE" in opcode.name or opcode.name.endswith("STRING"):
                last = str(argument)
                strings.append(last)
            elif opcode.name == "MEMOIZE":
                memo[len(memo)] = last
            elif "PUT" in opcode.name:
                memo[int(argument)] = last
            elif "GET" in opcode.name and memo.get(int(argument)) is not None:
                strings.append(memo[int(argument)])
            else:
                last = None
        if not stream.peek(1):
            return


def _full_name(module: str, name: str) -> str:
    """Python 3's name: files of protocol 2, torch's default, name `builtins` as Python 2 did, `__builtin__`."""
    if (module, name) in NAME_MAPPING:
        module, name = NAME_MAPPING[module, name]
    return f"{IMPORT_MAPPING.get(module, module)}.{name}"


def unsafe_globals(names: list[str], script: NetworkScript | None) -> tuple[list[str], list[tuple[object, str]]]:
    """Split the names of a file into those that are refused and (object, name) pairs for torch's allow-list."""
    builtin = torch._weights_only_unpickler._get_allowed_globals()
    own = script.classes() if script is not None else {}
    refused, allowed = [], []
    for name in names:
        if name in builtin or (name.endswith("Storage") and name.startswith("torch.")):
            continue
        target = _resolve(name, own)
        if target is None:
            refused.append(name)
        else:
            allowed.append((target, name))
    return refused, allowed


def _resolve(name: str, own: dict[str, type]) -> object | None:
    """The object behind an allowed name, None for one that is not allowed."""
    if name in PLAIN:
        return PLAIN[name]
    if name in _INERT:
        return _import(name)
    if name == "builtins.getattr":
        return _activation
    if name == "torch._C._VariableFunctionsClass":
        return torch._C._VariableFunctionsClass
    root = name.split(".", 1)[0]
    if root in ("torch", "torchvision"):
        return _framework_object(name)
    # A class of the user's script: recorded under its module as it was when the file was saved, often "__main__".
    bare = name.rsplit(".", 1)[-1]
    return own.get(name) or own.get(bare)


# torch.relu and the like are pickled as getattr(torch._C._VariableFunctionsClass, "relu").
_ACTIVATIONS = {
    "relu",
    "tanh",
    "sigmoid",
    "softmax",
    "log_softmax",
    "selu",
    "celu",
    "rrelu",
    "prelu",
    "sin",
    "cos",
    "exp",
    "abs",
}


def _activation(owner: object, name: str) -> object:
    """Stands for getattr in a pickle, for activation functions of torch only."""
    if owner is torch._C._VariableFunctionsClass and name in _ACTIVATIONS:
        return getattr(owner, name)
    raise pickle.UnpicklingError(f"getattr({owner}, {name!r}) is not an activation function")


def _framework_object(name: str) -> object | None:
    """A module class of torch.nn or torchvision, or an activation function; imports nothing else."""
    if not name.startswith(("torch.nn.", "torchvision.", "torch._C._nn.")):
        return None
    if name.startswith("torchvision."):
        from converter.torch.extensions.vision import import_torchvision

        if import_torchvision() is None:
            raise SourceError(
                f"the file holds {name}, and torchvision is not installed here: install torchvision with --no-deps, "
                "or save the model's state_dict and give network_script"
            )
    target = _import(_MOVED.get(name, name))
    if target is None:
        target = _import_moved(name)
    if inspect.isclass(target):
        return target if issubclass(target, torch.nn.Module) else None
    is_function = inspect.isroutine(target)
    home = (getattr(target, "__module__", None) or "").removesuffix("._VariableFunctions")
    return target if is_function and home in ("torch.nn.functional", "torch._C._nn", "torch") else None


def _import(name: str) -> object | None:
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        return None


def _import_moved(name: str) -> object | None:
    """torchvision splits files: mobilenet.py became mobilenetv2.py. Look in the modules beside the recorded one."""
    parts = name.split(".")
    if parts[0] != "torchvision" or len(parts) < 4:
        return None
    try:
        package = importlib.import_module(".".join(parts[:-2]))
    except ImportError:
        return None
    candidates = [value for key, value in sorted(vars(package).items()) if inspect.ismodule(value) and key != parts[-2]]
    found = {value for module in candidates if inspect.isclass(value := getattr(module, parts[-1], None))}
    return found.pop() if len(found) == 1 else None


def load_pickled(path: Path, script: NetworkScript | None, trusted: bool) -> object:
    """Unpickle a file written by torch.save, zip or old format. Tensors arrive on the CPU.

    Raises UntrustedError that names what the file would run, or SourceError for a damaged file.
    """
    refused, allowed = unsafe_globals(globals_in_file(path), script)
    if gone := [name for name in refused if _is_gone(name)]:
        raise SourceError(
            f"{path} names {', '.join(gone[:5])}, which torch {torch.__version__.partition('+')[0]} and its torchvision do not "
            f"have: {_way_out(path)}"
        )
    if refused and not trusted:
        listed = ", ".join(refused[:5]) + (f" and {len(refused) - 5} more" if len(refused) > 5 else "")
        raise UntrustedError(
            f"{path} would run code when it is loaded: it names {listed}; give the network_script that defines the "
            f"network, or {TRUST}"
        )
    if not refused:
        networks = {name for kind, name in allowed if inspect.isclass(kind) and issubclass(kind, torch.nn.Module)}
        check_pickle_content(path, is_zip(path), trusted, networks=networks)
    try:
        # Indices of a sparse tensor that lead out of it are looked for only on demand (torch 2.13).
        with torch.sparse.check_sparse_tensor_invariants():
            if refused:
                return torch.load(path, map_location="cpu", weights_only=False, pickle_module=_trusting_pickle(allowed))
            return _load_weights_only(path, allowed)
    except MemoryError:
        raise
    except Exception as error:  # whatever a damaged pickle leads the machine to
        # Before its own words torch tells how to load the file without any check.
        text = str(error).rpartition("WeightsUnpickler error:")[2]
        text = (text.strip().splitlines() or [type(error).__name__])[0]
        # The weights-only unpickler knows the instructions of protocol 2 only (torch 2.13).
        if "Unsupported operand" in str(error):
            raise UntrustedError(
                f"{path} was saved with a pickle protocol that cannot be loaded safely: save it again with torch.save's "
                f"own protocol, or {TRUST}"
            ) from error
        raise SourceError(f"{path} cannot be loaded: {text[:300]}") from error


def _is_gone(name: str) -> bool:
    """Whether a refused name is of a framework's module that is not there in today's release."""
    return name.startswith(("torch.nn.modules.", "torchvision.")) and _import(name) is None


def _way_out(path: Path) -> str:
    state = "save the model's state_dict and give network_script"
    if is_zip(path):
        with Archive(path) as archive:
            if any(entry.endswith("/byteorder") for entry in archive.namelist()):  # recorded since torch 2.1
                return f"{state}, since a newer release wrote it"
    return f"set toolchain: tf2.3 (torch 1.6), with input_shape, or {state}"


def _load_weights_only(path: Path, allowed: list[tuple[object, str]]) -> object:
    with torch.serialization.safe_globals([*allowed, (container_class, CONTAINER_CLASS)]):
        rewritten = None if is_zip(path) else with_plain_classes(path)
        if rewritten is None:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=_can_map(path))
        with rewritten:
            return torch.load(rewritten, map_location="cpu", weights_only=True)


def _can_map(path: Path) -> bool:
    """Only zip files can be memory-mapped, and only what is stored uncompressed, as torch.save does."""
    if not is_zip(path):
        return False
    with Archive(path) as archive:
        return all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())


def _trusting_pickle(allowed: list[tuple[object, str]]) -> object:
    """The pickle module, but finding the script's classes and those that moved."""
    known = {name: target for target, name in allowed if name not in PLAIN}

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> object:
            full = _full_name(module, name)
            return known[full] if full in known else super().find_class(module, name)

    def load(file: BinaryIO, **options: object) -> object:
        return Unpickler(file, **options).load()

    return SimpleNamespace(Unpickler=Unpickler, load=load, __name__="pickle")
