"""What a TensorFlow import says about its own reference: what it exercises, and what it would notice last."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from imports import run_graph, run_step

from converter.evidence.weakest import perturbed
from converter.hub.hub import Hub
from converter.hub.weights import Weights
from converter.verification.verify import Tolerance


def keras_hub(model: keras.Model, folder: Path, name: str = "hub") -> Hub:
    model.save(folder / "m.keras")
    return run_step("import_keras", folder / "m.keras", folder / name)


def graph_hub(build, folder: Path, outputs: str = "y:0", **parameters) -> Hub:
    """The hub of a frozen graph; build() makes it in TensorFlow 1's way."""
    with tf.Graph().as_default() as graph:
        build()
    (folder / "m.pb").write_bytes(graph.as_graph_def().SerializeToString())
    hub = run_step("import_protobuf", folder / "m.pb", folder / "hub", output_nodes=outputs, **parameters)
    assert hub.error is None, hub.error
    return hub


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def placeholder(*shape: int | None) -> tf.Tensor:
    return tf.compat.v1.placeholder(tf.float32, shape, name="x")


def share(hub: Hub, tensor: str) -> float:
    return {entry["tensor"]: entry["share"] for entry in hub.coverage["without_influence"]}[tensor]


def test_units_that_never_fire_and_their_weights_are_counted(tmp_path: Path):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.layers.Input((6,)), keras.layers.Dense(8, activation="relu", name="inner"), keras.layers.Dense(3)]
    )
    bias = np.where(np.arange(8) < 2, -1e9, 0.1).astype(np.float32)
    model.get_layer("inner").set_weights([normal(6, 8), bias])
    hub = keras_hub(model, tmp_path)
    assert hub.coverage["stuck"] == 0.25
    # Two of eight columns of 6 + 1 weights, and two of eight rows of 3.
    assert hub.coverage["weights"] == pytest.approx(1 - (2 * 7 + 2 * 3) / (6 * 8 + 8 + 8 * 3 + 3), abs=1e-4)
    names = {entry["tensor"].rsplit("/", 1)[-1]: entry["share"] for entry in hub.coverage["without_influence"]}
    assert names == {"kernel": 0.25, "bias": 0.25}


def test_samples_are_added_until_every_row_of_a_table_was_looked_up(tmp_path: Path):
    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential(
        [layers.Input((5,), dtype="int32"), layers.Embedding(300, 4), layers.Flatten(), layers.Dense(2)]
    )
    hub = keras_hub(model, tmp_path)
    assert hub.coverage["rows"] == 1.0 and hub.coverage["samples_added"] >= 60
    runs = hub.reference()
    assert set(np.concatenate([run.inputs[0].reshape(-1) for run in runs])) == set(range(300))
    assert sum(len(run.inputs[0]) for run in runs) == hub.coverage["samples"]
    for run in runs:  # the added runs hold the source's own answers
        np.testing.assert_allclose(run_graph(hub, run.inputs)[0], model(run.inputs[0]), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(run.outputs[0], model(run.inputs[0]), rtol=1e-4, atol=1e-6)


def test_a_table_too_large_for_its_samples_is_weak_evidence(tmp_path: Path):
    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential(
        [layers.Input((2,), dtype="int32"), layers.Embedding(9000, 4), layers.Flatten(), layers.Dense(2)]
    )
    hub = keras_hub(model, tmp_path)
    assert 0 < hub.coverage["rows"] < 0.5 and hub.coverage["below"] == ["rows"]


@pytest.mark.parametrize(("threshold", "expected"), [(1e6, 0.5), (0.0, 1.0)])
def test_sides_of_a_branch_are_counted(threshold: float, expected: float, tmp_path: Path):
    class Model(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = tf.Variable(normal(4, 4))

        @tf.function(input_signature=[tf.TensorSpec((1, 4), tf.float32, name="x")], autograph=False)
        def call(self, x):
            y = tf.matmul(x, self.weight)
            return {"y": tf.cond(tf.reduce_sum(y) > threshold, lambda: tf.sin(y) * 2.0, lambda: tf.cos(y) - 1.0)}

    model = Model()
    tf.saved_model.save(model, str(tmp_path / "m"), signatures={"serving_default": model.call})
    hub = run_step("import_savedmodel", tmp_path / "m", tmp_path / "hub")
    assert hub.error is None
    assert hub.coverage["branches"] == expected
    assert hub.coverage["below"] == (["branches"] if expected < 1 else [])
    assert hub.coverage["weights"] == 1.0  # differentiated through the branch


def test_sides_of_a_branch_of_tensorflow_1_are_counted(tmp_path: Path):
    def build() -> None:
        tf.compat.v1.disable_control_flow_v2()
        try:
            x = placeholder(1, 4)
            y = tf.matmul(x, tf.constant(normal(4, 4), name="w"))
            z = tf.compat.v1.cond(tf.reduce_sum(y) > 1e6, lambda: tf.sin(y), lambda: tf.cos(y))
            tf.matmul(z, tf.constant(normal(4, 3), name="v"), name="y")
        finally:
            tf.compat.v1.enable_control_flow_v2()

    hub = graph_hub(build, tmp_path)
    assert hub.coverage["branches"] == 0.5 and hub.coverage["weights"] == 1.0
    assert "Switch" in hub.coverage["method"]


def test_weights_before_inside_and_behind_a_loop_of_tensorflow_1(tmp_path: Path):
    def build() -> None:
        tf.compat.v1.disable_control_flow_v2()
        try:
            x = placeholder(1, 4)
            y = tf.tanh(tf.matmul(x, tf.constant(normal(4, 4), name="before")))
            inside = tf.constant(normal(4, 4, seed=1), name="inside")
            _, z = tf.compat.v1.while_loop(
                lambda i, a: i < 3, lambda i, a: (i + 1, tf.tanh(tf.matmul(a, inside))), [0, y]
            )
            dead = tf.matmul(z, tf.constant(normal(4, 3), name="dead")) * 0.0
            tf.add(tf.matmul(z, tf.constant(normal(4, 3), name="behind")), dead, name="y")
        finally:
            tf.compat.v1.enable_control_flow_v2()

    hub = graph_hub(build, tmp_path)
    assert hub.coverage["without_influence"] == [{"tensor": "dead", "share": 1.0}]
    assert hub.coverage["weights"] == pytest.approx(1 - 12 / (16 + 16 + 12 + 12), abs=1e-4)


def test_weights_of_a_keras_loop_are_differentiated(tmp_path: Path):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.layers.Input((5, 3)), keras.layers.LSTM(4), keras.layers.Dense(2)])
    hub = keras_hub(model, tmp_path)
    assert hub.coverage["weights"] == 1.0
    assert "whole" not in hub.coverage["method"]


