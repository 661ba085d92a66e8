"""Recurrent layers and control flow in ONNX: fused operators where tf2onnx can, loops elsewhere, any length and batch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
import tf_keras
from export_onnx import export_model
from tf_hub import dense, make_hub

from converter.contracts import ExportJob, ExportResult
from converter.hub.hub import Hub, TensorSpec
from converter.hub.reference import make_reference
from converter.tf.sources.freeze import freeze_graph


def convert(hub: Hub, path: Path) -> tuple[ExportResult, Counter[str]]:
    result = export_model(hub, ExportJob("converted/x.onnx"), path)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert model.SerializeToString(deterministic=True) == path.read_bytes()
    return result, Counter(node.op_type for node in model.graph.node)


def layers_hub(path: Path, library, layers: list) -> Hub:
    """A model over (batch, time, 6), every weight moved off its initial value: zero biases would hide a wrong gate order."""
    library.utils.set_random_seed(0)
    model = library.Sequential([library.Input((None, 6)), *layers])
    rng = np.random.default_rng(0)
    model.set_weights([w + rng.normal(0, 0.2, w.shape).astype(w.dtype) for w in model.get_weights()])
    signature = [tf.TensorSpec([None, None, 6], tf.float32, "series")]
    return make_hub(path, lambda x: model(x, training=False), signature, ["y"])


# 140 units: weights above 64 KB, which come to the loop as placeholders.
@pytest.mark.parametrize(
    ("name", "layers", "operator", "count"),
    [
        ("lstm", lambda L: [L.LSTM(140)], "LSTM", 1),
        ("stacked", lambda L: [L.LSTM(8, return_sequences=True), L.LSTM(5, go_backwards=True)], "LSTM", 2),
        ("gru", lambda L: [L.GRU(140, return_sequences=True)], "GRU", 1),
        ("bidirectional", lambda L: [L.Bidirectional(L.LSTM(8, return_sequences=True))], "LSTM", 1),
        ("bidirectional gru", lambda L: [L.Bidirectional(L.GRU(8))], "GRU", 1),
    ],
)
def test_layers_of_keras_2_become_fused_operators(tmp_path, name, layers, operator, count):
    hub = layers_hub(tmp_path / "hub", tf_keras, layers(tf_keras.layers))
    assert {run.inputs[0].shape[1] for run in hub.reference()} == {7, 12}
    result, operators = convert(hub, tmp_path / "x.onnx")
    assert result.verification.passed and result.opset == 10
    assert operators[operator] == count and operators["Loop"] == 0


@pytest.mark.parametrize(
    "layers",
    [
        lambda L: [L.LSTM(140)],
        lambda L: [L.GRU(8, return_sequences=True)],
        lambda L: [L.Bidirectional(L.LSTM(8))],
        lambda L: [L.SimpleRNN(8)],
        lambda L: [L.Masking(), L.LSTM(8)],
    ],
    ids=["lstm", "gru", "bidirectional", "simple", "masked"],
)
def test_layers_of_keras_3_are_right(tmp_path, layers):
    hub = layers_hub(tmp_path / "hub", keras, layers(keras.layers))
    assert convert(hub, tmp_path / "x.onnx")[0].verification.passed


def test_one_walk_finds_the_nodes_of_many_in_their_order(tmp_path, monkeypatch):
    """Each search of a conversion with a loop, by our one walk and by tf2onnx's own walk for each output and input."""
    from converter.tf.onnx import subgraph

    ours, alike = subgraph._extract_sub_graph_nodes, []

    def both(graph, outputs, input_checker=None, remove_unused_inputs=True):
        nodes = ours(graph, outputs, input_checker, remove_unused_inputs)
        if input_checker is None:
            alike.append(nodes == subgraph._original(graph, outputs, None, remove_unused_inputs))
        return nodes

    monkeypatch.setattr(subgraph, "_extract_sub_graph_nodes", both)
    hub = layers_hub(tmp_path / "hub", keras, [keras.layers.SimpleRNN(8)])
    _, operators = convert(hub, tmp_path / "x.onnx")
    assert operators["Loop"] and len(alike) > 10 and all(alike)


def test_a_loop_over_a_large_weight(tmp_path):
    weight = dense(np.random.default_rng(0), 150, 150)

    def model(x, steps):
        def body(i, y):
            return i + 1, tf.tanh(y @ weight) + x

        return tf.while_loop(lambda i, _: i < steps, body, [tf.constant(0), x])[1]

    specs = [tf.TensorSpec([2, 150], tf.float32, "x"), tf.TensorSpec([], tf.int32, "steps")]
    hub = make_hub(tmp_path / "hub", model, specs, ["y"], batch_dynamic=False)
    assert len({int(run.inputs[1]) for run in hub.reference()}) > 1
    result, operators = convert(hub, tmp_path / "x.onnx")
    assert result.verification.passed and operators["Loop"] == 1


@pytest.fixture
def old_control_flow():
    tf.compat.v1.disable_control_flow_v2()
    yield
    tf.compat.v1.enable_control_flow_v2()


def test_loops_and_branches_of_tf1_whose_rank_is_unknown(tmp_path, old_control_flow):
    """Enter, Switch, Merge, Exit nodes; the output's shape is known from the reference alone."""
    weight = (np.random.default_rng(0).standard_normal((150, 150)) / 12).astype(np.float32)
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [None, 150], "x")
        constant = tf.constant(weight)
        loop = tf.compat.v1.while_loop(
            lambda i, _: i < 4, lambda i, y: (i + 1, tf.tanh(y @ constant) + x), [tf.constant(0), x]
        )
        z = tf.compat.v1.cond(tf.reduce_sum(x) > 0, lambda: x @ constant, lambda: x - 1.0)
        outputs = [tf.identity(loop[1], "y"), tf.identity(z, "z")]
    specs = [TensorSpec("x", (None, 150), "float32", "x:0")]
    frozen = freeze_graph(
        graph.as_graph_def(), {}, specs, [TensorSpec(o.op.name, None, "float32", o.name) for o in outputs], tmp_path
    )
    with tf.compat.v1.Session(graph=graph) as session:
        runs = make_reference(specs, True, lambda arrays: session.run(outputs, {x: arrays[0]}))
    hub = Hub(tmp_path, "tensorflow", frozen.inputs, frozen.outputs, True)
    hub.write_reference(runs)
    hub.write()
    result, operators = convert(hub, tmp_path / "x.onnx")
    assert result.verification.passed and operators["Loop"] == 1 and operators["If"] == 1
    ranks = [len(value.type.tensor_type.shape.dim) for value in onnx.load(tmp_path / "x.onnx").graph.output]
    assert ranks == [2, 2]


def test_branches_with_large_weights(tmp_path):
    rng = np.random.default_rng(0)
    left, right = dense(rng, 150, 150), dense(rng, 150, 150)

    def model(x):
        return tf.cond(tf.reduce_sum(x) > 0, lambda: x @ left, lambda: x @ right - 1.0)

    hub = make_hub(tmp_path / "hub", model, [tf.TensorSpec([2, 150], tf.float32, "x")], ["y"], batch_dynamic=False)
    assert len({float(run.inputs[0].sum()) > 0 for run in hub.reference()}) == 2
    result, operators = convert(hub, tmp_path / "x.onnx")
    assert result.verification.passed and operators["If"] == 1
