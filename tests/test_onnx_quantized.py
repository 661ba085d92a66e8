"""Quantized ONNX files: what they hold, what they compute, what stays float, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from export_onnx import export_model
from onnx import TensorProto, helper, numpy_helper
from onnx_models import info, model_of, random
from onnx_quantized import classifier, convert, data, held, hub_of, runs

from converter.contracts import ExportJob
from converter.errors import ParameterError, UnsupportedError
from converter.hub.hub import Hub

# Weights of two dimensions and more: 1728, 1600, 3072, 17600, 1200.
WEIGHTS = 1728 + 1600 + 3072 + 17600 + 1200
PRODUCTS = 17600 + 1200
KINDS = {
    "float16": ({"dtype": "float16"}, {"float16": WEIGHTS}, 17),
    "dynamic": ({"dtype": "float32"}, {"uint8": WEIGHTS - PRODUCTS, "int8": PRODUCTS}, 17),
    "int8": ({"dtype": "int8", "load": True}, {"int8": WEIGHTS}, 17),
    "uint8": ({"dtype": "uint8", "load": True}, {"int8": WEIGHTS}, 17),
    "integer": ({"dtype": "float32", "load": True}, {"int8": WEIGHTS}, 17),
    "int4": ({"dtype": "int4"}, {"int4": PRODUCTS, "float": WEIGHTS - PRODUCTS}, 21),
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory) -> Hub:
    return hub_of(classifier(), tmp_path_factory.mktemp("classifier"))


@pytest.fixture(scope="module")
def load(tmp_path_factory) -> Path:
    return data(tmp_path_factory.mktemp("data") / "data.npz")


def block_of(kind: str, load: Path) -> dict:
    block = KINDS[kind][0]
    return {**block, "load": str(load)} if "load" in block else block


@pytest.mark.parametrize("kind", KINDS)
def test_weights_operators_and_numbers(hub, load, tmp_path, kind):
    result = convert(hub, tmp_path / "x.onnx", **block_of(kind, load))
    _, stored, opset = KINDS[kind]
    assert result.verification.passed and result.verification.samples >= 4
    assert held(tmp_path / "x.onnx") == stored
    model = onnx.load(tmp_path / "x.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == opset == result.opset
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
    assert [spec.name for spec in result.inputs] == ["image", "vector"]
    # Not the float file by another name: its numbers differ, by little, and from sample to sample.
    arrays = random(5, 3, 12, 12, seed=8, scale=1.0), random(5, 40, seed=9, scale=1.0)
    before, after = runs(hub.path.parent / "source.onnx", *arrays)[0], runs(tmp_path / "x.onnx", *arrays)[0]
    assert 0 < np.abs(after - before).max() < 0.25 * np.abs(before).max()
    assert after.std(axis=0).min() > 0
    described = result.metadata["quantization"]
    if kind in ("int8", "uint8", "integer"):
        assert described["float_operators"] == {} and described["calibration_samples"] == 48
        assert "held out" in described["evaluated_on"] and result.verification.samples == 12
        name = "int8" if kind == "integer" else kind
        assert described["kind"] == f"{name}, float in and out"


@pytest.mark.parametrize("activations", ["int8", "uint8"])
def test_scales_are_per_channel_and_activations_of_the_files_type(hub, load, tmp_path, activations):
    convert(hub, tmp_path / "x.onnx", dtype=activations, load=str(load))
    graph = onnx.load(tmp_path / "x.onnx").graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    channels = {}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in tensors:
            channels[tuple(tensors[node.input[0]].dims)] = list(tensors[node.input[1]].dims)
        elif node.op_type == "QuantizeLinear":
            expected = TensorProto.INT8 if activations == "int8" else TensorProto.UINT8
            assert tensors[node.input[2]].data_type == expected
    assert channels[64, 3, 3, 3] == [64] and channels[64, 1, 5, 5] == [64] and channels[200, 88] == [200]


@pytest.mark.parametrize("kind", ["dynamic", "int8"])
def test_one_scale_for_each_channel_saves_a_depthwise_convolution(tmp_path, load, kind):
    hub = hub_of(classifier(spoilt=1000.0), tmp_path)
    result = convert(hub, tmp_path / "x.onnx", **block_of(kind, load))
    assert result.verification.passed, result.verification.message


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_stays_float_in_every_kind_of_file(hub, load, tmp_path, kind):
    entries = ["scores"] if kind == "int4" else ["project"]
    size = 1200 if kind == "int4" else 3072
    result = convert(hub, tmp_path / "x.onnx", **block_of(kind, load), keep_float=entries)
    assert held(tmp_path / "x.onnx")["float"] == KINDS[kind][1].get("float", 0) + size
    assert result.metadata["quantization"]["kept_float"] == [f"net/{entries[0]}"]
    if kind in ("int8", "uint8"):
        assert result.metadata["quantization"]["float_operators"] == {"Conv": 1, "Relu": 1}
        assert any("operators left in float: Conv, Relu" in note for note in result.notes)


def test_types_of_operators_and_names_of_results(hub, load, tmp_path):
    result = convert(hub, tmp_path / "x.onnx", dtype="int8", load=str(load), keep_float=["Conv", "scores"])
    assert result.metadata["quantization"]["kept_float"] == ["net/conv1", "net/depthwise", "net/project", "net/scores"]
    assert convert(hub, tmp_path / "y.onnx", dtype="float16", keep_float=["c2"]).metadata["quantization"][
        "kept_float"
    ] == ["net/depthwise"]
    with pytest.raises(ParameterError, match="no layer and no operator type 'projecd'.*did you mean net/project"):
        convert(hub, tmp_path / "z.onnx", dtype="float16", keep_float=["projecd"])


def test_a_file_that_loses_too_much_is_inaccurate(hub, load, tmp_path):
    result = convert(hub, tmp_path / "x.onnx", dtype="int4", thresholds={"sqnr": 60.0})
    assert not result.verification.passed and "signal-to-quantization-noise ratio" in result.verification.message


def test_the_opset_that_was_asked_for(hub, load, tmp_path):
    for opset in (13, 20):
        result = convert(hub, tmp_path / f"{opset}.onnx", "int8", opset, load=str(load))
        assert result.opset == opset and result.opset_reason is None and result.verification.passed
    assert convert(hub, tmp_path / "x.onnx", "int4", 23).opset == 23


def test_an_opset_is_raised_where_none_was_asked_for_and_the_report_says_why(tmp_path, load):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "product")]
    model = model_of(nodes, [info("x", ["n", 40])], [info("y", ["n", 30])], [("w", random(40, 30))], opset=11)
    (tmp_path / "one").mkdir()
    hub = hub_of(model, tmp_path / "one")
    result = convert(hub, tmp_path / "x.onnx", "float32")
    assert (result.opset, result.opset_reason) == (13, "a .dynamic file needs opset 13")
    assert convert(hub, tmp_path / "y.onnx", "float16").opset == 11


def test_a_file_without_integer_operators_is_no_int8_file(tmp_path):
    nodes = [helper.make_node("Sin", ["x"], ["s"], "sine"), helper.make_node("Pow", ["s", "two"], ["y"], "square")]
    model = model_of(nodes, [info("x", ["n", 40])], [info("y", ["n", 40])], [("two", np.array(2, np.float32))])
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).standard_normal((20, 40)).astype(np.float32))
    hub = hub_of(model, tmp_path)
    with pytest.raises(
        UnsupportedError, match=r"no operator of the model can be computed in integers \(Pow, Sin\): ask for"
    ):
        convert(hub, tmp_path / "x.onnx", "int8", load=str(tmp_path / "x.npz"))
    (tmp_path / "conv").mkdir()
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], "conv")]
    model = model_of(nodes, [info("x", ["n", 40, 1, 1])], [info("y", ["n", 30, 1, 1])], [("w", random(30, 40, 1, 1))])
    with pytest.raises(UnsupportedError, match=r"no product with a matrix of constants .*are made for \(w\): ask for"):
        convert(hub_of(model, tmp_path / "conv"), tmp_path / "y.onnx", "int4")


def test_calibration_without_the_values_that_lie_furthest_out(tmp_path):
    """One value of two hundred thousand is a hundred times as large: minmax gives all steps to it."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "product")]
    hub = hub_of(model_of(nodes, [info("x", ["n", 256])], [info("y", ["n", 30])], [("w", random(256, 30))]), tmp_path)
    x = np.random.default_rng(0).standard_normal((1050, 256)).astype(np.float32)
    x[7, 3] = 300.0
    np.savez(tmp_path / "x.npz", x=x)
    ratios = {}
    for method in ("minmax", "percentile", "entropy"):
        thresholds = {"cosine": 0.0, "sqnr": 0.0}
        block = {"load": str(tmp_path / "x.npz"), "calibration": method, "thresholds": thresholds}
        result = convert(hub, tmp_path / f"{method}.onnx", "int8", **block)
        ratios[method] = result.verification.outputs[0]["sqnr_db"]
        assert result.metadata["quantization"]["calibration"] == method
    assert ratios["minmax"] < 15 and min(ratios["percentile"], ratios["entropy"]) > ratios["minmax"] + 6, ratios


