"""The ONNX exporter's opsets: 10 unless the model needs more or the user asks for another, and never one that is not said."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import tensorflow as tf
from export_onnx import export_model
from onnx import numpy_helper
from onnx_export_hub import convert, make_net_hub, spec
from tf_hub import dense, make_hub

from converter.contracts import ExportJob
from converter.errors import UnsupportedError
from converter.hub.hub import Hub
from converter.verification.verify import Tolerance


@pytest.fixture(scope="module")
def net_hub(tmp_path_factory) -> Hub:
    return make_net_hub(tmp_path_factory.mktemp("net"))


def test_an_operator_that_needs_a_higher_opset_raises_it_without_trials(tmp_path, monkeypatch):
    import converter.tf.onnx.export as module

    tried = []
    original = module.convert_graph
    monkeypatch.setattr(
        module, "convert_graph", lambda graph, opset, tensors: tried.append(opset) or original(graph, opset, tensors)
    )
    weight = dense(np.random.default_rng(0), 8, 2, 5)
    hub = make_hub(tmp_path / "hub", lambda x: tf.einsum("btc,chd->bthd", x, weight), [spec("x", None, None, 8)], ["y"])
    result, _ = convert(hub, tmp_path / "x.onnx")
    assert result.verification.passed and result.opset == 12 and tried == [12]
    assert result.opset_reason == "the operator Einsum needs opset 12"


def test_upsampling_raises_the_opset_and_says_why(tmp_path):
    hub = make_hub(
        tmp_path / "hub", lambda x: tf.image.resize(x, tf.shape(x)[1:3] * 2), [spec("x", None, None, None, 3)], ["y"]
    )
    result, _ = convert(hub, tmp_path / "x.onnx")
    assert result.verification.passed and result.opset == 11
    assert "half_pixel_centers" in result.opset_reason


@pytest.mark.parametrize("opset", [9, 10, 13, 17])
def test_an_opset_asked_for_is_met_exactly(net_hub, tmp_path, opset):
    result, _ = convert(net_hub, tmp_path / "x.onnx", opset=opset)
    assert result.verification.passed and (result.opset, result.opset_reason) == (opset, None)


def test_a_wrong_file_at_the_default_opset_is_tried_at_higher_ones(net_hub, tmp_path, monkeypatch):
    import converter.tf.onnx.export as module

    original = module.write_model

    def spoil(model, tensors, path):
        if model.opset_import[0].version < 12:
            for tensor in model.graph.initializer:
                if not tensors.is_stand_in(tensor) and tensor.data_type == onnx.TensorProto.FLOAT:
                    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 1.05, tensor.name))
        original(model, tensors, path)

    monkeypatch.setattr(module, "write_model", spoil)
    result, _ = convert(net_hub, tmp_path / "x.onnx")
    assert result.verification.passed and result.opset == 12
    assert result.opset_reason.startswith("at opset 10 it comes out wrong: output scores differs by")
    result, _ = convert(net_hub, tmp_path / "x.onnx", opset=10)
    assert not result.verification.passed and result.opset == 10
    assert "set onnx_opset to 12" in result.verification.message


def test_a_file_that_is_wrong_at_every_opset_is_kept_with_its_verdict(net_hub, tmp_path):
    result, _ = convert(net_hub, tmp_path / "x.onnx", tolerance=Tolerance(rtol=0.0, atol=0.0))
    assert not result.verification.passed and 10 <= result.opset <= 18


@pytest.mark.parametrize(
    ("opset", "words"),
    [
        (10, "the operator Einsum needs opset 12: set onnx_opset to 12"),
        (5, "only 7 to 18"),
        (30, "only 7 to 18"),
    ],
)
def test_an_opset_that_cannot_express_the_model_is_refused(tmp_path, opset, words):
    weight = dense(np.random.default_rng(0), 8, 2, 5)
    hub = make_hub(tmp_path / "hub", lambda x: tf.einsum("btc,chd->bthd", x, weight), [spec("x", None, 3, 8)], ["y"])
    with pytest.raises(UnsupportedError, match=words):
        export_model(hub, ExportJob("converted/x.onnx", onnx_opset=opset), tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()


def test_an_opset_that_a_handler_refuses_names_the_one_that_would_do(tmp_path):
    hub = make_hub(tmp_path / "hub", lambda x: tf.image.resize(x, [9, 11]), [spec("x", None, 4, 5, 3)], ["y"])
    with pytest.raises(UnsupportedError, match="half_pixel_centers.*set onnx_opset to 11"):
        export_model(hub, ExportJob("converted/x.onnx", onnx_opset=10), tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()
