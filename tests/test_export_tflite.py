"""The TensorFlow Lite exporter, float32: signature, dynamic shapes, dtypes, refusals, reproducibility."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from export_tflite import export_model
from tf_hub import dense, make_hub, perturb

from converter.contracts import ExportJob, ExportResult
from converter.errors import UnsupportedError
from converter.hub.hub import Hub
from converter.tflite.flatbuffer import operators, read

ROOT = Path(__file__).resolve().parent.parent


def convert(hub: Hub, path: Path, **quantization) -> ExportResult:
    return export_model(hub, ExportJob("converted/x.tflite", quantization=quantization), path)


def names(specs) -> list[str]:
    return [spec.name for spec in specs]


def operator_names(path: Path) -> list[str]:
    return [name for _, _, name in operators(read(path.read_bytes()))]


class Net(tf.Module):
    """A small image classifier (N, 8, 8, 3) -> (N, 5), with batch normalization."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.first, self.second, self.last = dense(rng, 3, 3, 3, 16), dense(rng, 3, 3, 16, 32), dense(rng, 32, 5)
        self.scale = tf.Variable(rng.uniform(0.5, 2, 16).astype(np.float32))

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        zeros = tf.zeros(16)
        x = tf.nn.conv2d(x, self.first, 1, "SAME")
        x = tf.compat.v1.nn.fused_batch_norm(x, self.scale, zeros, zeros, zeros + 1, is_training=False)[0]
        x = tf.nn.relu(tf.nn.conv2d(tf.nn.relu(x), self.second, 2, "SAME"))
        return tf.nn.softmax(tf.reduce_mean(x, [1, 2]) @ self.last)


@pytest.fixture(scope="module")
def net_hub(tmp_path_factory) -> Hub:
    return make_hub(tmp_path_factory.mktemp("net"), Net(), [tf.TensorSpec([None, 8, 8, 3], tf.float32, "image")], ["p"])


def test_a_network_comes_out_verified_with_its_names_and_a_dynamic_batch(net_hub, tmp_path):
    result = convert(net_hub, tmp_path / "x.tflite")
    assert result.verification.passed and result.verification.samples == 4
    assert not result.verification.weak_evidence
    assert result.route == ["export_tflite"] and result.notes == []
    assert [(s.name, s.shape, s.dtype) for s in result.inputs] == [("image", (None, 8, 8, 3), "float32")]
    assert [(s.name, s.shape, s.dtype) for s in result.outputs] == [("p", (None, 5), "float32")]
    interpreter = Interpreter(model_path=str(tmp_path / "x.tflite"))
    assert interpreter.get_signature_list() == {"serving_default": {"inputs": ["image"], "outputs": ["p"]}}
    runner = interpreter.get_signature_runner("serving_default")
    run = net_hub.reference()[1]
    np.testing.assert_allclose(runner(image=run.inputs[0])["p"], run.outputs[0], atol=1e-6)


def test_batch_norm_is_folded_as_the_official_route_does(net_hub, tmp_path):
    convert(net_hub, tmp_path / "x.tflite")
    assert operator_names(tmp_path / "x.tflite") == ["CONV_2D", "CONV_2D", "MEAN", "FULLY_CONNECTED", "SOFTMAX"]


@pytest.mark.parametrize("position", [0, 1, 2, 3])
def test_a_weight_off_by_one_percent_fails_verification(tmp_path, position):
    hub = make_hub(tmp_path / "hub", Net(), [tf.TensorSpec([None, 8, 8, 3], tf.float32, "image")], ["p"])
    perturb(hub, hub.extra["variables"][position])
    result = convert(hub, tmp_path / "x.tflite")
    assert not result.verification.passed and "output p differs by" in result.verification.message


def test_several_inputs_and_outputs_keep_their_order(tmp_path):
    def function(zulu, alpha, flag):
        y = tf.nn.relu(zulu)
        top = tf.math.top_k(zulu, 2)
        return y, y, zulu, tf.cast(alpha, tf.float32) + y, tf.where(flag, y, -y), top.indices

    specs = [
        tf.TensorSpec([None, 4], tf.float32, "zulu"),
        tf.TensorSpec([None, 4], tf.int32, "alpha"),
        tf.TensorSpec([None, 4], tf.bool, "flag"),
    ]
    outputs = ["z", "twin", "passed_through", "sum", "either", "best"]
    hub = make_hub(tmp_path / "hub", function, specs, outputs)
    result = convert(hub, tmp_path / "x.tflite")
    assert result.verification.passed
    assert names(result.inputs) == ["zulu", "alpha", "flag"] and names(result.outputs) == outputs
    assert [s.dtype for s in result.inputs] == ["float32", "int32", "bool"]
    model = read((tmp_path / "x.tflite").read_bytes())
    signature = model.signatureDefs[0]
    for entries, indices in (
        (signature.inputs, model.subgraphs[0].inputs),
        (signature.outputs, model.subgraphs[0].outputs),
    ):
        assert [entry.tensorIndex for entry in entries] == list(indices)
    assert [entry.name.decode() for entry in signature.outputs] == outputs


def test_an_unused_input_is_still_an_input(tmp_path):
    specs = [tf.TensorSpec([None], tf.int32, "unused"), tf.TensorSpec([None, 4], tf.float32, "x")]
    hub = make_hub(tmp_path / "hub", lambda unused, x: tf.tanh(x), specs, ["y"])
    result = convert(hub, tmp_path / "x.tflite")
    assert result.verification.passed and names(result.inputs) == ["unused", "x"]


