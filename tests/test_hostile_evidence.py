"""PyTorch files that would come out verified without being what the source computes: what they read, and what they keep."""

from __future__ import annotations

import json
import typing
import zipfile
from collections.abc import Callable
from pathlib import Path

import export_onnx
import pytest
from imports import run_step

from converter.contracts import ExportJob
from converter.errors import UnsupportedError
from converter.hub.hub import Hub

torch = pytest.importorskip("torch")

from torch._higher_order_ops.strict_mode import strict_mode  # noqa: E402


class _Source(torch.nn.Module):
    """Another function for one input, chosen by its value."""

    def forward(self, x):
        chosen = ((x[0, 0] - 0.123456).abs() < 1e-6).float()
        return x + x * torch.neg(chosen) * 5


class _Within(_Source):
    def forward(self, x):
        return strict_mode(super().forward, (x,))


def _changed(path: Path, network: torch.nn.Module, change: Callable[[list[dict]], None]) -> Path:
    torch.export.save(torch.export.export(network, (torch.ones(2, 4),)), path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    (name,) = (name for name in entries if name.endswith("models/model.json"))
    program = json.loads(entries[name])
    change(program["graph_module"]["graph"]["nodes"])
    with zipfile.ZipFile(path, "w") as archive:
        for entry, content in (entries | {name: json.dumps(program).encode()}).items():
            archive.writestr(entry, content)
    return path


def _reads(operator: str) -> Callable[[list[dict]], None]:
    """A number of Python's in the place of a tensor of one element: the program still says that it is a tensor."""

    def change(nodes: list[dict]) -> None:
        (node,) = (node for node in nodes if "neg" in node["target"])
        node["target"] = f"torch.ops.aten.{operator}"

    return change


@pytest.mark.parametrize("operator", ["_local_scalar_dense.default", "is_nonzero.default"])
def test_a_value_that_is_read_unseen(operator: str, tmp_path: Path) -> None:
    """A trace would hold it for ever."""
    source = _changed(tmp_path / "model.pt2", _Source(), _reads(operator))
    error = run_step("import_pytorch", source, tmp_path / "hub").error
    assert error is not None and error["kind"] == "SourceError", error
    assert operator.partition(".")[0] in error["message"] and str(source) in error["message"]


@pytest.mark.parametrize("described", [True, False])
def test_a_value_that_is_read_in_a_part_without_gradients(described: bool, tmp_path: Path) -> None:
    """Such a part is inlined; what it says of its results, or leaves unsaid, is held against what they are."""

    def change(nodes: list[dict]) -> None:
        (node,) = (node for node in nodes if "strict_mode" in node["target"])
        node["target"] = "torch.ops.higher_order.wrap_with_set_grad_enabled"
        inner = {**node["inputs"][0], "name": ""}
        graph = inner["arg"]["as_graph"]["graph"]
        read = next(n["outputs"][0]["as_tensor"]["name"] for n in graph["nodes"] if "neg" in n["target"])
        _reads("_local_scalar_dense.default")(graph["nodes"])
        if not described:
            del graph["tensor_values"][read]
        grad, x = ({"name": "", "arg": arg, "kind": 1} for arg in ({"as_bool": True}, {"as_tensor": {"name": "x"}}))
        node["inputs"] = [grad, inner, x]

    source = _changed(tmp_path / "model.pt2", _Within(), change)
    error = run_step("import_pytorch", source, tmp_path / "hub").error
    assert error is not None and error["kind"] == "SourceError" and str(source) in error["message"], error


def test_a_value_that_is_read_in_a_graph_within_the_graph(tmp_path: Path) -> None:
    def change(nodes: list[dict]) -> None:
        (node,) = (node for node in nodes if "strict_mode" in node["target"])
        _reads("_local_scalar_dense.default")(node["inputs"][0]["arg"]["as_graph"]["graph"]["nodes"])

    source = _changed(tmp_path / "model.pt2", _Within(), change)
    hub = run_step("import_pytorch", source, tmp_path / "hub")
    assert hub.error is None, hub.error
    with pytest.raises(UnsupportedError, match="cannot express the model"):
        export_onnx.export_model(Hub.read(tmp_path / "hub"), ExportJob("converted/x.onnx"), tmp_path / "x.onnx")


class _Counts(torch.nn.Module):
    """Another function from the thousandth call on."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls.add_(1)
        return torch.where(self.calls > 1000, x * 5, x)


class _CountsInPart(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros(3, 4))

    def forward(self, x):
        self.table[0][1:].add_(1)
        return torch.where(self.table[0, 2] > 1000, x * 5, x)


class _Collects(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen = torch.jit.Attribute([1.0], typing.List[float])  # noqa: UP006  (TorchScript knows this one only)

    def forward(self, x):
        self.seen.append(1.0)
        return x * 5 if len(self.seen) > 1000 else x


class _CountsInBranch(_Counts):
    """Control flow that depends on data stays TorchScript."""

    def forward(self, x):
        if bool(x.sum() > 1e6):
            self.calls.add_(1)
        return torch.where(self.calls > 1000, x * 5, x)


def _refused_for_state(source: Path, folder: Path) -> None:
    error = run_step("import_pytorch", source, folder / "hub", input_shape="2,4").error
    assert error is not None and error["kind"] == "UnsupportedError", error
    assert "keeps state in" in error["message"] and "\n" not in error["message"]


@pytest.mark.parametrize("network", [_Counts, _CountsInPart])
@pytest.mark.parametrize("functional", [False, True])
def test_programs_that_count_their_calls(network: type, functional: bool, tmp_path: Path) -> None:
    program = torch.export.export(network().eval(), (torch.ones(2, 4),))
    torch.export.save(program.run_decompositions({}) if functional else program, tmp_path / "model.pt2")
    _refused_for_state(tmp_path / "model.pt2", tmp_path)


@pytest.mark.parametrize("network", [_Counts, _CountsInPart, _Collects, _CountsInBranch])
def test_torchscript_that_counts_its_calls(network: type, tmp_path: Path) -> None:
    torch.jit.script(network().eval()).save(str(tmp_path / "model.pt"))
    _refused_for_state(tmp_path / "model.pt", tmp_path)


class _OnlyCounts(_Counts):
    def forward(self, x):
        self.calls.add_(1)
        return x * 2


class _Scratch(torch.nn.Module):
    """Written before it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("last", torch.zeros(2, 4))

    def forward(self, x):
        self.last.copy_(x)
        return self.last * 2


class _Normalized(torch.nn.Module):
    """BatchNorm's code counts its calls, in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(4)

    def forward(self, x):
        y = self.norm(x)
        return y * 2 if bool(y.sum() > 1e6) else y


@pytest.mark.parametrize("network", [_OnlyCounts, _Scratch, _Normalized])
def test_what_is_no_state(network: type, tmp_path: Path) -> None:
    torch.jit.script(network().eval()).save(str(tmp_path / "model.pt"))
    hub = run_step("import_pytorch", tmp_path / "model.pt", tmp_path / "hub", input_shape="2,4")
    assert hub.error is None, hub.error


@pytest.mark.parametrize("name", ["_graph", "original_name", "state_dict", "modules"])
def test_torchscript_with_a_part_of_a_name_of_modules_own(name: str, tmp_path: Path) -> None:
    class Scripted(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.NAME = torch.nn.Parameter(torch.arange(4.0))

        def forward(self, x):
            return x * self.NAME

    torch.jit.script(Scripted()).save(str(tmp_path / "plain.pt"))
    text = [b"X" + len(part).to_bytes(4, "little") + part.encode() for part in ("NAME", name)]
    with zipfile.ZipFile(tmp_path / "plain.pt") as archive, zipfile.ZipFile(tmp_path / "model.pt", "w") as changed:
        for entry in archive.namelist():
            content = archive.read(entry)
            content = content.replace(b"NAME", name.encode()) if entry.endswith(".py") else content.replace(*text)
            if not entry.endswith(".debug_pkl"):
                changed.writestr(entry, content)
    hub = run_step("import_pytorch", tmp_path / "model.pt", tmp_path / "hub", input_shape="1,4")
    assert hub.error is None or hub.error["kind"] != "InternalError", hub.error
