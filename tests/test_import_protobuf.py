"""Frozen graphs into the hub."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from imports import imported, names, no_large_constants, refused, run_graph

SCRIPT = "import_protobuf"
v1 = tf.compat.v1


def _frozen(path: Path, build) -> Path:
    with tf.Graph().as_default() as graph:
        v1.disable_control_flow_v2()
        build()
        definition = graph.as_graph_def()
    path.write_bytes(definition.SerializeToString())
    if path.suffix == ".pbtxt":
        path.write_text(str(definition))
    return path


def _weights(seed: int, *shape: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(seed).standard_normal(shape) / np.sqrt(shape[0]), tf.float32)


def _two_heads():
    x = v1.placeholder(tf.float32, [None, 64], name="x")
    count = v1.placeholder(tf.uint8, [None, 1], name="count")
    hidden = tf.tanh(x @ _weights(0, 64, 600), name="hidden")
    tf.nn.softmax(hidden @ _weights(1, 600, 5), name="scores")
    tf.math.top_k(hidden + tf.cast(count, tf.float32), 3, name="top")


@pytest.mark.parametrize("suffix", ["pb", "pbtxt"])
def test_binary_and_text(suffix, tmp_path):
    source = _frozen(tmp_path / f"m.{suffix}", _two_heads)
    hub = imported(SCRIPT, source, tmp_path / "hub", input_nodes="count:0,x", output_nodes="top:1,scores:0")
    assert names(hub.inputs) == ["count", "x"]
    assert names(hub.outputs) == ["top:1", "scores"]
    assert [spec.dtype for spec in hub.inputs] == ["uint8", "float32"]
    assert no_large_constants(hub)
    assert hub.extra["variables"] == []
    assert max(array.max() for run in hub.reference() for array in run.inputs[:1]) > 10


def test_names_are_found_in_a_graph_made_for_inference(tmp_path):
    hub = imported(SCRIPT, _frozen(tmp_path / "m.pb", _two_heads), tmp_path / "hub")
    assert names(hub.inputs) == ["x", "count"]
    assert names(hub.outputs) == ["scores", "top", "top:1"]
    assert names(hub.candidates["outputs"]) == ["scores", "top", "top:1"]


def test_only_what_the_outputs_need(tmp_path):
    hub = imported(SCRIPT, _frozen(tmp_path / "m.pb", _two_heads), tmp_path / "hub", output_nodes="hidden")
    assert names(hub.inputs) == ["x"]
    assert hub.operators == {"MatMul": 1, "Tanh": 1}
    assert [weights.shape for weights in hub.weights().values()] == [(64, 600)]


def test_a_flag_that_defaults_to_training(tmp_path):
    def build():
        x = v1.placeholder(tf.float32, [2, 4], name="x")
        flag = v1.placeholder_with_default(True, [], name="keras_learning_phase")
        batch = x - tf.reduce_mean(x, 0)
        y = tf.cond(flag, lambda: batch, lambda: x - 1.0)
        tf.identity(y, name="y")

    hub = imported(SCRIPT, _frozen(tmp_path / "m.pb", build), tmp_path / "hub")
    data = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.testing.assert_array_equal(run_graph(hub, [data])[0], data - 1)
    np.testing.assert_array_equal(hub.reference()[0].outputs[0], hub.reference()[0].inputs[0] - 1)
    assert set(hub.operators) == {"Sub"}
    assert not hub.batch_dynamic
    assert hub.decisions == ["keras_learning_phase set to false"]


def test_what_was_found_in_the_graph_is_said_where_there_was_a_choice(tmp_path):
    def build():
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        v1.placeholder(tf.float32, [None, 2], name="target")
        rate = v1.placeholder_with_default(0.25, [], name="rate")
        tf.multiply(x, rate, name="y")

    hub = imported(SCRIPT, _frozen(tmp_path / "m.pb", build), tmp_path / "hub")
    assert hub.decisions == ["inputs: x of x, target, rate", "rate keeps its default value"]
    named = imported(SCRIPT, tmp_path / "m.pb", tmp_path / "hub2", input_nodes="x", output_nodes="y")
    assert named.decisions == ["rate keeps its default value"]


def test_a_function_that_tests_the_flag(tmp_path):
    """tf.cond of TF2, inside a call whose inlined nodes have the name of another node."""

    @tf.function
    def body(x, flag):
        return tf.cond(flag, lambda: x * 2.0, lambda: x + 3.0)

    def build():
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        flag = v1.placeholder(tf.bool, [], name="is_training")
        v1.enable_control_flow_v2()
        y = tf.identity(body(x, flag), name="call")
        tf.identity(y, name="call/cond")
        tf.negative(y, name="StatefulPartitionedCall/cond")
        v1.disable_control_flow_v2()

    hub = imported(SCRIPT, _frozen(tmp_path / "m.pb", build), tmp_path / "hub", output_nodes="call/cond")
    (run, *_) = hub.reference()
    np.testing.assert_array_equal(run.outputs[0], run.inputs[0] + 3)
    assert set(hub.operators) == {"AddV2"}


def test_a_fetched_call_is_inlined_too(tmp_path):
    @tf.function
    def body(x):
        return x * 2.0, x + 3.0

    def build():
        body(v1.placeholder(tf.float32, [None, 4], name="x"))

    source = _frozen(tmp_path / "m.pb", build)
    definition = v1.GraphDef()
    definition.ParseFromString(source.read_bytes())
    (call,) = [node.name for node in definition.node if "Call" in node.op]
    hub = imported(SCRIPT, source, tmp_path / "hub", output_nodes=f"{call}:1,{call}")
    assert names(hub.outputs) == [f"{call}:1", call]
    assert {"AddV2", "Mul"} <= set(hub.operators)
    assert "PartitionedCall" not in hub.operators


def test_shapes_can_be_given(tmp_path):
    def build():
        x = v1.placeholder(tf.float32, [None, None, None, 3], name="x")
        tf.nn.conv2d(x, _weights(0, 3, 3, 3, 2), 2, "SAME", name="y")

    source = _frozen(tmp_path / "m.pb", build)
    hub = imported(SCRIPT, source, tmp_path / "hub", input_shape="-1,10,12,3")
    assert hub.inputs[0].shape == (None, 10, 12, 3)
    assert hub.outputs[0].shape == (None, 5, 6, 2)
    assert "4 dimensions" in refused(SCRIPT, source, tmp_path / "hub", input_shape="1,10,12")
    free = imported(SCRIPT, source, tmp_path / "free")
    assert len({run.inputs[0].shape[1:3] for run in free.reference() if run.kind == "typical"}) == 2


def test_a_leading_dimension_that_is_no_batch(tmp_path):
    """A recording of any length: what comes out has not as many rows as what goes in."""

    def build():
        wave = v1.placeholder(tf.float32, [None], name="wave")
        frames = tf.signal.frame(wave, 4, 2)
        tf.reduce_mean(frames, 1, name="level")

    hub = imported(SCRIPT, _frozen(tmp_path / "m.pb", build), tmp_path / "hub")
    assert not hub.batch_dynamic
    assert min(len(run.inputs[0]) for run in hub.reference()) >= 4


def test_what_is_no_frozen_graph(tmp_path):
    hub = tmp_path / "hub"

    def unfrozen():
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        tf.matmul(x, v1.get_variable("w", [4, 2]), name="y")

    source = _frozen(tmp_path / "m.pb", unfrozen)
    message = refused(SCRIPT, source, hub, output_nodes="y")
    assert "not frozen" in message
    assert "(w)" in message

    module = tf.Module()
    module.w = tf.Variable([1.0])
    signature = tf.function(lambda x: x * module.w, input_signature=[tf.TensorSpec([None], tf.float32)])
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=signature)
    message = refused(SCRIPT, tmp_path / "saved" / "saved_model.pb", hub)
    assert f"convert_from: {tmp_path / 'saved'}" in message

    for content, reason in [
        (b"", "empty"),
        (b"\x00\x01 no graph", "damaged"),
        (b"node { name: 'x' op: 'NoOp' }", ".pbtxt"),
    ]:
        (tmp_path / "bad.pb").write_bytes(content)
        assert reason in refused(SCRIPT, tmp_path / "bad.pb", hub)
    whole = _frozen(tmp_path / "m.pb", _two_heads).read_bytes()
    (tmp_path / "bad.pb").write_bytes(whole[: len(whole) // 2])
    assert "damaged" in refused(SCRIPT, tmp_path / "bad.pb", hub)


def test_an_operator_of_another_time(tmp_path):
    """Unknown operators are refused where the outputs need them, and passed over in an input pipeline."""
    source = _frozen(tmp_path / "m.pb", _two_heads)
    definition = v1.GraphDef()
    definition.ParseFromString(source.read_bytes())
    node = definition.node.add(name="pipeline", op="ContribReaderOfOldV3")
    next(other for other in definition.node if other.name == "x").input.append("^pipeline")
    source.write_bytes(definition.SerializeToString())
    message = refused(SCRIPT, source, tmp_path / "hub", output_nodes="scores")
    assert node.op in message
    assert "toolchain" in message
    imported(SCRIPT, source, tmp_path / "hub", input_nodes="x", output_nodes="scores")


def test_a_random_model_is_said_to_be_one(tmp_path):
    def build():
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        tf.add(x, 0.0 * tf.random.normal(tf.shape(x)), name="y")

    hub = imported(SCRIPT, _frozen(tmp_path / "m.pb", build), tmp_path / "hub")
    assert any("random numbers" in note for note in hub.notes)