def test_masks_beyond_all_ranges_do_not_take_the_steps_of_other_values(tmp_path):
    """Attention as exporters write it: a mask of the lowest float is added before a softmax."""
    node = helper.make_node
    nodes = [
        node("MatMul", ["x", "wq"], ["q"], "query"),
        node("MatMul", ["x", "wk"], ["k"], "key"),
        node("Transpose", ["k"], ["kt"], "turn", perm=[0, 2, 1]),
        node("MatMul", ["q", "kt"], ["s"], "scores"),
        node("Add", ["s", "mask"], ["m"], "mask"),
        node("Softmax", ["m"], ["a"], "softmax", axis=-1),
        node("MatMul", ["a", "x"], ["y"], "mix"),
    ]
    mask = np.triu(np.full((6, 6), np.finfo(np.float32).min, np.float32), 1)
    weights = [("wq", random(40, 40)), ("wk", random(40, 40, seed=4)), ("mask", mask)]
    hub = hub_of(model_of(nodes, [info("x", ["n", 6, 40])], [info("y", ["n", 6, 40])], weights), tmp_path)
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).standard_normal((50, 6, 40)).astype(np.float32))
    for dtype in ("int8", "float16"):
        result = convert(hub, tmp_path / f"{dtype}.onnx", dtype, load=str(tmp_path / "x.npz"))
        assert result.verification.passed and result.verification.outputs[0]["sqnr_db"] > 15


