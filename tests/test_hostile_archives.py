"""PyTorch files, .npz files, ONNX files and configurations that run code or lead elsewhere: refused by name, nothing happens."""

from __future__ import annotations

import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import Project, last_line
from imports import run_step
from onnx import TensorProto, helper
from small_models import write_graph

from converter import containers
from converter.errors import UntrustedError
from converter.onnx_external import refuse_external_data

torch = pytest.importorskip("torch")


class Acts:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def _zip(path: Path, content: object) -> None:
    torch.save(content, path)


def _old_format(path: Path, content: object) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def _plain_pickle(path: Path, content: object) -> None:
    path.write_bytes(pickle.dumps(content))


def _protocol_2(path: Path, content: object) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


CONTENTS = {
    "object": lambda evil: evil,
    "beside the weights": lambda evil: {"state_dict": {"weight": torch.eye(3)}, "optimizer": {"hook": [evil]}},
    "in a key": lambda evil: {"weight": torch.eye(3), ("extra",): evil},
    "attribute of a module": lambda evil: _with_attribute(torch.nn.Linear(4, 3), evil),
    "hook of a module": lambda evil: _with_hook(torch.nn.Linear(4, 3), evil),
}


def _with_attribute(module, evil):
    module.extra = evil
    return torch.nn.Sequential(module)


def _with_hook(module, evil):
    module._forward_hooks[0] = evil
    return module


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("write", [_zip, _old_format, _plain_pickle, _protocol_2])
def test_pickles_that_run_code(write, content: str, tmp_path: Path) -> None:
    pwned, source = tmp_path / "pwned", tmp_path / "model.pt"
    write(source, CONTENTS[content](Acts(pwned)))
    hub = run_step("import_pytorch", source, tmp_path / "hub", input_shape="1,4")
    assert hub.error["kind"] == "UntrustedError", hub.error
    assert "open" in hub.error["message"] and "trusted: true" in hub.error["message"]
    assert not pwned.exists()


@pytest.mark.parametrize("instruction", ["stack_global", "inst", "obj", "extension", "memo"])
def test_pickles_written_by_hand(instruction: str, tmp_path: Path) -> None:
    """Every way of the pickle machine to name a function, not only the one that Python itself writes."""
    pwned = tmp_path / "pwned"
    argument = f"V{pwned}\n".encode()
    streams = {
        "stack_global": b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93" + argument + b"\x85R.",
        "inst": b"(" + argument + b"ios\nmkdir\n.",
        "obj": b"(cos\nmkdir\n" + argument + b"o.",
        "extension": b"\x80\x02\x82\x01.",
        "memo": b"\x80\x04\x8c\x02os\x94\x8c\x05mkdir\x940h\x00h\x01\x93" + argument + b"\x85R.",
    }
    source = tmp_path / "model.pt"
    source.write_bytes(streams[instruction])
    hub = run_step("import_pytorch", source, tmp_path / "hub", input_shape="1,4")
    assert hub.error is not None and not pwned.exists()
    assert hub.error["kind"] in ("UntrustedError", "SourceError"), hub.error


def test_one_pickle_for_the_check_and_another_for_the_loader(tmp_path: Path) -> None:
    pwned, source = tmp_path / "pwned", tmp_path / "model.pt"
    _zip(source, {"weight": Acts(pwned)})
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(source, "a") as archive:
        archive.writestr("model/data.pkl", pickle.dumps({}))
    hub = run_step("import_pytorch", source, tmp_path / "hub", input_shape="1,4")
    assert hub.error["kind"] == "UntrustedError" and not pwned.exists()


