"""PyTorch to ONNX: right at every opset that is reported, free in its batch, the same bytes again."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from pytorch_hub import import_file, network, saved

from converter.contracts import ExportJob
from converter.errors import UnsupportedError
from converter.torch.onnx.export import export


def converted(tmp_path, name, shape, opset=None, **arguments):
    hub = import_file(saved(tmp_path, name, **arguments), tmp_path / "hub", shape)
    path = tmp_path / "model.onnx"
    return export(hub, ExportJob("model.onnx", onnx_opset=opset), path), path


def run(path, *inputs):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip([value.name for value in session.get_inputs()], inputs, strict=True)))


NETWORKS = [
    ("Net", "1,3,16,16", 10),
    ("Tokens", "1,7", 10),
    ("UNet", "1,3,16,16", 11),
    ("UNet", "1,3,-1,-1", 11),
    ("Pieces", "1,3,9,9", 10),
    ("Encoder", "1,7,16", 10),
    ("TwoInputs", "1,4;1,6", 10),
]


@pytest.mark.parametrize(("name", "shape", "opset"), NETWORKS)
def test_default_opset_is_10_or_the_lowest_that_is_right(tmp_path, name, shape, opset):
    result, path = converted(tmp_path, name, shape)
    model = onnx.load(path)
    onnx.checker.check_model(model)
    assert result.verification.passed
    assert result.opset == opset
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [opset]
    assert (result.opset_reason is None) == (opset == 10)
    assert result.route == ["export_onnx", "torchscript-exporter"]


def test_batches_that_were_never_exported(tmp_path):
    """Against the network itself, at a batch size that is neither in the reference nor in the trace."""
    for name, shape in (("Net", (5, 3, 16, 16)), ("Encoder", (5, 7, 16)), ("Pieces", (5, 3, 9, 9))):
        _, path = converted(tmp_path, name, ",".join(["1", *map(str, shape[1:])]))
        x = torch.randn(shape, generator=torch.Generator().manual_seed(7))
        with torch.no_grad():
            expected = network(name)(x).numpy()
        np.testing.assert_allclose(run(path, x.numpy())[0], expected, rtol=1e-3, atol=1e-4)
    dims = onnx.load(path).graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", 3, 9, 9]


@pytest.mark.parametrize("opset", [9, 13, 17, 18, 20, 22])
def test_opset_asked_for_is_met(tmp_path, opset):
    result, path = converted(tmp_path, "Tokens", "1,7", opset, rnn="GRU")
    assert result.verification.passed
    assert result.opset == opset
    assert [entry.version for entry in onnx.load(path).opset_import if entry.domain == ""] == [opset]
    exporter = "dynamo-exporter" if opset >= 18 else "torchscript-exporter"
    assert result.route[-1] == exporter


def test_opset_that_is_not_enough_is_not_raised_in_silence(tmp_path):
    """Bilinear upsampling at opset 10 is wrong in every exporter: the verdict says so, and what to do."""
    result, path = converted(tmp_path, "UNet", "1,3,16,16", 10)
    assert result.opset == 10
    assert not result.verification.passed
    assert "leave onnx_opset out" in result.verification.message


def test_opset_out_of_range(tmp_path):
    with pytest.raises(UnsupportedError, match="onnx_opset 30 cannot be written from a PyTorch model, only 7 to"):
        converted(tmp_path, "Net", "1,3,16,16", 30)


def test_names_of_the_forward_signature(tmp_path):
    _, path = converted(tmp_path, "TwoInputs", "1,4;1,6")
    graph = onnx.load(path).graph
    assert [value.name for value in graph.input] == ["left", "right"]
    assert [value.name for value in graph.output] == ["sum", "scaled"]
    assert {"a.weight", "b.bias"} & {tensor.name for tensor in graph.initializer}


def test_control_flow_takes_both_branches(tmp_path):
    result, path = converted(tmp_path, "Branches", "1,4")
    assert result.verification.passed
    module = network("Branches")
    for sign in (1.0, -1.0):
        x = torch.full((1, 4), sign)
        np.testing.assert_allclose(run(path, x.numpy())[0], module(x).detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("opset", [None, 18])
def test_same_bytes_and_nothing_of_this_machine(tmp_path, opset):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    _, path = converted(tmp_path / "a", "Net", "1,3,16,16", opset)
    content = path.read_bytes()
    _, again = converted(tmp_path / "b", "Net", "1,3,16,16", opset)
    assert again.read_bytes() == content
    assert b"pytorch_networks.py" not in content
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert metadata["converter.source_sha256"] == "0" * 64
    assert json.loads(metadata["converter.versions"])["torch"] == torch.__version__


def test_a_wrong_file_is_found_out(tmp_path, monkeypatch):
    """An exporter that drops an activation must not pass."""
    from converter.torch.program import eager_program

    monkeypatch.setitem(eager_program._SPECIAL, torch.ops.aten.relu.default, lambda x: x)
    hub = import_file(saved(tmp_path, "Net"), tmp_path / "hub", "1,3,16,16")
    result = export(hub, ExportJob("model.onnx", onnx_opset=11), tmp_path / "model.onnx")
    assert not result.verification.passed
    result = export(hub, ExportJob("model.onnx"), tmp_path / "model.onnx")
    assert result.verification.passed
    assert (result.opset, result.route[-1]) == (18, "dynamo-exporter")
    assert "comes out wrong" in result.opset_reason


class _Ignoring(torch.nn.Module):
    def forward(self, mask, x, ids):
        return x * 2


def test_an_input_that_no_result_depends_on_stays_one(tmp_path):
    example = (torch.ones(2, 3, dtype=torch.bool), torch.ones(2, 4), torch.ones(2, 5, dtype=torch.int64))
    batch = torch.export.Dim("batch")
    program = torch.export.export(_Ignoring(), example, dynamic_shapes=tuple({0: batch} for _ in example))
    torch.export.save(program, tmp_path / "m.pt2")
    hub = import_file(tmp_path / "m.pt2", tmp_path / "hub", network_script=None)
    result = export(hub, ExportJob("model.onnx"), tmp_path / "model.onnx")
    assert result.route == ["export_onnx", "torchscript-exporter"] and result.verification.passed
    inputs = onnx.load(tmp_path / "model.onnx").graph.input
    kinds = [(value.name, value.type.tensor_type.elem_type) for value in inputs]
    assert kinds == [("mask", onnx.TensorProto.BOOL), ("x", onnx.TensorProto.FLOAT), ("ids", onnx.TensorProto.INT64)]
