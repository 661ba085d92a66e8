"""ONNX models of half precision: the same arithmetic in float32, in every target."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from import_onnx import import_model
from onnx import TensorProto
from onnx_models import convnet

from converter.contracts import ExportJob, ImportSpec
from converter.hub.hub import Hub
from converter.onnx.export import export as export_onnx
from converter.onnx.precision import in_float32
from converter.onnx_to_torch.exports import export_keras, export_tflite
from converter.verification.runtimes import OnnxModel, TFLiteModel


def halved(model: onnx.ModelProto, kind: int = TensorProto.FLOAT16) -> onnx.ModelProto:
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor).astype(onnx.helper.tensor_dtype_to_np_dtype(kind))
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    for entry in (*model.graph.input, *model.graph.output):
        entry.type.tensor_type.elem_type = kind
    return model


@pytest.fixture
def hub(tmp_path):
    source, out = tmp_path / "half.onnx", tmp_path / "hub"
    onnx.save(halved(convnet()), source)
    out.mkdir()
    made = import_model(ImportSpec(source, "onnx"), out)
    made.source = {"path": str(source), "sha256": "0" * 64}
    made.write()
    return Hub.read(out)


def test_float32_files_compute_with_the_rounded_weights(tmp_path, hub):
    assert hub.inputs[0].dtype == "float16"
    result = export_tflite(hub, ExportJob("x.tflite"), tmp_path / "x.tflite")
    assert result.verification.passed and "computed in float32" in result.decisions
    assert any("its float16 is computed with in float32" in note for note in result.notes)
    x = np.random.default_rng(1).standard_normal((2, 16, 16, 3)).astype(np.float32)
    wide = onnx.load(hub.path / "model.onnx")
    assert in_float32(wide) == ["float16"]
    onnx.save(wide, tmp_path / "wide.onnx")
    expected = OnnxModel(tmp_path / "wide.onnx").run([x.transpose(0, 3, 1, 2)])[0]
    np.testing.assert_allclose(TFLiteModel(tmp_path / "x.tflite").run([x])[0], expected, rtol=1e-4, atol=1e-5)
    assert export_keras(hub, ExportJob("x.keras"), tmp_path / "x.keras").verification.passed


def test_another_opset_stays_of_half_precision(tmp_path, hub):
    result = export_onnx(hub, ExportJob("x.onnx", onnx_opset=13), tmp_path / "x.onnx")
    assert result.verification.passed
    assert onnx.load(tmp_path / "x.onnx").graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT16


def test_casts_and_types_in_branches_become_float32_too():
    model = halved(convnet(), TensorProto.BFLOAT16)
    model.graph.node.append(onnx.helper.make_node("Cast", ["y"], ["z"], to=TensorProto.BFLOAT16))
    assert in_float32(model) == ["bfloat16"] and in_float32(model) == []
    assert model.graph.node[-1].attribute[0].i == TensorProto.FLOAT
