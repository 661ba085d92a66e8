"""torch.export programs (.pt2) that run code, use files or import modules while they are loaded: refused, and nothing happens."""

from __future__ import annotations

import io
import json
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from imports import run_step

torch = pytest.importorskip("torch")

_MODEL, _SAMPLES = "model/models/model.json", "model/data/sample_inputs/model.pt"


class _Linear(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 3)

    def forward(self, x):
        return self.linear(x).relu()


def _entries(folder: Path) -> dict[str, bytes]:
    path = folder / "model.pt2"
    batch = torch.export.Dim("batch")
    torch.export.save(torch.export.export(_Linear().eval(), (torch.ones(2, 4),), dynamic_shapes=({0: batch},)), path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _write(folder: Path, entries: dict[str, bytes]) -> Path:
    path = folder / "model.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def _changed(folder: Path, change: Callable[[dict], None], name: str = _MODEL) -> Path:
    """The program with its graph changed, and perhaps under another name."""
    entries = _entries(folder)
    program = json.loads(entries.pop(_MODEL))
    change(program)
    return _write(folder, {name: json.dumps(program).encode(), **entries})


def refused(source: Path, folder: Path) -> str:
    error = run_step("import_pytorch", source, folder / "hub").error
    assert error is not None and error["kind"] == "UntrustedError", error
    assert str(source) in error["message"] and "trusted: true" in error["message"]
    assert not (folder / "pwned").exists()
    return error["message"]


def _with_expressions(node: object, text: str) -> None:
    for value in node if isinstance(node, list) else node.values():
        if isinstance(value, dict) and "expr_str" in value:
            value["expr_str"] = text
        if isinstance(value, dict | list):
            _with_expressions(value, text)


@pytest.mark.parametrize("name", [_MODEL, "model/models/model.JSON", "model/models/model_json"])
def test_code_in_place_of_a_size(name: str, tmp_path: Path) -> None:
    """The loader takes whatever lies in its folder for the program, under any name."""
    code = f"__import__('os').mkdir({str(tmp_path / 'pwned')!r})"
    source = _changed(tmp_path, lambda program: _with_expressions(program, code), name)
    assert "in place of a size" in refused(source, tmp_path)


def _calls(target: str, **inputs: dict) -> Callable[[dict], None]:
    def change(program: dict) -> None:
        node = program["graph_module"]["graph"]["nodes"][-1]
        node["target"] = target
        node["inputs"] = [{"name": name, "arg": value, "kind": 1} for name, value in inputs.items()]

    return change


@pytest.mark.parametrize(
    "target", ["torch.os.mkdir", "torch.ops.aten.from_file.default", "torch.hub.load", "_operator.attrgetter"]
)
def test_calls_that_are_no_operators(target: str, tmp_path: Path) -> None:
    source = _changed(tmp_path, _calls(target, filename={"as_string": str(tmp_path / "pwned")}))
    assert target in refused(source, tmp_path)


def test_functions_as_arguments(tmp_path: Path) -> None:
    """Operators of higher order call what they are given."""
    path = {"as_string": str(tmp_path / "pwned")}
    source = _changed(tmp_path, _calls("torch.ops.higher_order.wrap", f={"as_operator": "torch.os.mkdir"}, path=path))
    assert "torch.os.mkdir" in refused(source, tmp_path)


def test_modules_in_the_structure_of_inputs(tmp_path: Path) -> None:
    """`this` prints a poem when it is imported."""

    def change(program: dict) -> None:
        call = program["graph_module"]["module_call_graph"][0]["signature"]
        version, spec = json.loads(call["in_spec"])
        named = json.dumps([{"__enum__": True, "fqn": "this:s", "name": "x"}])
        spec["children_spec"][1] = {
            "type": "builtins.dict",
            "context": named,
            "children_spec": spec["children_spec"][1:][:0],
        }
        call["in_spec"] = json.dumps([version, spec])

    assert "this" not in sys.modules
    assert "module this" in refused(_changed(tmp_path, change), tmp_path)
    assert "this" not in sys.modules


def _hidden_names(folder: Path) -> bytes:
    """The names nearest to the instruction are taken off the stack before it: posix.mkdir is what it finds."""
    texts = [b"posix", b"mkdir", b"collections", b"OrderedDict"]
    pushed = b"".join(b"\x8c" + bytes([len(text)]) + text for text in texts)
    path = str(folder / "pwned").encode()
    return b"\x80\x04" + pushed + b"00\x93X" + len(path).to_bytes(4, "little") + path + b"\x85R."


class _Acts:
    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def _hidden_archive(folder: Path) -> bytes:
    """torch finds archive/data.pkl under this name too, and Python does not."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("archive/DATA.PKL", pickle.dumps(_Acts(folder / "pwned"), 2))
        archive.writestr("archive/version", "3\n")
        archive.writestr("other/data.pkl", pickle.dumps({}, 2))
    return inner.getvalue()


@pytest.mark.parametrize("write", [_hidden_names, _hidden_archive])
@pytest.mark.parametrize("name", [_SAMPLES, _SAMPLES[:-3] + ".PT"])
def test_pickles_that_the_check_does_not_see_through(write, name: str, tmp_path: Path) -> None:
    entries = _entries(tmp_path)
    del entries[_SAMPLES]
    source = _write(tmp_path, {**entries, name: write(tmp_path)})
    error = run_step("import_pytorch", source, tmp_path / "hub").error
    assert error is not None and error["kind"] in ("UntrustedError", "SourceError"), error
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("prefix", ["opaque_obj_0", "custom_obj_0"])
def test_constants_that_are_objects(prefix: str, tmp_path: Path) -> None:
    entries = _entries(tmp_path)
    config = "model/data/constants/model_constants_config.json"
    entry = {"path_name": prefix, "is_param": False, "use_pickle": False, "tensor_meta": None}
    constants = {config: json.dumps({"config": {"c": entry}}).encode()}
    named = {f"model/data/constants/{prefix}": pickle.dumps(_Acts(tmp_path / "pwned"))}
    assert "pickled objects" in refused(_write(tmp_path, {**entries, **constants, **named}), tmp_path)


@pytest.mark.parametrize("name", ["wrapper.so", "wrapper.SO", "wrapper.data"])
def test_compiled_code(name: str, tmp_path: Path) -> None:
    entries = _entries(tmp_path)
    source = _write(tmp_path, {**entries, f"model/data/aotinductor/model/{name}": b"\x7fELF"})
    assert "compiled code" in refused(source, tmp_path)


def test_programs_of_other_operators_are_loaded(tmp_path: Path) -> None:
    """Symbolic sizes, a branch, and a switch of modes are no operators of tensors, and no danger."""

    class Model(torch.nn.Module):
        def forward(self, x):
            with torch.no_grad():
                y = x * x.shape[0]
            return torch.cond(x.sum() > 0, lambda y: y + 1, lambda y: y - 1, (y,)).reshape(x.shape[0], -1)

    batch = torch.export.Dim("batch")
    program = torch.export.export(Model().eval(), (torch.ones(2, 4),), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "model.pt2")
    from converter.torch.archives import load_program

    _, module = load_program(tmp_path / "model.pt2", trusted=False)
    x = torch.randn(3, 4)
    assert torch.equal(module(x), Model()(x))