def test_weights_that_are_multiplied_by_zero_have_no_influence(tmp_path: Path):
    def build() -> None:
        x = placeholder(None, 4)
        zeros = tf.constant(np.array([1, 0, 1, 0, 0], np.float32))
        tf.matmul(x, tf.constant(normal(4, 5), name="w"))
        tf.multiply(tf.matmul(x, tf.constant(normal(4, 5), name="w2")), zeros, name="y")

    hub = graph_hub(build, tmp_path)
    assert share(hub, "w2") == 0.6


def test_mean_and_variance_of_a_normalization_have_influence(tmp_path: Path):
    def build() -> None:
        x = placeholder(None, 4, 4, 3)
        scale, offset, mean, variance = (tf.constant(np.abs(normal(3, seed=s)) + 0.5, name=f"bn{s}") for s in range(4))
        y, _, _ = tf.compat.v1.nn.fused_batch_norm(x, scale, offset, mean, variance, epsilon=1e-3, is_training=False)
        tf.identity(y, name="y")

    hub = graph_hub(build, tmp_path)
    assert hub.coverage["weights"] == 1.0 and "whole" not in hub.coverage["method"]
    assert {entry["tensor"] for entry in hub.weakest} <= {"bn0", "bn1", "bn2", "bn3"}


def test_a_whole_number_output_counts_by_what_it_is_taken_from(tmp_path: Path):
    def build() -> None:
        x = placeholder(None, 4)
        y = tf.matmul(x, tf.constant(normal(4, 5), name="w")) + tf.constant(normal(5), name="b")
        tf.argmax(y, 1, name="y")

    hub = graph_hub(build, tmp_path)
    assert hub.coverage["weights"] == 1.0
    assert "whole numbers" in hub.coverage["method"]


def test_weights_behind_an_operator_without_a_derivative_are_changed(tmp_path: Path):
    def build() -> None:
        x = placeholder(None, 4)
        y = tf.round(tf.matmul(x, tf.constant(normal(4, 5) * 100, name="w")))
        dead = tf.round(tf.matmul(x, tf.constant(normal(4, 5), name="dead"))) * 0.0
        tf.add(y, dead, name="y")

    hub = graph_hub(build, tmp_path)
    assert hub.coverage["weights"] == 0.5
    assert hub.coverage["without_influence"] == [{"tensor": "dead", "share": 1.0}]
    assert "2 weights that no gradient reaches were changed" in hub.coverage["method"]