def test_recurrent_weights_and_tables_as_int8(tmp_path):
    node = helper.make_node
    nodes = [
        node("Gather", ["table", "ids"], ["e"], "embed"),
        node("LSTM", ["e", "w", "r"], ["", "h"], "lstm", hidden_size=16),
        node("Squeeze", ["h", "zero"], ["y"], "state"),
    ]
    weights = [("table", random(50, 24)), ("w", random(1, 64, 24)), ("r", random(1, 64, 16)), ("zero", np.array([0]))]
    model = model_of(nodes, [info("ids", [7, "n"], "int64")], [info("y", ["n", 16])], weights)
    result = convert(hub_of(model, tmp_path), tmp_path / "x.onnx", "float32")
    assert result.verification.passed and held(tmp_path / "x.onnx") == {"int8": 1200 + 1536 + 1024}


def test_four_bits_are_what_the_operator_of_onnx_unfolds(hub, tmp_path):
    convert(hub, tmp_path / "x.onnx", "int4")
    graph = onnx.load(tmp_path / "x.onnx").graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    (first, second) = [node for node in graph.node if node.op_type == "DequantizeLinear"]
    assert all(
        attribute.i == 32 for node in (first, second) for attribute in node.attribute if attribute.name == "block_size"
    )
    original = {tensor.name: numpy_helper.to_array(tensor) for tensor in classifier().graph.initializer}
    for node, name, axis in ((first, "w4", 1), (second, "w5", 0)):
        integers = numpy_helper.to_array(tensors[node.input[0]]).astype(np.float32)
        scales = numpy_helper.to_array(tensors[node.input[1]])
        assert integers.min() == -8 and integers.max() <= 7
        scale = np.take(np.repeat(scales, 32, axis=axis), range(integers.shape[axis]), axis=axis)
        # Half a step, and a whole one where 8 steps were needed and there are 7.
        assert (np.abs(integers * scale - original[name]) <= 1.001 * np.abs(scale)).all()
        assert np.abs(integers * scale - original[name]).mean() < 0.3 * np.abs(scale).mean()


