"""ONNX files that lie about their weights, run in circles or call themselves: each refused in one sentence, none obeyed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import ROOT
from onnx import TensorProto, helper
from onnx_models import convnet, external, info, model_of

from converter.contracts import ImportSpec
from converter.errors import ConverterError, SourceError, UnsupportedError, UntrustedError

sys.path.insert(0, str(ROOT / "scripts"))
from import_onnx import import_model  # noqa: E402


def imported(path: Path, **parameters):
    out = path.parent / "hub"
    out.mkdir()
    return import_model(ImportSpec(path, "onnx", **parameters), out)


def node(operator, inputs, outputs, **attributes):
    return helper.make_node(operator, inputs, outputs, **attributes)


def simple(*nodes, initializers=()):
    """initializers: as the file has them, whatever they say."""
    model = model_of(list(nodes), [info("x", [2, 4])], [info("y", [2, 4])])
    model.graph.initializer.extend(initializers)
    return model


def weight(dims, *, data_type=TensorProto.FLOAT, raw=bytes(32)):
    return TensorProto(name="w", dims=dims, data_type=data_type, raw_data=raw)


def added(tensor):
    return simple(node("Add", ["x", "w"], ["y"]), initializers=[tensor])


def calls_itself():
    model = simple(node("Round2", ["x"], ["y"], domain="own"))
    function = model.functions.add(name="Round2", domain="own", input=["a"], output=["b"])
    function.node.add(op_type="Round2", domain="own", input=["a"], output=["b"])
    function.opset_import.add(domain="own", version=1)
    model.opset_import.add(domain="own", version=1)
    return model


def branches_in_branches(depth):
    graph = helper.make_graph([node("Identity", ["x"], ["deep"])], "g", [], [info("deep", [2, 4])])
    for _ in range(depth):
        made = node("If", ["c"], ["deep"], then_branch=graph, else_branch=graph) if depth < 5 else None
        made = made or node("If", ["c"], ["deep"], then_branch=graph)
        graph = helper.make_graph([made], "g", [], [info("deep", [2, 4])])
    nodes = [node("Identity", ["x"], ["y"]), node("If", ["c"], ["z"], then_branch=graph, else_branch=graph)]
    return model_of(nodes, [info("x", [2, 4]), info("c", [], "bool")], [info("y", [2, 4]), info("z", [2, 4])])


HOSTILE = {
    "circle": (
        lambda: simple(node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"]), node("Relu", ["b"], ["y"])),
        "no valid",
    ),
    "reads its own output": (lambda: simple(node("Add", ["x", "y"], ["y"])), "no valid"),
    "made twice": (lambda: simple(node("Relu", ["x"], ["y"]), node("Tanh", ["x"], ["y"])), "no valid"),
    "calls itself": (calls_itself, "no valid"),
    "weight of more bytes than it has": (lambda: added(weight([2, 4000])), "no valid|damaged"),
    "weight of fewer bytes than it has": (lambda: added(weight([2, 4], raw=bytes(64))), "does not take it: .*64 bytes"),
    "weight of 2**62 elements": (lambda: added(weight([2**62])), "no valid|damaged"),
    "weight whose size overflows": (lambda: added(weight([2**32, 2**32])), "no valid|damaged"),
    "weight of negative size": (lambda: added(weight([-2, -4])), "no valid|damaged"),
    "weight of no type": (lambda: added(weight([2, 4], data_type=99)), "does not take it: .*data type"),
    "unknown operator": (lambda: simple(node("NoSuch", ["x"], ["y"])), "NoSuch"),
    "opset of 2**62": (lambda: _of_opset(2**62), "opset"),
    "opset of -1": (lambda: _of_opset(-1), "opset"),
}


def _of_opset(number):
    model = simple(node("Relu", ["x"], ["y"]))
    model.opset_import[0].version = number
    return model


@pytest.mark.parametrize("case", HOSTILE)
def test_it_is_refused_in_one_sentence(tmp_path, case):
    make, sentence = HOSTILE[case]
    path = tmp_path / "m.onnx"
    path.write_bytes(make().SerializeToString())
    with pytest.raises(ConverterError, match=sentence) as caught:
        imported(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1200


LOCATIONS = {
    "above the folder": ({"location": "../w.bin"}, UntrustedError),
    "of the machine": ({"location": "/etc/hostname"}, UntrustedError),
    "through a link": ({"location": "link.bin"}, UntrustedError),
    "a folder": ({"location": "sub"}, SourceError),
    "missing": ({"location": "none.bin"}, SourceError),
    "behind the end": ({"offset": "100000000"}, SourceError),
    "negative": ({"offset": "-4"}, SourceError),
    "longer than the file": ({"length": str(2**40)}, SourceError),
    "no name": ({"location": "w\0.bin"}, SourceError),
    "no number": ({"offset": "0x10"}, SourceError),
    "more than any number": ({"length": str(2**70)}, SourceError),
}


@pytest.mark.parametrize("case", LOCATIONS)
def test_weights_are_read_from_its_own_files_only(tmp_path, case):
    changes, error = LOCATIONS[case]
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(bytes(1 << 16))
    path = external(convnet(), folder / "m.onnx", "w.weights")
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    (folder / "sub").mkdir()
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        if tensor.external_data:
            known = {entry.key: entry.value for entry in tensor.external_data} | changes
            del tensor.external_data[:]
            for key, value in known.items():
                tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(error) as caught:
        imported(path)
    assert "\n" not in str(caught.value)


def test_a_name_that_is_no_text(tmp_path):
    path = external(convnet(), tmp_path / "m.onnx", "w.weights")
    path.write_bytes(path.read_bytes().replace(b"w.weights", b"w.weight\xff"))
    with pytest.raises(SourceError, match="is damaged"):
        imported(path)


def test_branches_within_branches_end(tmp_path):
    """Protobuf takes 100 messages in each other, which is some 30 branches."""
    for depth in (3, 20, 30):
        path = tmp_path / str(depth) / "m.onnx"
        path.parent.mkdir()
        path.write_bytes(branches_in_branches(depth).SerializeToString())
        try:
            hub = imported(path)
        except ConverterError as error:
            assert "\n" not in str(error) and depth > 3
        else:
            assert [spec.name for spec in hub.outputs] == ["y", "z"]


def test_a_step_of_zero_ends_no_process(tmp_path):
    """onnxruntime divides by it: the step has to be said before the model runs."""
    nodes = [node("STFT", ["x", "step", "", "length"], ["y"])]
    length = onnx.numpy_helper.from_array(np.array(16, np.int64), "length")
    inputs = [info("x", [1, 128, 1]), info("step", [], "int64")]
    model = model_of(nodes, inputs, [info("y", [1, 15, 9, 2])])
    model.graph.initializer.append(length)
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    with pytest.raises(UnsupportedError, match="input step is the step of the operator STFT.*give it in constants"):
        imported(path)
    path = tmp_path / "again" / "m.onnx"
    path.parent.mkdir()
    onnx.save(model, path)
    assert imported(path, constants={"step": 8}).outputs[0].shape == (1, 15, 9, 2)


NAMES = (
    "__import__('os').system('touch pwned')",
    "\"'];\nimport os;os.system('touch pwned')#",
    "\u202ea",
    "../../pwned",
    "a" * 3000,
)


@pytest.mark.parametrize("name", NAMES)
def test_names_are_names(tmp_path, monkeypatch, name):
    """Of nodes, values and weights: through torch, whose programs are written as code."""
    from converter.onnx_to_torch.lower import torch_hub

    monkeypatch.chdir(tmp_path)
    scale = onnx.numpy_helper.from_array(np.float32([1, 2, 3, 4]), f"w{name}")
    first = helper.make_node("Mul", ["x", f"w{name}"], [f"v{name}"], name=name)
    path = tmp_path / "m.onnx"
    onnx.save(simple(first, helper.make_node("Relu", [f"v{name}"], ["y"], name=f"n{name}"), initializers=[scale]), path)
    hub = imported(path)
    hub.source = {"path": str(path), "sha256": "0" * 64}
    hub.write()
    (tmp_path / "torch").mkdir()
    lowered = torch_hub(hub, tmp_path / "torch")
    assert lowered.framework == "pytorch"
    assert not list(tmp_path.parent.rglob("pwned"))