def test_the_weakest_weight_is_noticed_from_the_stated_change_on(tmp_path: Path):
    def build() -> None:
        x = placeholder(None, 8)
        strong = tf.matmul(x, tf.constant(normal(8, 3), name="strong"))
        weak = tf.matmul(x, tf.constant(normal(8, 3, seed=1) * 1e-3, name="weak"))
        tf.add(strong, weak, name="y")

    hub = graph_hub(build, tmp_path)
    entry = hub.weakest[0]
    assert entry["tensor"] == "weak" and entry["method"].endswith("measured")
    stated = entry["smallest_change_noticed"]
    assert 0.01 < stated < 1
    assert _noticed(hub, "weak", stated) and not _noticed(hub, "weak", stated * 0.7)
    assert not _noticed(hub, "weak", 0.01), "what is named is a weight of which a change of one percent passes"
    assert _noticed(hub, "strong", 0.01)


def _noticed(hub: Hub, name: str, change: float) -> bool:
    """Whether the rule of the comparison sees a weight of the graph changed so; the graph is changed, not the probe."""
    graph_def = tf.compat.v1.GraphDef()
    graph_def.ParseFromString(hub.graph_path.read_bytes())
    for node in graph_def.node:
        if node.name == name:
            array = tf.make_ndarray(node.attr["value"].tensor)
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(perturbed(array, change, name)))
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
    runs = hub.reference()[:2]
    largest = max(float(np.abs(run.outputs[0]).max()) for run in runs)
    with tf.compat.v1.Session(graph=graph) as session:
        results = [session.run("y:0", {"x:0": run.inputs[0]}) for run in runs]
    worst = max(float(np.abs(a - run.outputs[0]).max()) for a, run in zip(results, runs, strict=True))
    return worst > Tolerance().of(largest)


def test_the_same_source_gives_the_same_figures_and_samples(tmp_path: Path):
    keras.utils.set_random_seed(1)
    layers = keras.layers
    words = [layers.Input((5,), dtype="int32"), layers.Embedding(99, 4), layers.Conv1D(4, 3, activation="relu")]
    model = keras.Sequential([*words, layers.Flatten(), layers.Dense(9)])
    first, second = keras_hub(model, tmp_path, "a"), keras_hub(model, tmp_path, "b")
    assert first.coverage["samples_added"] > 0
    assert json.dumps([first.coverage, first.weakest]) == json.dumps([second.coverage, second.weakest])
    assert (first.path / "reference.npz").read_bytes() == (second.path / "reference.npz").read_bytes()


def test_a_model_that_cannot_be_differentiated_is_imported_all_the_same(tmp_path: Path, monkeypatch, capsys):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])

    def fail(*args: object) -> None:
        raise RuntimeError("no derivative of Foo\nmore")

    monkeypatch.setattr("converter.evidence.tf_gradients.TapeProbe.observe", fail)
    hub = keras_hub(model, tmp_path)
    assert hub.error is None and len(hub.reference()) >= 2
    assert hub.coverage["method"] == "none" and hub.coverage["reason"] == "RuntimeError: no derivative of Foo"
    assert hub.coverage["weights"] is None and hub.coverage["below"] == [] and hub.weakest == []
    assert "Traceback" in capsys.readouterr().err


def test_samples_of_the_user_are_not_added_to(tmp_path: Path):
    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential(
        [layers.Input((5,), dtype="int32", name="words"), layers.Embedding(300, 4), layers.Flatten()]
    )
    np.savez(tmp_path / "own.npz", words=np.zeros((2, 5), np.int32))
    model.save(tmp_path / "m.keras")
    verify = {"inputs": str(tmp_path / "own.npz")}
    hub = run_step("import_keras", tmp_path / "m.keras", tmp_path / "hub", verify=verify)
    assert hub.error is None, hub.error
    assert [len(run.inputs[0]) for run in hub.reference()] == [1, 1]
    assert hub.coverage["samples_added"] == 0 and hub.coverage["rows"] == pytest.approx(1 / 300, abs=1e-4)


def test_large_weights_are_sampled(tmp_path: Path):
    """Half of the columns of a matrix above a quarter of a million values are multiplied by zero."""

    def build() -> None:
        x = placeholder(None, 300)
        mask = np.tile(np.array([1, 0], np.float32), 1000)
        y = tf.matmul(x, tf.constant(normal(300, 2000), name="w")) * tf.constant(mask, name="mask")
        tf.identity(y, name="y")

    hub = graph_hub(build, tmp_path)
    assert Weights(hub.path / "weights.safetensors")["w"].shape == (300, 2000)
    assert "every k-th" in hub.coverage["method"]
    assert 0.3 < share(hub, "w") < 0.7


def test_weights_of_zeros_cannot_be_weakest(tmp_path: Path):
    def build() -> None:
        x = placeholder(None, 4)
        y = tf.matmul(x, tf.constant(normal(4, 5), name="w")) + tf.constant(np.zeros(5, np.float32), name="zeros")
        tf.identity(y, name="y")

    hub = graph_hub(build, tmp_path)
    assert hub.coverage["weights"] == 1.0
    assert [entry["tensor"] for entry in hub.weakest] == ["w"]
