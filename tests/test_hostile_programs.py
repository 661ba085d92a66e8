"""torch.export programs (.pt2) that run code, use files or import modules while they are loaded: refused, and nothing happens."""

from __future__ import annotations

import enum
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
from pt2_archives import read_entries, write_entries

torch = pytest.importorskip("torch")

from converter.torch.trust.size_expressions import is_size_expression  # noqa: E402

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
    return read_entries(path)


def _changed(folder: Path, change: Callable[[dict], None], name: str = _MODEL) -> Path:
    """The program with its graph changed, and perhaps under another name."""
    entries = _entries(folder)
    program = json.loads(entries.pop(_MODEL))
    change(program)
    return write_entries(folder, {name: json.dumps(program).encode(), **entries})


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


def _hidden_call(folder: Path) -> str:
    """`exec` is in parentheses, and its text in numbers: sympy knows the names of all builtin functions."""
    code = f"import os; os.mkdir({str(folder / 'pwned')!r})"
    return f"(exec)({'+'.join(f'(chr)({ord(letter)})' for letter in code)})"


@pytest.mark.parametrize("make", [_hidden_call, lambda folder: f"Max(Symbol('s0'), {_hidden_call(folder)})"])
def test_code_in_place_of_a_size_without_a_call_by_name(make: Callable[[Path], str], tmp_path: Path) -> None:
    source = _changed(tmp_path, lambda program: _with_expressions(program, make(tmp_path)))
    assert "in place of a size" in refused(source, tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        *("(exec)(1)", "exec(1)", "Max(exec, 1)", "s0.subs(1)", "s0(1)", "(s0)(1)", "Max(*s0)", "Max(s0, key=exec)"),
        *(
            "lambda: 1",
            "[1]",
            "s0 if s0 else s1",
            "__import__",
            "\uff45\uff58\uff45\uff43(1)",
            "Max(1,\n2)",
            "s0 # s1",
            "0 .real",
        ),
        *("Symbol('s0', exec=True)('a')", "Symbol('s0', x=exec)", "'a'", "9!", "Integer(2)(3)", ""),
        # what would take all time and memory
        *(
            "9**9**9",
            "Pow(Integer(9), Integer(99999999))",
            "Pow(Pow(Integer(9), Integer(60)), Integer(60))",
            "1e9999999",
        ),
        *("LShift(Integer(1), Integer(99999999))", "Float('1e99999999', precision=53)", "-" * 100000 + "1", "9" * 5000),
    ],
)
def test_texts_that_are_no_sizes(text: str) -> None:
    assert not is_size_expression(text)


@pytest.mark.parametrize(
    "text",
    [
        "Add(FloorDiv(Symbol('s77', positive=True, integer=True), Integer(2)), Integer(1))",
        "Max(Integer(1), TruncToInt(Mul(Float('1.5', precision=53), ToFloat(Symbol('s27', integer=True)))))",
        "GreaterThan(Symbol('u0', integer=True), Integer(0))",
        *(
            "Pow(Symbol('s0'), Integer(-1))",
            "Rational(1, 2)",
            "s0",
            "2*s0 + 1",
            "s0 // 2",
            "s0**2",
            "-s0",
            "s0 >= 2",
            "True",
            "oo",
        ),
    ],
)
def test_texts_that_are_sizes(text: str) -> None:
    assert is_size_expression(text)


def test_sizes_that_are_computed(tmp_path: Path) -> None:
    class Model(torch.nn.Module):
        def forward(self, x, y):
            z = torch.cat([x, x, y])
            return z.reshape(-1, z.shape[0]), x[: x.shape[0] // 2 + 1], torch.arange(x.shape[0] * x.shape[1] + 3)

    dims = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    example = (torch.ones(6, 8), torch.ones(4, 8))
    torch.export.save(torch.export.export(Model(), example, dynamic_shapes=(dims, dims)), tmp_path / "model.pt2")
    from converter.torch.sources.archives import load_program

    _, module = load_program(tmp_path / "model.pt2", trusted=False)
    for actual, expected in zip(module(*example), Model()(*example), strict=True):
        assert torch.equal(actual, expected)


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


@pytest.mark.parametrize("name", ["os:environ", "sys:modules", "torch:nn.Linear", "json:decoder.JSONDecoder"])
def test_keys_of_outputs_that_are_no_members_of_enumerations(name: str, tmp_path: Path) -> None:
    """The value of an environment variable would be the name of an output."""

    def change(program: dict) -> None:
        call = program["graph_module"]["module_call_graph"][0]["signature"]
        version, leaf = json.loads(call["out_spec"])
        key = json.dumps([{"__enum__": True, "fqn": name, "name": "HOME"}])
        call["out_spec"] = json.dumps([version, {"type": "builtins.dict", "context": key, "children_spec": [leaf]}])

    assert name in refused(_changed(tmp_path, change), tmp_path)


class _Key(enum.Enum):
    SCORE = 1


def test_keys_of_outputs_that_are_members_of_enumerations(tmp_path: Path) -> None:
    class Model(torch.nn.Module):
        def forward(self, x):
            return {_Key.SCORE: x + 1}

    torch.export.save(torch.export.export(Model(), (torch.ones(2, 4),)), tmp_path / "model.pt2")
    from converter.torch.sources.archives import load_program

    _, module = load_program(tmp_path / "model.pt2", trusted=False)
    assert torch.equal(module(torch.ones(2, 4))[_Key.SCORE], torch.full((2, 4), 2.0))


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
    source = write_entries(tmp_path, {**entries, name: write(tmp_path)})
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
    assert "pickled objects" in refused(write_entries(tmp_path, {**entries, **constants, **named}), tmp_path)


@pytest.mark.parametrize("name", ["wrapper.so", "wrapper.SO", "wrapper.data"])
def test_compiled_code(name: str, tmp_path: Path) -> None:
    entries = _entries(tmp_path)
    source = write_entries(tmp_path, {**entries, f"model/data/aotinductor/model/{name}": b"\x7fELF"})
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
    from converter.torch.sources.archives import load_program

    _, module = load_program(tmp_path / "model.pt2", trusted=False)
    x = torch.randn(3, 4)
    assert torch.equal(module(x), Model()(x))
