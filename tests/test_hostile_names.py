"""Names in PyTorch files that are Python: torch.fx writes names into source and executes it. Refused, and nothing happens."""

from __future__ import annotations

import json
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import export_onnx
import pytest
from imports import run_step
from pt2_archives import read_entries, write_entries

from converter.contracts import ExportJob
from converter.errors import UnsupportedError, UntrustedError
from converter.hub.hub import Hub

torch = pytest.importorskip("torch")

from converter.torch.program.hub_program import read_program  # noqa: E402
from converter.torch.trust import generated_code  # noqa: E402

_MODEL = "model/models/model.json"
_WEIGHTS = "model/data/weights/model_weights_config.json"
_CONSTANTS = "model/data/constants/model_constants_config.json"


def _refused(source: Path, folder: Path, **parameters: object) -> str:
    """The sentence; nothing has been run, and `trusted: true` is no way around."""
    error = run_step("import_pytorch", source, folder / "hub", **parameters).error
    assert not (folder / "pwned").exists()
    assert error is not None and error["kind"] == "UntrustedError", error
    assert str(source) in error["message"] and "\n" not in error["message"]
    return error["message"]


def _quoted(folder: Path, name: str) -> str:
    """Ends the text in which torch.fx writes a name that is no identifier: getattr(self, "NAME"). No dots: it splits there."""
    return f"{name}\" if not open('{folder}/pwned', 'w') else \"{name}"


def _default(folder: Path, name: str) -> str:
    """The default of a parameter of the function that torch.fx writes."""
    return f"{name}=open('{folder}/pwned', 'w')"


# Programs