def test_pytorch_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "_ALWAYS_ALLOWED", 1 << 20)
    source = tmp_path / "model.pt"
    _zip(source, torch.nn.Linear(4, 3))
    with zipfile.ZipFile(source, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data/99", bytes(1 << 26))
    hub = run_step("import_pytorch", source, tmp_path / "hub", input_shape="1,4")
    assert hub.error["kind"] == "UntrustedError" and "holds 0.1 GB" in hub.error["message"]


@pytest.mark.parametrize("kind", ["objects", "bomb", "traversal", "not an archive"])
def test_reference_inputs(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwned, arrays, source = tmp_path / "pwned", tmp_path / "inputs.npz", tmp_path / "model.pb"
    write_graph(source)
    if kind == "objects":
        np.savez(arrays, x=np.array([Acts(pwned)], object))
    elif kind == "bomb":
        monkeypatch.setattr(containers, "_ALWAYS_ALLOWED", 1 << 20)
        np.savez_compressed(arrays, x=np.zeros((1 << 22, 4), np.float32))
    elif kind == "traversal":
        with zipfile.ZipFile(arrays, "w") as archive:
            archive.writestr("../x.npy", b"")
    else:
        arrays.write_bytes(pickle.dumps(Acts(pwned)))
    hub = run_step("import_protobuf", source, tmp_path / "hub", verify={"inputs": str(arrays)})
    assert hub.error["kind"] == "ParameterError", hub.error
    assert "verify.inputs" in hub.error["message"] and str(arrays) in hub.error["message"]
    assert not pwned.exists()


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "link", "sub/../../secret"])
def test_onnx_weights_elsewhere(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(bytes(48))
    (folder / "inside").write_bytes(bytes(48))
    (folder / "link").symlink_to(tmp_path / "secret")

    def write(name: str) -> Path:
        weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 3], data_location=TensorProto.EXTERNAL)
        weight.external_data.add(key="location", value=name)
        x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 4]), ("y", [1, 3])))
        graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [weight])
        path = folder / "model.onnx"
        path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]).SerializeToString())
        return path

    refuse_external_data(write("inside"))
    with pytest.raises(UntrustedError, match=location.replace(".", r"\.")):
        refuse_external_data(write(location))


def test_onnx_weights_elsewhere_in_a_subgraph(tmp_path: Path) -> None:
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="../secret")
    constant = helper.make_node("Constant", [], ["c"], value=weight)
    y = helper.make_tensor_value_info("c", TensorProto.FLOAT, [1])
    branch = helper.make_graph([constant], "branch", [], [y])
    node = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    x = helper.make_tensor_value_info("x", TensorProto.BOOL, [])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(helper.make_graph([node], "g", [x], [out])), path)
    with pytest.raises(UntrustedError, match="secret"):
        refuse_external_data(path)


@pytest.mark.parametrize(
    "text",
    [
        'jobs: !!python/object/apply:os.mkdir ["pwned"]',
        'defaults: {onnx_opset: !!python/object/new:os.mkdir ["pwned"]}',
        "models: !!python/module:this",
    ],
)
def test_yaml_tags(text: str, project: Project) -> None:
    (project.folder / "evil.yaml").write_text(text)
    run = project.snakemake("converted/x.onnx", "--configfile", "evil.yaml")
    assert run.returncode == 1
    assert not (project.folder / "pwned").exists() and "Zen of Python" not in run.stdout + run.stderr
    assert "Traceback" not in run.stdout + run.stderr and last_line(run)


def test_names_cannot_lead_out_of_the_hub(tmp_path: Path) -> None:
    """An archive's folder name is the file's own; torch takes it from the first entry."""
    source, pwned = tmp_path / "model.pt", tmp_path / "pwned"
    _zip(source, {"weight": torch.eye(3)})
    with zipfile.ZipFile(source, "a") as archive:
        archive.writestr("model/../../pwned", b"x")
    hub = run_step("import_pytorch", source, tmp_path / "hub", input_shape="1,4")
    assert hub.error["kind"] == "UntrustedError" and not pwned.exists()
    shutil.rmtree(tmp_path / "hub")
    assert os.listdir(tmp_path) == ["model.pt"]