def test_unknown_height_and_width_stay_unknown(tmp_path):
    rng = np.random.default_rng(0)
    kernel = dense(rng, 3, 3, 2, 3)

    def function(image):
        x, size = tf.cast(image, tf.float32) / 255, tf.shape(image)
        up = tf.nn.conv2d_transpose(x, kernel, [size[0], 2 * size[1], 2 * size[2], 2], 2)
        return up, tf.image.resize(x, 3 * size[1:3])

    hub = make_hub(tmp_path / "hub", function, [tf.TensorSpec([None, None, None, 3], tf.uint8, "image")], ["up", "big"])
    sizes = {run.inputs[0].shape for run in hub.reference() if run.kind == "typical"}
    assert len({size[1:] for size in sizes}) == 2  # the reference does vary them
    result = convert(hub, tmp_path / "x.tflite")
    assert result.verification.passed
    assert (result.inputs[0].shape, result.inputs[0].dtype) == ((None, None, None, 3), "uint8")


def test_a_fixed_batch_stays_fixed(tmp_path):
    spec = tf.TensorSpec([2, 3], tf.float32, "x")
    hub = make_hub(tmp_path / "hub", lambda x: tf.tanh(x), [spec], ["y"], batch_dynamic=False)
    result = convert(hub, tmp_path / "x.tflite")
    assert result.verification.passed and result.inputs[0].shape == (2, 3)


def test_infinite_constants_stay_infinite(tmp_path):
    hub = make_hub(
        tmp_path / "hub",
        lambda x: tf.where(x > 0, x, -np.inf),
        [tf.TensorSpec([None, 4], tf.float32, "x")],
        ["y"],
    )
    assert convert(hub, tmp_path / "x.tflite").verification.passed


REFUSED = {
    "MaxPool3D": (lambda x: tf.nn.max_pool3d(tf.reshape(x, [-1, 2, 2, 2, 1]), 2, 2, "SAME"), tf.float32),
    "AddV2 (float64)": (lambda x: x + x, tf.float64),
    "input x takes strings": (tf.strings.length, tf.string),
    "input x is bfloat16": (lambda x: tf.cast(x, tf.float32), tf.bfloat16),
}


@pytest.mark.parametrize("expected", REFUSED)
def test_what_tflite_cannot_express_is_a_sentence_with_a_way_out(tmp_path, expected):
    function, dtype = REFUSED[expected]
    hub = make_hub(tmp_path / "hub", function, [tf.TensorSpec([None, 8], dtype, "x")], ["y"])
    with pytest.raises(UnsupportedError) as caught:
        convert(hub, tmp_path / "x.tflite")
    message = str(caught.value)
    assert expected in message and "ask for a" in message and "\n" not in message


def test_an_operator_that_select_tf_lacks_too(tmp_path):
    hub = make_hub(tmp_path / "hub", tf.math.erfinv, [tf.TensorSpec([None, 8], tf.float32, "x")], ["y"])
    for opsset in ("tflite", "tf"):
        with pytest.raises(UnsupportedError, match="Erfinv.*ask for an .onnx"):
            convert(hub, tmp_path / "x.tflite", opsset=opsset)


def test_select_tf_only_on_request(tmp_path):
    function, _ = REFUSED["MaxPool3D"]
    hub = make_hub(tmp_path / "hub", function, [tf.TensorSpec([None, 8], tf.float32, "x")], ["y"])
    with pytest.raises(UnsupportedError, match="quantization.opsset tf"):
        convert(hub, tmp_path / "x.tflite", opsset="tflite")
    result = convert(hub, tmp_path / "x.tflite", opsset="tf")
    assert result.verification.passed and "FlexMaxPool3D" in operator_names(tmp_path / "x.tflite")
    assert names(result.inputs) == ["x"] and result.inputs[0].shape == (None, 8)


def test_opsset_tf_takes_no_select_tf_operator_that_is_not_needed(net_hub, tmp_path):
    result = convert(net_hub, tmp_path / "x.tflite", opsset="tf")
    assert result.verification.passed
    assert not any(name.startswith("Flex") for name in operator_names(tmp_path / "x.tflite"))


def test_constants_are_aligned_and_a_rewritten_file_is_the_same(net_hub, tmp_path):
    from converter.tflite.flatbuffer import write

    convert(net_hub, tmp_path / "x.tflite")
    data = (tmp_path / "x.tflite").read_bytes()
    model = read(data)
    base = np.frombuffer(data, np.uint8).__array_interface__["data"][0]
    starts = [b.data.__array_interface__["data"][0] - base for b in model.buffers if b.data is not None and len(b.data)]
    assert starts and all(start % 16 == 0 for start in starts)
    write(tmp_path / "y.tflite", model)
    assert (tmp_path / "y.tflite").read_bytes() == data


def test_same_hub_same_bytes_in_another_process(net_hub, tmp_path):
    convert(net_hub, tmp_path / "here.tflite")
    command = [sys.executable, ROOT / "scripts/export_tflite.py", net_hub.path, tmp_path / "there.tflite"]
    command += ["--report", tmp_path / "report.json", "--target", "converted/x.tflite"]
    subprocess.run(
        command, check=True, env={"PYTHONHASHSEED": "7", "PATH": "", "CUDA_VISIBLE_DEVICES": ""}, capture_output=True
    )
    assert (tmp_path / "there.tflite").read_bytes() == (tmp_path / "here.tflite").read_bytes()