def test_accuracy_on_labels_is_a_gate(tmp_path):
    """Labels are the source's own answers: it is right in all, a file that was calibrated on narrower data is not."""
    onnx.save(classifier(), tmp_path / "x.onnx")
    with np.load(data(tmp_path / "data.npz", 300)) as arrays:
        given = dict(arrays)
    labels = runs(tmp_path / "x.onnx", given["image"], given["vector"])[0].argmax(1)
    np.savez(tmp_path / "labelled.npz", **given, labels=labels)
    hub = hub_of(classifier(), tmp_path, tmp_path / "labelled.npz")
    np.savez(tmp_path / "narrow.npz", **{name: array * np.float32(0.1) for name, array in given.items()})
    block = {"optimization": "default", "type": "int8", "load": str(tmp_path / "narrow.npz")}
    block["thresholds"] = {"cosine": 0.0, "sqnr": 0.0}
    job = ExportJob("converted/x.onnx", quantization=block, reference_inputs=tmp_path / "labelled.npz")
    free = export_model(hub, job, tmp_path / "free.onnx")
    (accuracy,) = free.metadata["quantization"]["accuracy"]
    lost = accuracy["before"] - accuracy["after"]
    assert accuracy["before"] == 1.0 and 0 < lost < 0.9 and free.verification.passed
    assert export_model(hub, replace(job, accuracy_drop=lost), tmp_path / "just.onnx").verification.passed
    strict = export_model(hub, replace(job, accuracy_drop=lost / 2), tmp_path / "strict.onnx").verification
    assert (
        not strict.passed
        and "output scores has an accuracy of" in strict.message
        and "instead of 100.0%" in strict.message
    )
    without = replace(job, accuracy_drop=0.01, reference_inputs=None)
    with pytest.raises(ParameterError, match="verify.accuracy_drop needs labels"):
        export_model(hub, without, tmp_path / "without.onnx")


@pytest.mark.parametrize(
    ("alpha", "beta", "bias"), [(1.0, 2.0, (200,)), (0.5, 3.0, (1, 200)), (2.0, 1.0, (1,)), (1.0, 0.5, ())]
)
@pytest.mark.parametrize("kind", ["dynamic", "int8"])
def test_factors_and_shapes_of_what_a_gemm_adds(tmp_path, kind, alpha, beta, bias):
    """onnxruntime's quantizer (1.32) stops at some of these, and loses 20 dB at others."""
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], "gemm", transB=1, alpha=alpha, beta=beta)]
    weights = [("w", random(200, 88)), ("b", random(*bias) if bias else np.array(0.4, np.float32))]
    hub = hub_of(model_of(nodes, [info("x", ["n", 88])], [info("y", ["n", 200])], weights), tmp_path)
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).standard_normal((60, 88)).astype(np.float32))
    result = convert(hub, tmp_path / "x.onnx", **block_of(kind, tmp_path / "x.npz"))
    assert result.verification.outputs[0]["sqnr_db"] > 30


def test_what_a_gemm_adds_that_is_no_row_stays_float(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["x", "v"], ["h"], "first"),
        helper.make_node("Gemm", ["h", "w", "h"], ["y"], "gemm"),
        helper.make_node("Relu", ["y"], ["z"], "relu"),
    ]
    weights = [("w", random(40, 40)), ("v", random(40, 40, seed=3))]
    hub = hub_of(model_of(nodes, [info("x", ["n", 40])], [info("z", ["n", 40])], weights), tmp_path)
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).standard_normal((60, 40)).astype(np.float32))
    result = convert(hub, tmp_path / "x.onnx", "int8", load=str(tmp_path / "x.npz"))
    assert result.verification.passed and result.metadata["quantization"]["float_operators"] == {"Gemm": 1, "Relu": 1}
