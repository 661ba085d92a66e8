"""Pickled PyTorch files whose values are not in them, and modules that are not what their class says."""

from __future__ import annotations

import functools
import io
import json
import pickle
import subprocess
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from imports import run_step

from converter.errors import UntrustedError

torch = pytest.importorskip("torch")

from converter.importing.network_script import load_script  # noqa: E402
from converter.torch.trust.pickles import load_pickled  # noqa: E402


class _Calls:
    """Stands for what the pickle gives that calls a function while it is loaded."""

    def __init__(self, function: Callable, *arguments: object) -> None:
        self._call = function, arguments

    def __reduce__(self):
        return self._call


class _MadeEmpty:
    """Stands for an object that the pickle makes by its class's __new__ (NEWOBJ)."""

    def __init__(self, kind: type, *arguments: object) -> None:
        self._kind, self._arguments = kind, arguments

    def __reduce__(self):
        import copyreg

        return copyreg.__newobj__, (self._kind, *self._arguments)

    @property
    def __class__(self):
        return self._kind


def _with_weight(value: object) -> torch.nn.Module:
    linear = torch.nn.Linear(4, 3)
    linear._parameters["weight"] = value
    return torch.nn.Sequential(linear)


def _parameter(value: object) -> _Calls:
    return _Calls(torch._utils._rebuild_parameter, value, False, OrderedDict())


def _rebuilt(storage: object) -> _Calls:
    return _Calls(torch._utils._rebuild_tensor_v2, storage, 0, (3, 4), (4, 1), False, OrderedDict())


def _with_new_part() -> torch.nn.Module:
    module = torch.nn.Sequential(torch.nn.ReLU())
    module._modules["1"] = _Calls(torch.nn.Linear, 4, 3)
    return module


def _from_type() -> torch.nn.Module:
    return _with_weight(_Calls(torch._tensor._rebuild_from_type_v2, torch.FloatTensor, torch.Tensor, (3, 4), {}))


def _later(function: object) -> _Calls:
    """torch._tensor._rebuild_from_type_v2 calls what it is given, also a function that calls another one."""
    return _Calls(torch._tensor._rebuild_from_type_v2, function, torch.Tensor, (3, 4), {})


class _StateReplaced(_Calls):
    """A functools.partial whose function is replaced by its state (BUILD)."""

    def __init__(self, *state: object) -> None:
        self._call = functools.partial, (torch.nn.functional.relu,), (*state, {}, None)


def _with_later_part() -> torch.nn.Module:
    module = torch.nn.Sequential(torch.nn.ReLU())
    call = _Calls(functools.partial, torch.nn.Linear)
    module._modules["1"] = _Calls(torch._tensor._rebuild_from_type_v2, call, torch.nn.Linear, (4, 3), {})
    return module


def _with_parts_on_demand() -> torch.nn.Module:
    module = torch.nn.Sequential(torch.nn.Linear(4, 3))
    module[0]._parameters = _Calls(defaultdict, torch.FloatTensor, dict(module[0]._parameters))
    return module


_NEW = {
    "tensor by a partial": lambda: _with_weight(_parameter(_later(_Calls(functools.partial, torch.FloatTensor)))),
    "tensor by a partial of a partial": lambda: _with_weight(
        _parameter(_later(_Calls(functools.partial, _Calls(functools.partial, torch.Tensor))))
    ),
    "tensor by the state of a partial": lambda: _with_weight(_parameter(_later(_StateReplaced(torch.FloatTensor, ())))),
    "module by a partial": _with_later_part,
    "tensor where a part is missing": _with_parts_on_demand,
    "tensor": lambda: _with_weight(_parameter(_Calls(torch.FloatTensor, 3, 4))),
    "tensor by its class": lambda: _with_weight(_parameter(_MadeEmpty(torch.Tensor, 3, 4))),
    "storage": lambda: _with_weight(_parameter(_rebuilt(_Calls(torch.FloatStorage, 12)))),
    "tensor by another function": _from_type,
    "module": _with_new_part,
    "result of a function": lambda: _with_weight(
        _parameter(_Calls(torch.nn.functional.dropout, torch.ones(3, 4), 0.5, True))
    ),
}


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old format"])
@pytest.mark.parametrize("kind", _NEW)
def test_values_that_are_not_in_the_file(kind: str, old: bool, tmp_path: Path) -> None:
    """What lies in memory, and numbers of chance: two imports would differ, and each would be verified."""
    source = tmp_path / "model.pt"
    torch.save(_NEW[kind](), source, _use_new_zipfile_serialization=not old)
    error = run_step("import_pytorch", source, tmp_path / "hub", input_shape="1,4").error
    assert error is not None and error["kind"] == "UntrustedError", error
    assert "not in the file" in error["message"] and str(source) in error["message"]


