"""quantization.keep_float: layers by their names, left in float in every kind of file, and what that gains."""

from __future__ import annotations

from pathlib import Path

import pytest
from export_tflite import export_model
from quantized_models import blocks, images

from converter.contracts import ExportJob, ExportResult
from converter.errors import ParameterError
from converter.hub.hub import Hub
from converter.quantization.layers import Layer, _names, chosen
from converter.quantization.tflite.layers import layers
from converter.tflite.flatbuffer import TENSOR_DTYPES, operators, read

FUSED = "net_1/relu_1/Relu;net_1/norm_1/add;net_1/block2/conv_1/convolution"


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory) -> Hub:
    return blocks(tmp_path_factory.mktemp("spoilt"), "second")


@pytest.fixture(scope="module")
def load(tmp_path_factory) -> Path:
    return images(tmp_path_factory.mktemp("data") / "images.npz")


def convert(hub: Hub, path: Path, **block) -> ExportResult:
    quantization = {"optimization": "default", "opsset": "tflite", **block}
    return export_model(hub, ExportJob("converted/x.tflite", quantization=quantization), path)


def weight_types(path: Path) -> dict[str, str]:
    """Of the file's layers with weights, by the part of their name that the network gave: what the weights come from."""
    model, found = read(path.read_bytes()), {}
    for subgraph, operator, name in operators(model):
        if name in ("CONV_2D", "FULLY_CONNECTED"):
            result = subgraph.tensors[operator.outputs[0]].name.decode()
            part = next(part for part in ("first", "second", "third", "head", "scores") if part in result)
            weights = operator.inputs[1]
            unfolded = [o for s, o, n in operators(model) if n == "DEQUANTIZE" and o.outputs[0] == weights]
            tensor = subgraph.tensors[unfolded[0].inputs[0] if unfolded else weights]
            found["head" if part == "scores" else part] = TENSOR_DTYPES[tensor.type]
    return found


KINDS = {
    "float16": ({"type": "float16"}, "float16"),
    "dynamic": ({"type": "float32"}, "int8"),
    "int8": ({"type": "int8", "load": True}, "int8"),
    "uint8": ({"type": "uint8", "load": True}, "int8"),
    "integer": ({"type": "float32", "load": True}, "int8"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_stays_float_in_every_kind_of_file_and_the_report_says_so(spoilt, load, tmp_path, kind):
    block, stored = KINDS[kind]
    block = {**block, "load": str(load)} if "load" in block else block
    thresholds = {"cosine": 0.0, "sqnr": 0.0, "top1": 0.0}
    without = convert(spoilt, tmp_path / "without.tflite", **block, thresholds=thresholds)
    kept = convert(spoilt, tmp_path / "x.tflite", **block, keep_float=["second"])
    weights = weight_types(tmp_path / "without.tflite")
    assert set(weights) == {"first", "second", "third", "head"}
    assert weights["second"] == stored
    assert weight_types(tmp_path / "x.tflite") == {**weights, "second": "float32"}
    (name,) = kept.metadata["quantization"]["kept_float"]
    assert "second" in name and without.metadata["quantization"]["kept_float"] == []
    if kind != "float16":  # whose range holds the weights
        before, after = (result.verification.outputs[0]["sqnr_db"] for result in (without, kept))
        assert before < 12 and after > before + 8
        assert kept.verification.passed


def test_types_of_operators(spoilt, load, tmp_path):
    result = convert(spoilt, tmp_path / "x.tflite", type="int8", load=str(load), keep_float=["CONV_2D"])
    assert len(result.metadata["quantization"]["kept_float"]) == 3
    assert result.metadata["quantization"]["float_operators"]["CONV_2D"] == 3
    assert result.inputs[0].dtype == result.outputs[0].dtype == "int8"


def test_a_name_that_no_layer_has(spoilt, load, tmp_path):
    with pytest.raises(ParameterError, match="no layer and no operator type 'secnd'.*did you mean .*second"):
        convert(spoilt, tmp_path / "x.tflite", type="int8", load=str(load), keep_float=["secnd"])
    with pytest.raises(ParameterError, match="its types are CONV_2D, FULLY_CONNECTED, MEAN"):
        convert(spoilt, tmp_path / "x.tflite", type="float16", keep_float=["zzzzzzz"])


def test_integer_kernels_only_and_float_layers_contradict(spoilt, load, tmp_path):
    with pytest.raises(ParameterError, match="opsset int8.*keep_float.*write opsset tflite"):
        convert(spoilt, tmp_path / "x.tflite", type="int8", opsset="int8", load=str(load), keep_float=["second"])


def test_a_float_file_has_nothing_to_keep(spoilt, tmp_path):
    block = {"optimization": "none", "type": "float32", "keep_float": ["second"]}
    result = export_model(spoilt, ExportJob("converted/x.tflite", quantization=block), tmp_path / "x.tflite")
    assert "quantization.keep_float is not used for float32" in result.notes


@pytest.mark.parametrize("entry", [FUSED, "net_1/norm_1/add", "relu_1/Relu", "block2", "block2/conv_1", "CONV_2D"])
def test_names_of_fused_layers(entry):
    assert _names(entry, Layer(FUSED, "CONV_2D"))


@pytest.mark.parametrize("entry", ["relu_1/norm_1", "block", "conv", "relu", "add;net_1", "CONV", "lock2/conv_1"])
def test_parts_that_are_no_names(entry):
    assert not _names(entry, Layer(FUSED, "CONV_2D"))
    assert _names("block2/conv", Layer(FUSED, "CONV_2D"), without_counter=True)


def test_layers_are_listed_in_order_of_execution(spoilt, tmp_path):
    export_model(spoilt, ExportJob("converted/x.tflite"), tmp_path / "x.tflite")
    model = read((tmp_path / "x.tflite").read_bytes())
    assert [layer.type for layer in layers(model)] == ["CONV_2D"] * 3 + ["MEAN", "FULLY_CONNECTED"]
    assert [layer.type for layer in chosen(layers(model), ["FULLY_CONNECTED", "first"])] == [
        "CONV_2D",
        "FULLY_CONNECTED",
    ]
