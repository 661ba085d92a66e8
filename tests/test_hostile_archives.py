"""PyTorch files, .npz files, ONNX files and configurations that run code or lead elsewhere: refused by name, nothing happens."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import ROOT, Project, last_line
from imports import run_step
from onnx import TensorProto, helper
from small_models import write_graph

from converter.errors import UntrustedError
from converter.hub.hub import Hub
from converter.safety import containers
from converter.safety.onnx_external import refuse_external_data

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


def _pickle(*parts: bytes | str) -> bytes:
    """Of protocol 2, with texts as BINUNICODE."""
    texts = (part if isinstance(part, bytes) else b"X" + struct.pack("<I", len(part)) + part.encode() for part in parts)
    return b"\x80\x02" + b"".join(texts) + b"."


# dtype("O") with its flags cleared: bytes would pass for the address of an object.
_DTYPE = (b"cnumpy\ndtype\n(", "O8", b"K\x00K\x01tR(K\x03", "|", b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb")
_BYTES = (b"c_codecs\nencode\n(", "AAAAAAAA", "latin1", b"tR")
_EMPTY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85"


@pytest.mark.parametrize("kind", ["scalar", "array", "flags of a float", "structure"])
def test_numpy_objects_at_addresses_of_the_file_s_choice(kind: str, tmp_path: Path) -> None:
    """In a process of its own, which this used to crash."""
    flags = (*_DTYPE[:1], "f8", *_DTYPE[2:3], "<", _DTYPE[4].replace(b"K\x00", b"K\x3f"))
    structure = (*_DTYPE[:1], "V8", *_DTYPE[2:])
    dtype = {"flags of a float": flags, "structure": structure}.get(kind, _DTYPE)
    if kind == "array":
        content = _pickle(_EMPTY, *_BYTES[:1], "b", *_BYTES[2:], b"tR(K\x01K\x01\x85", *dtype, b"\x89", *_BYTES, b"tb")
    else:
        content = _pickle(b"cnumpy.core.multiarray\nscalar\n(", *dtype, *_BYTES, b"tR")
    source = tmp_path / "model.pt"
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3\n")
    command = [sys.executable, str(ROOT / "scripts" / "import_pytorch.py"), str(source), str(tmp_path / "hub")]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "the NumPy dtype" in Hub.read(tmp_path / "hub").error["message"]


def test_numpy_numbers_and_arrays_are_read(tmp_path: Path) -> None:
    from converter.torch.trust.pickles import load_pickled

    arrays = {
        "a": np.arange(6, dtype=">f4").reshape(2, 3),
        "b": np.asfortranarray(np.ones((2, 3))),
        "c": np.array(["x"]),
    }
    content = {**arrays, "d": np.float64(3.5), "e": np.bool_(True), "f": np.int64(7)}
    for write in (_zip, _old_format):
        write(tmp_path / "model.pt", content)
        loaded = load_pickled(tmp_path / "model.pt", None, False)
        assert loaded.keys() == content.keys()
        for name, value in content.items():
            np.testing.assert_array_equal(loaded[name], value)
            assert loaded[name].dtype == value.dtype.newbyteorder("=") or loaded[name].dtype == value.dtype


def _two_directories(source: Path, other: bytes) -> None:
    """Hide the archive `other` in the file: the last record says where its directory is, and right before the record lies
    the directory of what Python reads."""
    shown = source.read_bytes()
    count, length, offset = struct.unpack_from("<HII", shown, len(shown) - 12)
    directory = bytearray(shown[offset : offset + length])
    hidden_count, hidden_length, hidden_offset = struct.unpack_from("<HII", other, len(other) - 12)
    hidden = other[: hidden_offset + hidden_length]
    hidden += bytes(max(0, length - hidden_length))
    # Both are read with one length and one number of entries.
    assert (count, length) == (hidden_count, hidden_length)
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, count, count, length, hidden_offset, 0)
    source.write_bytes(hidden + shown[:offset] + bytes(directory) + end)


@pytest.mark.parametrize("shown", ["python", "torch"])
def test_archives_that_two_programs_read_differently(shown: str, tmp_path: Path) -> None:
    source, other = tmp_path / "model.pt", io.BytesIO()
    for target, text in ((source, "harmless"), (other, "from_fil")):
        with zipfile.ZipFile(target, "w") as archive:
            archive.writestr("model/data.pkl", text)
            archive.writestr("model/version", "3\n")
    _two_directories(source, other.getvalue())
    with zipfile.ZipFile(source) as archive:
        assert archive.read("model/data.pkl") == b"harmless"
    if shown == "torch":
        assert torch._C.PyTorchFileReader(str(source)).get_record("data.pkl") == b"from_fil"
        return
    with pytest.raises(UntrustedError, match="directory"):
        containers.refuse_archive(source)


def test_names_that_differ_in_case_only(tmp_path: Path) -> None:
    """torch looks names up whatever their case (2.13)."""
    source = tmp_path / "model.pt"
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr("model/DATA.pkl", "a")
        archive.writestr("model/data.pkl", "b")
    with pytest.raises(UntrustedError, match="twice"):
        containers.refuse_archive(source)


def _script(path: Path, change: Callable[[str], str], name: Callable[[str], str] = str) -> Path:
    """A TorchScript archive with other code in it."""
    torch.jit.script(_Linear()).save(path)
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist() if not name.endswith(".debug_pkl")}
    with zipfile.ZipFile(path, "w") as archive:
        for entry, data in content.items():
            is_code = entry.endswith(".py")
            archive.writestr(name(entry) if is_code else entry, change(data.decode()) if is_code else data)
    return path


class _Linear(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.linear(x, torch.ones(3, 4))


@pytest.mark.parametrize(
    "code",
    [
        'x = torch.from_file("/etc/hostname", False, 1)',
        'x = torch . from_file("/etc/hostname", False, 1)',
        'x = torch.  # a comment\n      from_file("/etc/hostname", False, 1)',
        'x = ops.aten.from_file("/etc/hostname", False, 1)',
        'x = "/etc/hostname".from_file(False, 1)',
        'read = torch.from_file\n    x = read("/etc/hostname", False, 1)',
        'x = getattr(torch, "from_file")("/etc/hostname", False, 1)',
        'x = getattr(torch, "from\\x5ffile")("/etc/hostname", False, 1)',
        'x = getattr(torch, "from" "_file")("/etc/hostname", False, 1)',
        'torch.save(x, "pwned")',
        'x.save("pwned")',
    ],
)
def test_torchscript_that_uses_files(code: str, tmp_path: Path) -> None:
    source = _script(tmp_path / "model.pt", lambda text: text.replace("    return ", f"    {code}\n    return ", 1))
    hub = run_step("import_pytorch", source, tmp_path / "hub", input_shape="1,4")
    assert hub.error is not None and hub.error["kind"] == "UntrustedError", hub.error
    assert "from_file" in hub.error["message"] or "save" in hub.error["message"]


def test_torchscript_whose_code_has_another_name(tmp_path: Path) -> None:
    def change(text):
        return text.replace("    return ", '    x = torch.from_file("/etc/hostname", False, 1)\n    return ', 1)

    source = _script(tmp_path / "model.pt", change, lambda name: name[:-3] + ".PY")
    hub = run_step("import_pytorch", source, tmp_path / "hub", input_shape="1,4")
    assert hub.error is not None and hub.error["kind"] == "UntrustedError", hub.error


@pytest.mark.parametrize("kind", ["dtype", "code", "links", "plain"])
def test_what_an_old_torch_would_read(kind: str, tmp_path: Path) -> None:
    """torch 1.6 has no loader for weights only, and its NumPy is as trusting as today's."""
    from converter.torch.sources.archives import checked_kind, refuse_unread

    source = tmp_path / "model.pt"
    if kind == "plain":
        for write in (_zip, _old_format):
            write(source, {"a": np.ones(3), "b": np.float64(1), "c": torch.eye(2), "d": torch.nn.Linear(2, 2)})
            refuse_unread(source)
        return
    if kind == "dtype":
        source.write_bytes(_pickle(b"cnumpy.core.multiarray\nscalar\n(", *_DTYPE, *_BYTES, b"tR"))
    elif kind == "code":
        change = "    x = torch . from_file('/etc/hostname', False, 1)\n    return "
        _script(source, lambda text: text.replace("    return ", change, 1))
    else:
        _zip(source, {})
        with zipfile.ZipFile(source, "a") as archive:
            archive.writestr("../x", b"")
    with pytest.raises(UntrustedError):
        checked_kind(source, trusted=False)
        refuse_unread(source)


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


def test_names_that_a_terminal_would_obey(project: Project) -> None:
    """Names in a file may hold escape sequences, which move the cursor, rename the window and more."""
    (project.folder / "models").mkdir(exist_ok=True)
    (project.folder / "models" / "evil.pt").write_bytes(b"\x80\x02c\x1b[2Jos\n\x1b]0;owned\x07system\n.")
    run = project.snakemake("converted/evil.onnx")
    assert run.returncode == 1
    assert r"\x1b[2Jos.\x1b]0;owned\x07system" in last_line(run)
    assert not set(run.stdout + run.stderr) & {"\x1b", "\x07"}