def _partial_of_a_class() -> torch.nn.Module:
    """As torchvision's detectors have: of a module class, and of a function."""
    module = torch.nn.Sequential(torch.nn.Linear(4, 3))
    module.norm_layer = functools.partial(torch.nn.BatchNorm2d, eps=0.001)
    module.activation = functools.partial(torch.nn.functional.leaky_relu, negative_slope=0.1)
    module.other = functools.partial(torch.relu)
    return module


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old format"])
def test_functions_that_modules_hold(old: bool, tmp_path: Path) -> None:
    torch.save(_partial_of_a_class(), tmp_path / "model.pt", _use_new_zipfile_serialization=not old)
    module = load_pickled(tmp_path / "model.pt", None, trusted=False)
    assert module.norm_layer.func is torch.nn.BatchNorm2d and module.activation.keywords == {"negative_slope": 0.1}


def test_calls_where_the_old_format_has_classes(tmp_path: Path) -> None:
    """Its classes are written as calls before torch reads them: a file may have that done to a reference of another kind."""
    source, text = tmp_path / "model.pt", b"X%b\0\0\0%b"
    made = b"".join(
        text % (bytes([len(name)]), name) + b"ctorch\nFloatTensor\n" + size + b"Q"
        for name, size in ((b"weight", b"K\3K\4\x86"), (b"bias", b"K\3\x85"))
    )
    header = [
        torch.serialization.MAGIC_NUMBER,
        1001,
        {"protocol_version": 1001, "little_endian": True, "type_sizes": {}},
    ]
    pickles = [pickle.dumps(part, 2) for part in header]
    pickles += [b"\x80\2(" + text % (b"\6", b"module") + b"t}(" + made + b"u.", pickle.dumps([], 2)]
    source.write_bytes(b"".join(pickles))
    with pytest.raises(UntrustedError, match="not in the file"):
        load_pickled(source, None, trusted=False)


@pytest.mark.parametrize("kind", ["tensor", "tensor by its class", "storage", "tensor by another function"])
def test_values_that_are_not_in_a_program(kind: str, tmp_path: Path) -> None:
    """A program's weights may be pickles within the archive."""
    plain, source, weight = tmp_path / "plain.pt2", tmp_path / "model.pt2", io.BytesIO()
    torch.export.save(torch.export.export(torch.nn.Linear(4, 3), (torch.ones(2, 4),)), plain)
    torch.save(_NEW[kind]()[0]._parameters["weight"], weight)
    with zipfile.ZipFile(plain) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    (name,) = (name for name in entries if name.endswith("/model_weights_config.json"))
    config = json.loads(entries[name])
    config["config"]["weight"] |= {"use_pickle": True, "tensor_meta": None}
    entries[name] = json.dumps(config).encode()
    entries[name.replace("model_weights_config.json", config["config"]["weight"]["path_name"])] = weight.getvalue()
    with zipfile.ZipFile(source, "w") as archive:
        for entry, content in entries.items():
            archive.writestr(entry, content)
    error = run_step("import_pytorch", source, tmp_path / "hub").error
    assert error is not None and error["kind"] == "UntrustedError", error
    assert "not in the file" in error["message"] and str(source) in error["message"]


def test_a_record_that_is_too_short(tmp_path: Path) -> None:
    """Mapped into memory, the rest would be what follows in the file."""
    plain, source = tmp_path / "plain.pt", tmp_path / "model.pt"
    torch.save(torch.nn.Sequential(torch.nn.Linear(4, 3)), plain)
    with zipfile.ZipFile(plain) as archive, zipfile.ZipFile(source, "w") as changed:
        for name in archive.namelist():
            content = archive.read(name)
            changed.writestr(name, content[:16] if name.endswith("/data/0") else content)
    error = run_step("import_pytorch", source, tmp_path / "hub", input_shape="1,4").error
    assert error is not None and error["kind"] == "SourceError" and "holds 16 bytes" in error["message"], error


_OWN = ["modules", "eval", "train", "named_modules", "parameters", "state_dict", "named_children", "forward"]


