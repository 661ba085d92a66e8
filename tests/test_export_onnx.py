"""The ONNX exporter: names, order, dtypes, dynamic shapes, weights, reproducibility."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from export_onnx import export_model
from onnx_export_hub import Net, convert, dims, make_net_hub, operators, spec
from tf_hub import dense, make_hub, perturb

from converter.contracts import ExportJob
from converter.errors import UnsupportedError
from converter.hub.hub import Hub

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def net_hub(tmp_path_factory) -> Hub:
    return make_net_hub(tmp_path_factory.mktemp("net"))


def test_a_network_keeps_names_layout_and_dynamic_batch(net_hub, tmp_path):
    result, model = convert(net_hub, tmp_path / "x.onnx")
    assert result.verification.passed and result.verification.samples == 4
    assert result.route == ["export_onnx"] and (result.opset, result.opset_reason) == (10, None)
    (image,), (scores,) = model.graph.input, model.graph.output
    assert (image.name, dims(image)) == ("image", ["batch", 8, 8, 3])
    assert (scores.name, dims(scores)) == ("scores", ["batch", 5])
    assert model.ir_version == 5  # of opset 10: runtimes of that time read it
    session = onnxruntime.InferenceSession(tmp_path / "x.onnx")
    assert session.run(None, {"image": np.zeros((7, 8, 8, 3), np.float32)})[0].shape == (7, 5)


def test_weights_are_folded_into_the_convolutions(net_hub, tmp_path):
    _, model = convert(net_hub, tmp_path / "x.onnx")
    assert operators(model).count("Transpose") == 1  # the input, which stays channels-last
    assert "BatchNormalization" not in operators(model) and "Mul" not in operators(model)
    shapes = [tuple(tensor.dims) for tensor in model.graph.initializer]
    assert (96, 32, 3, 3) in shapes and (64, 96, 3, 3) in shapes and (32, 3, 3, 3) in shapes


def test_the_graph_is_as_small_as_that_of_tf2onnx_alone(net_hub, tmp_path):
    import tf2onnx.convert

    _, model = convert(net_hub, tmp_path / "x.onnx")
    net = Net()
    function = tf.function(lambda image: net(image), input_signature=[spec("image", None, 8, 8, 3)])
    plain, _ = tf2onnx.convert.from_function(function, [spec("image", None, 8, 8, 3)], opset=10)
    assert sorted(operators(model)) == sorted(operators(plain))


def test_a_scalar_or_a_row_added_to_a_convolution_leaves_no_transposes_behind(tmp_path):
    """tf2onnx alone fails on the scalar, and takes the row, of as many entries as there are channels, for a bias."""
    rng = np.random.default_rng(0)
    first, second, row = (
        dense(rng, 3, 3, 3, 8),
        dense(rng, 3, 3, 8, 8),
        rng.standard_normal((1, 8, 1)).astype(np.float32),
    )

    def model(image):
        x = tf.nn.relu(tf.nn.conv2d(image, first, 1, "SAME") + 0.25)
        return tf.reduce_mean(tf.nn.conv2d(x, second, 1, "SAME") + row, [1, 2])

    hub = make_hub(tmp_path / "hub", model, [spec("image", None, 8, 8, 3)], ["y"])
    result, written = convert(hub, tmp_path / "x.onnx")
    assert result.verification.passed and result.opset == 10
    assert operators(written).count("Transpose") == 1


def test_metadata_names_the_source_and_the_versions(net_hub, tmp_path):
    _, model = convert(net_hub, tmp_path / "x.onnx")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert list(metadata) == ["converter.source_sha256", "converter.versions"]
    assert metadata["converter.source_sha256"] == "ab" * 32
    versions = json.loads(metadata["converter.versions"])
    assert list(versions) == sorted(versions) and versions["zlib"] == "1" and "tf2onnx" in versions


@pytest.mark.parametrize("position", [0, 1, 3])
def test_a_perturbed_weight_is_noticed(net_hub, tmp_path, position):
    """By 1 %: an early, a middle and the last layer."""
    name = net_hub.extra["variables"][position]
    hub = Hub.read(net_hub.path)
    original = (hub.path / "weights.safetensors").read_bytes()
    perturb(hub, name)
    try:
        result, _ = convert(hub, tmp_path / "x.onnx", opset=10)
    finally:
        (hub.path / "weights.safetensors").write_bytes(original)
    assert not result.verification.passed


def test_the_same_hub_gives_the_same_bytes_in_every_process(net_hub, tmp_path):
    convert(net_hub, tmp_path / "here.onnx")
    command = [sys.executable, ROOT / "scripts/export_onnx.py", net_hub.path, tmp_path / "there.onnx"]
    command += ["--report", tmp_path / "report.json", "--target", "converted/x.onnx"]
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True)
    assert json.loads((tmp_path / "report.json").read_text())["status"] == "verified"
    assert (tmp_path / "there.onnx").read_bytes() == (tmp_path / "here.onnx").read_bytes()
    convert(net_hub, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "here.onnx").read_bytes()


def test_outputs_that_are_inputs_weights_or_each_other(tmp_path):
    weight = dense(np.random.default_rng(0), 150, 150)

    def model(x):
        y = x @ weight
        return x, y, y, weight.read_value(), tf.nn.relu(y)

    names = ["same", "first", "second", "weight", "rectified"]
    hub = make_hub(tmp_path / "hub", model, [spec("x", None, 150)], names)
    result, written = convert(hub, tmp_path / "x.onnx")
    assert result.verification.passed
    assert [value.name for value in written.graph.output] == names
    assert dims(written.graph.output[3]) == [150, 150]


def test_an_output_of_the_same_name_as_an_input_is_renamed_and_reported(tmp_path):
    hub = make_hub(tmp_path / "hub", lambda x: x * 3.0, [spec("x", None, 4)], ["x"])
    result, written = convert(hub, tmp_path / "x.onnx")
    assert result.verification.passed
    assert [value.name for value in written.graph.output] == ["x_output"] == [entry.name for entry in result.outputs]
    assert "x_output" in result.notes[0]


def test_inner_tensors_give_way_to_names_of_inputs_and_outputs(tmp_path):
    def model(x):
        y = tf.identity(tf.nn.relu(x, name="scores") * 2.0, name="wanted")
        return tf.nn.relu(y - 1.0, name="inner")

    hub = make_hub(tmp_path / "hub", model, [spec("image", None, 4)], ["scores"])
    result, written = convert(hub, tmp_path / "x.onnx")
    assert result.verification.passed
    names = [name for node in written.graph.node for name in node.output]
    assert len(names) == len(set(names))


def test_several_inputs_keep_order_and_dtype_even_when_unused(tmp_path):
    def model(flags, counts, unused, image):
        image = tf.cast(image, tf.float32) / 255.0
        return tf.where(flags, tf.cast(counts, tf.float32), image), tf.reduce_any(flags, -1), tf.reduce_sum(counts, -1)

    specs = [spec("flags", None, 5, dtype=tf.bool), spec("counts", None, 5, dtype=tf.int64)]
    specs += [spec("unused", None, 2, dtype=tf.int32), spec("image", None, 5, dtype=tf.uint8)]
    hub = make_hub(tmp_path / "hub", model, specs, ["z", "any", "a"])
    result, written = convert(hub, tmp_path / "x.onnx")
    assert result.verification.passed
    kinds = [(value.name, value.type.tensor_type.elem_type) for value in written.graph.input]
    proto = onnx.TensorProto
    assert kinds == [("flags", proto.BOOL), ("counts", proto.INT64), ("unused", proto.INT32), ("image", proto.UINT8)]
    assert [value.name for value in written.graph.output] == ["z", "any", "a"]


def test_strings_pass_through(tmp_path):
    hub = make_hub(tmp_path / "hub", lambda x: tf.reshape(x, [-1, 2]), [spec("x", None, 4, dtype=tf.string)], ["y"])
    assert convert(hub, tmp_path / "x.onnx")[0].verification.passed


def test_an_output_that_does_not_follow_the_batch_is_not_called_so(tmp_path):
    hub = make_hub(tmp_path / "hub", lambda x: tf.reshape(x, [-1, 2]), [spec("x", None, 4)], ["y"])
    _, written = convert(hub, tmp_path / "x.onnx")
    assert dims(written.graph.input[0]) == ["batch", 4]
    assert dims(written.graph.output[0])[0] not in ("batch", 4)


def test_dynamic_height_and_width(tmp_path):
    rng = np.random.default_rng(0)
    down, up = dense(rng, 3, 3, 3, 16), dense(rng, 3, 3, 24, 16)

    def model(image):
        x = tf.nn.relu(tf.nn.conv2d(image, down, 2, "SAME"))
        size = tf.shape(image)
        return tf.nn.conv2d_transpose(x, up, [size[0], size[1], size[2], 24], 2, "SAME")

    hub = make_hub(tmp_path / "hub", model, [spec("image", None, None, None, 3)], ["map"])
    assert len({run.inputs[0].shape[1] for run in hub.reference()}) > 1
    result, written = convert(hub, tmp_path / "x.onnx")
    assert result.verification.passed
    assert dims(written.graph.input[0]) == ["batch", "unk__1", "unk__2", 3]


def test_what_is_computed_from_large_weights_alone_is_folded(tmp_path):
    """A weight-standardized convolution, and a product with a slice of a weight."""
    rng = np.random.default_rng(0)
    kernel, table = dense(rng, 64, 3, 3, 40), dense(rng, 200, 400)

    def model(image):
        w = tf.transpose(kernel, [1, 2, 0, 3])
        w = (w - tf.reduce_mean(w, [0, 1, 2])) / tf.math.reduce_std(w, [0, 1, 2])
        left, right = tf.split(table, 2, axis=1)
        flat = tf.reshape(image, [-1, 200])
        return tf.nn.conv2d(image, w, 1, "SAME"), flat @ left + flat @ tf.transpose(right)

    hub = make_hub(tmp_path / "hub", model, [spec("image", None, 5, 10, 64)], ["a", "b"])
    result, written = convert(hub, tmp_path / "x.onnx")
    assert result.verification.passed
    allowed = {"Conv", "MatMul", "Add", "Transpose", "Reshape"}
    assert set(operators(written)) == allowed and operators(written).count("Transpose") == 2


def test_tied_and_equal_weights_are_written_once(tmp_path):
    table = dense(np.random.default_rng(0), 2000, 20)
    twin = tf.Variable(table)

    def model(ids):
        return tf.reduce_mean(tf.gather(table, ids), 1) @ tf.transpose(twin)

    hub = make_hub(tmp_path / "hub", model, [spec("ids", None, 3, dtype=tf.int32)], ["scores"])
    result, written = convert(hub, tmp_path / "x.onnx")
    assert result.verification.passed
    shapes = sorted(tuple(tensor.dims) for tensor in written.graph.initializer if len(tensor.dims) == 2)
    assert shapes == [(20, 2000), (2000, 20)]  # as it is, and transposed

    def twice(x):
        return tf.concat([x @ table, tf.nn.relu(x @ twin)], 1)

    hub = make_hub(tmp_path / "twice", twice, [spec("x", None, 2000)], ["y"])
    result, written = convert(hub, tmp_path / "x.onnx")
    assert result.verification.passed and len(written.graph.initializer) == 1


def test_composites_that_tf2onnx_does_not_know(tmp_path):
    def model(x):
        def body(i, y):
            return i + 1, tf.math.log1p(tf.abs(y)) + tf.math.erfc(x)

        return tf.while_loop(lambda i, _: i < 3, body, [tf.constant(0), x])[1] + tf.math.expm1(x)

    hub = make_hub(tmp_path / "hub", model, [spec("x", 2, 4)], ["y"], batch_dynamic=False)
    assert convert(hub, tmp_path / "x.onnx")[0].verification.passed


# What cannot be written


def test_an_operator_without_an_equivalent_is_named(tmp_path):
    hub = make_hub(tmp_path / "hub", lambda x: tf.math.lgamma(tf.abs(x) + 1.0), [spec("x", None, 4)], ["y"])
    with pytest.raises(UnsupportedError, match="Lgamma"):
        export_model(hub, ExportJob("converted/x.onnx"), tmp_path / "x.onnx")


def test_bfloat16_is_refused(tmp_path):
    def model(x):
        return tf.cast(tf.cast(x, tf.bfloat16) * tf.cast(2.0, tf.bfloat16), tf.float32)

    hub = make_hub(tmp_path / "hub", model, [spec("x", None, 4)], ["y"])
    with pytest.raises(UnsupportedError, match="bfloat16"):
        export_model(hub, ExportJob("converted/x.onnx"), tmp_path / "x.onnx")


def test_what_onnxruntime_has_no_kernel_for_is_unverified(tmp_path):
    weight = tf.Variable(np.random.default_rng(0).standard_normal((3, 3, 2, 4)))
    hub = make_hub(
        tmp_path / "hub",
        lambda x: tf.nn.conv2d(x, weight, 1, "SAME"),
        [spec("x", None, 5, 5, 2, dtype=tf.float64)],
        ["y"],
    )
    result, _ = convert(hub, tmp_path / "x.onnx")
    assert result.verification is None and "onnxruntime cannot run it" in result.unverified_reason
    assert result.opset == 10


def test_a_model_above_two_gigabytes_is_refused_before_anything_is_written(net_hub, tmp_path, monkeypatch):
    import converter.tf.onnx.file as module

    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    with pytest.raises(UnsupportedError, match="cannot exceed 2 GB"):
        export_model(net_hub, ExportJob("converted/x.onnx"), tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()


def test_a_lookup_table_outside_of_the_graph_is_named(net_hub, tmp_path):
    hub = Hub.read(net_hub.path)
    hub.extra["resources"] = ["vocabulary_table"]
    with pytest.raises(UnsupportedError, match="vocabulary_table.*input_nodes"):
        export_model(hub, ExportJob("converted/x.onnx"), tmp_path / "x.onnx")