class _Network(torch.nn.Module):
    """A parameter, a buffer, a constant, and an argument given by its name."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 3)
        self.register_buffer("scale", torch.ones(3))
        self.offset = torch.ones(3)

    def forward(self, x, *, shift):
        return self.linear(x) * self.scale + self.offset + shift


class _Branches(_Network):
    def forward(self, x, *, shift):
        y = super().forward(x, shift=shift)
        return torch.cond(y.sum() > 0, lambda y: y + 1, lambda y: y - 1, (y,))


def _program(folder: Path, network: type = _Network) -> dict[str, bytes]:
    path = folder / "model.pt2"
    example = (torch.ones(2, 4),), {"shift": torch.ones(3)}
    torch.export.save(torch.export.export(network().eval(), *example), path)
    return read_entries(path)


def _renamed(node: object, old: str, new: str) -> object:
    """Every text and every key that is `old`, replaced."""
    if isinstance(node, dict):
        return {new if key == old else key: _renamed(value, old, new) for key, value in node.items()}
    if isinstance(node, list):
        return [_renamed(value, old, new) for value in node]
    return new if node == old else node


def _with_name(old: str, make: Callable[[Path, str], str], files: tuple[str, ...] = (_MODEL, _WEIGHTS, _CONSTANTS)):
    def change(entries: dict[str, bytes], folder: Path) -> None:
        for file in files:
            content = _renamed(json.loads(entries[file]), old, make(folder, old.rpartition(".")[2]))
            entries[file] = json.dumps(content).encode()

    return change


def _in_model(change: Callable[[dict, Path], None]):
    def change_entries(entries: dict[str, bytes], folder: Path) -> None:
        program = json.loads(entries[_MODEL])
        change(program, folder)
        entries[_MODEL] = json.dumps(program).encode()

    return change_entries


def _signature(program: dict) -> dict:
    return program["graph_module"]["module_call_graph"][0]["signature"]


def _argument(folder: Path) -> str:
    """Valid as arguments of a function, whose annotations are executed, and as values in {"shift": ...}."""
    return f"shift, other:open(\"{folder}/pwned\", 'w')"


def _argument_name(program: dict, folder: Path) -> None:
    _signature(program)["forward_arg_names"][-1] = _argument(folder)


def _key_of_the_inputs(program: dict, folder: Path) -> None:
    """Where the program does not say how its arguments are called, the keys are taken."""
    signature = _signature(program)
    signature["forward_arg_names"] = None
    version, spec = json.loads(signature["in_spec"])
    spec["children_spec"][1]["context"] = json.dumps([_argument(folder).replace("'", '"')])
    signature["in_spec"] = json.dumps([version, spec])


def _key_in_quotes(program: dict, folder: Path) -> None:
    signature = _signature(program)
    version, spec = json.loads(signature["in_spec"])
    spec["children_spec"][1]["context"] = json.dumps([f"shift': open(\"{folder}/pwned\", 'w'), 'shift"])
    signature["in_spec"] = json.dumps([version, spec])


def _keyword(program: dict, folder: Path) -> None:
    node = next(node for node in program["graph_module"]["graph"]["nodes"] if "cond" in node["target"])
    node["inputs"][-1] |= {"name": f"operands=open('{folder}/pwned', 'w'), other", "kind": 2}


def _constant_input(program: dict, folder: Path) -> None:
    """An argument that is no tensor has its name from the signature alone."""
    graph = program["graph_module"]
    graph["graph"]["inputs"].append({"as_int": 1})
    constant = {"name": _default(folder, "z"), "value": {"as_int": 1}}
    graph["signature"]["input_specs"].append({"constant_input": constant})


_PROGRAMS = {
    "parameter": _with_name("linear.weight", _quoted),
    "buffer": _with_name("scale", _quoted),
    "constant": _with_name("offset", _quoted),
    "input": _with_name("shift", _default, (_MODEL,)),
    "input of a parameter": _with_name("p_linear_weight", _default, (_MODEL,)),
    "constant input": _in_model(_constant_input),
    "argument": _in_model(_argument_name),
    "key of the inputs": _in_model(_key_of_the_inputs),
    "key in quotes": _in_model(_key_in_quotes),
    "subgraph": _with_name("true_graph_0", _quoted, (_MODEL,)),
    "input of a subgraph": _with_name("add_1", _default, (_MODEL,)),
    "keyword": _in_model(_keyword),
}


_OF_BRANCHES = {"subgraph", "input of a subgraph", "keyword"}


@pytest.mark.parametrize("variant", _PROGRAMS)
def test_names_in_programs(variant: str, tmp_path: Path) -> None:
    entries = _program(tmp_path, _Branches if variant in _OF_BRANCHES else _Network)
    _PROGRAMS[variant](entries, tmp_path)
    _refused(write_entries(tmp_path, entries), tmp_path)


# Pickled modules


def _with_key(part: torch.nn.Module, mapping: str, old: str, new: str) -> None:
    items = getattr(part, mapping).items()
    vars(part)[mapping] = type(getattr(part, mapping))((new if key == old else key, value) for key, value in items)


def _submodule(folder: Path) -> torch.nn.Module:
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU())
    _with_key(module, "_modules", "0", _getattr(folder, "0"))
    return module


def _getattr(folder: Path, name: str) -> str:
    return f"{name}\") if not open('{folder}/pwned', 'w') else (self, \"{name}"


def _extra_buffer(folder: Path) -> torch.nn.Module:
    module = torch.nn.Sequential(torch.nn.Linear(4, 3))
    module._buffers[_quoted(folder, "w")] = torch.ones(3)
    return module


def _extra_parameter(folder: Path) -> torch.nn.Module:
    module = torch.nn.Sequential(torch.nn.Linear(4, 3))
    module[0]._parameters[_quoted(folder, "w")] = torch.nn.Parameter(torch.ones(3))
    return module


def _deep(folder: Path) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Sequential(_submodule(folder)))


def _weight_norm(folder: Path) -> torch.nn.Module:
    """The hook names the parameter that it makes once its own are taken off."""
    name = _quoted(folder, "weight")
    linear = torch.nn.Linear(4, 3)
    torch.nn.utils.weight_norm(linear)
    (hook,) = linear._forward_pre_hooks.values()
    hook.name = name
    for part in ("_g", "_v"):
        _with_key(linear, "_parameters", "weight" + part, name + part)
    return torch.nn.Sequential(linear)


def _attribute(folder: Path) -> torch.nn.Module:
    """A tensor that is neither parameter nor buffer becomes a constant of the name it is found under."""
    norm = torch.nn.BatchNorm1d(4)
    mean = norm._buffers.pop("running_mean")
    vars(norm)[_quoted(folder, "w")] = mean
    vars(norm)["running_mean"] = mean
    return torch.nn.Sequential(norm)


_MODULES = {
    function.__name__.strip("_").replace("_", " "): function
    for function in (_submodule, _extra_buffer, _extra_parameter, _deep, _weight_norm, _attribute)
}


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old format"])
@pytest.mark.parametrize("variant", _MODULES)
def test_names_in_modules(variant: str, old: bool, tmp_path: Path) -> None:
    source = tmp_path / "model.pt"
    torch.save(_MODULES[variant](tmp_path), source, _use_new_zipfile_serialization=not old)
    _refused(source, tmp_path, input_shape="1,4")


def test_names_in_a_module_within_a_checkpoint(tmp_path: Path) -> None:
    source = tmp_path / "model.pt"
    torch.save(OrderedDict(epoch=3, model=_submodule(tmp_path)), source)
    _refused(source, tmp_path, input_shape="1,4")


class _Scripted(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.NAME = torch.nn.Parameter(torch.ones(4))

    def forward(self, x):
        return x * self.NAME


def test_names_in_torchscript(tmp_path: Path) -> None:
    """Its language allows any name, in quotes; the pickle beside the code must agree."""
    plain, source, name = tmp_path / "plain.pt", tmp_path / "model.pt", _quoted(tmp_path, "w")
    torch.jit.script(_Scripted().eval()).save(str(plain))
    quoted = json.dumps(name).encode()
    with zipfile.ZipFile(plain) as archive, zipfile.ZipFile(source, "w") as changed:
        for entry in archive.namelist():
            content = archive.read(entry)
            if entry.endswith(".py"):
                content = content.replace(b'["NAME", ]', b"[" + quoted + b", ]").replace(
                    b"  NAME : Tensor", b"  __annotations__[" + quoted + b"] = Tensor"
                )
                content = content.replace(b"self.NAME", b"getattr(self, " + quoted + b")")
            elif entry.endswith("data.pkl"):
                old, new = (b"X" + struct.pack("<I", len(text)) + text.encode() for text in ("NAME", name))
                content = content.replace(old, new)
            if not entry.endswith(".debug_pkl"):
                changed.writestr(entry, content)
    assert name in dict(torch.jit.load(source).named_parameters())
    _refused(source, tmp_path, input_shape="1,4")


# The second lock


@pytest.mark.parametrize("variant", _PROGRAMS)
def test_names_in_the_program_of_a_hub(variant: str, tmp_path: Path) -> None:
    """An export step reads what an import step wrote; were that another program, its names would be refused there."""
    entries = _program(tmp_path, _Branches if variant in _OF_BRANCHES else _Network)
    _PROGRAMS[variant](entries, tmp_path)
    write_entries(tmp_path, entries).rename(tmp_path / "program.pt2")
    hub = Hub(tmp_path, "pytorch", [], [], False)
    with pytest.raises(UntrustedError, match="run as code"):
        read_program(hub).module(check_guards=False)
    assert not (tmp_path / "pwned").exists()


class _Twice(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.gelu(x) * 2


@pytest.mark.parametrize("planted", ["source", "hub"])
def test_conditions_on_inputs_are_not_run(planted: str, tmp_path: Path) -> None:
    """A program has them as Python text, which torch compiles while it decomposes operators."""
    source, hub = tmp_path / "model.pt2", tmp_path / "hub"
    torch.export.save(torch.export.export(_Twice(), (torch.ones(2, 4),)), source)
    if planted == "source":
        _plant_guard(source, tmp_path)
    assert run_step("import_pytorch", source, hub).error is None
    if planted == "hub":
        _plant_guard(hub / "program.pt2", tmp_path)
    result = export_onnx.export_model(Hub.read(hub), ExportJob("converted/x.onnx", onnx_opset=18), tmp_path / "x.onnx")
    assert "dynamo-exporter" in result.route and result.verification.passed
    assert not (tmp_path / "pwned").exists()


def _plant_guard(path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    (name,) = (name for name in entries if name.endswith("/models/model.json"))
    program = json.loads(entries[name])
    program["guards_code"] = [f"open('{folder}/pwned', 'w')"]
    with zipfile.ZipFile(path, "w") as archive:
        for entry, content in (entries | {name: json.dumps(program).encode()}).items():
            archive.writestr(entry, content)


def test_names_in_graphs_from_anywhere(tmp_path: Path) -> None:
    """Whatever made the graph: nothing of this project's has looked at it before torch writes it."""
    hostile = [
        lambda graph: graph.get_attr(_quoted(tmp_path, "w")),
        lambda graph: graph.call_module(_getattr(tmp_path, "w")),
        lambda graph: graph.call_method(_quoted(tmp_path, "w"), (graph.placeholder("x"),)),
        lambda graph: graph.placeholder(_default(tmp_path, "x")),
        lambda graph: graph.call_function(torch.relu, (), {f"input=open('{tmp_path}/pwned', 'w'), other": 1}),
        lambda graph: graph.get_attr("\n    open('pwned')\n"),
        lambda graph: graph.get_attr("x# COUNTER: 1"),
    ]
    for add in hostile:
        graph = torch.fx.Graph()
        graph.output(add(graph))
        with pytest.raises(UntrustedError):
            graph.python_code("self")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (torch.fx.graph, "_format_target"),
        (torch.fx.graph.CodeGen, "_gen_python_code"),
        (torch.export._unlift, "_ok_to_generate_guards_fn"),
    ],
)
@pytest.mark.parametrize("change", ["other parameters", "gone"])
def test_another_torch_is_refused(owner: object, name: str, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that writes code in another way, so that the lock would lock nothing."""
    monkeypatch.setattr(torch.fx.graph, "_format_target", lambda base, target: "")
    if change == "gone":
        monkeypatch.delattr(owner, name)
    else:
        monkeypatch.setattr(owner, name, lambda something_else: None)
    with pytest.raises(UnsupportedError, match=f"{name}.*constraints.txt"):
        generated_code.lock()


# Names that people have


@pytest.mark.parametrize("name", ['a"b', "it's", "a\\b", "a\nb", "a\rb", "a\x00b", "a\u2028b", "a# COUNTER: 1"])
def test_names_that_could_be_code(name: str, tmp_path: Path) -> None:
    source = tmp_path / "model.pt"
    torch.save(torch.nn.Sequential(OrderedDict({name: torch.nn.Linear(4, 4)})), source)
    assert repr(name) in _refused(source, tmp_path, input_shape="1,4")