@pytest.mark.parametrize("name", _OWN)
@pytest.mark.parametrize(
    "value", [OrderedDict, 5, functools.partial(torch.nn.functional.relu)], ids=["class", "number", "function"]
)
def test_methods_of_a_module_that_the_file_replaces(name: str, value: object, tmp_path: Path) -> None:
    """The checks ask the module for its parts."""
    module = torch.nn.Sequential(torch.nn.Linear(4, 3))
    vars(module)[name] = value
    torch.save(module, tmp_path / "model.pt")
    error = run_step("import_pytorch", tmp_path / "model.pt", tmp_path / "hub", input_shape="1,4").error
    assert error is not None and error["kind"] == "UntrustedError" and f"replaces {name}" in error["message"], error


def _without_module() -> torch.nn.Module:
    module = torch.nn.DataParallel(torch.nn.Linear(4, 3))
    del module._modules["module"]
    return module


def _no_mapping() -> torch.nn.Module:
    module = torch.nn.Sequential(torch.nn.Linear(4, 3))
    vars(module)["_modules"] = 5
    return module


_UNSOUND = {
    "wrapper of nothing": _without_module,
    "no parts": _no_mapping,
    "no values": lambda: _with_weight(torch.nn.Parameter(torch.empty(3, 4, device="meta"))),
    "sparse rows": lambda: _with_weight(torch.nn.Parameter(torch.eye(4)[:3].to_sparse_csr(), requires_grad=False)),
}


@pytest.mark.parametrize("kind", _UNSOUND)
def test_modules_that_are_not_sound(kind: str, tmp_path: Path) -> None:
    torch.save(_UNSOUND[kind](), tmp_path / "model.pt")
    error = run_step("import_pytorch", tmp_path / "model.pt", tmp_path / "hub", input_shape="1,4").error
    assert error is not None and error["kind"] == "SourceError", error


_SCRIPT = """
from enum import Enum
from subprocess import Popen
import torch
from torch.nn import Linear

from beside import Options

class Kind(Enum):
    SMALL = 1

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = Linear(4, 3)
        self.options, self.kind = Options(), Kind.SMALL

    def forward(self, x):
        return self.dense(x)
"""


@pytest.mark.parametrize("name", ["subprocess Popen", "__main__ Popen"])
def test_what_a_script_imports_is_no_class_of_the_network(name: str, tmp_path: Path) -> None:
    """With a script the step is bound less; the file may still name no more than the network's own classes."""
    marker, source, script = tmp_path / "marker", tmp_path / "model.pt", tmp_path / "script.py"
    script.write_text(_SCRIPT)
    (tmp_path / "beside.py").write_text("class Options:\n    width = 4\n")
    state = {"weight": torch.ones(3, 4), "more": _Calls(subprocess.Popen, ["/usr/bin/touch", str(marker)])}
    torch.save(state, source)
    with zipfile.ZipFile(source) as archive:
        entries = {entry: archive.read(entry) for entry in archive.namelist()}
    with zipfile.ZipFile(source, "w") as archive:
        for entry, content in entries.items():
            archive.writestr(entry, content.replace(b"subprocess\nPopen", name.replace(" ", "\n").encode()))
    with pytest.raises(UntrustedError, match="Popen"):
        load_pickled(source, load_script(script), trusted=False)
    assert not marker.exists()


def test_classes_of_a_script_and_of_what_lies_beside_it(tmp_path: Path) -> None:
    source, script = tmp_path / "model.pt", tmp_path / "script.py"
    script.write_text(_SCRIPT)
    (tmp_path / "beside.py").write_text("class Options:\n    width = 4\n")
    loaded = load_script(script)
    torch.save(loaded.module.Net(), source)
    network = load_pickled(source, loaded, trusted=False)
    assert network.options.width == 4 and network.kind is loaded.module.Kind.SMALL


@pytest.mark.parametrize("name", ["Net", "Linear"])
def test_a_network_of_the_script_with_weights_of_chance(name: str, tmp_path: Path) -> None:
    """What torch.save wrote calls no constructor of a module; the weights would be those of this import alone."""
    source, script = tmp_path / "model.pt", tmp_path / "script.py"
    script.write_text(_SCRIPT)
    (tmp_path / "beside.py").write_text("class Options:\n    width = 4\n")
    arguments = {"Net": b")", "Linear": b"K\4K\3\x86"}[name]
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr("model/data.pkl", b"\x80\2c__main__\n" + name.encode() + b"\n" + arguments + b"R.")
        archive.writestr("model/version", b"3\n")
    with pytest.raises(UntrustedError, match="not in the file"):
        load_pickled(source, load_script(script), trusted=False)
