"""A SavedModel cut by input_nodes and output_nodes, anywhere in its graph, and placeholders that constants give a value."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from conftest import Project
from imports import imported, names, refused, run_graph

SCRIPT = "import_savedmodel"
v1 = tf.compat.v1


class Towers(tf.Module):
    """Two towers and a table, behind functions that call functions; `scale` is a scalar that a caller gives."""

    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(3)
        self.first = tf.Variable(rng.standard_normal((4, 6)), dtype=tf.float32)
        self.second = tf.Variable(rng.standard_normal((6, 3)), dtype=tf.float32)
        self.calls = tf.Variable(1.0)
        keys, values = tf.constant([1, 2, 3], tf.int64), tf.constant([10.0, 20.0, 30.0])
        self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), -1.0)

    @tf.function
    def tower(self, x):
        with tf.name_scope("tower"):
            hidden = tf.nn.relu(x @ self.first, name="hidden")
            top = tf.nn.top_k(tf.tanh(hidden @ self.second, name="mixed"), 2, name="best")
        return hidden, top.values

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 4], tf.float32, name="zeta"),
            tf.TensorSpec([None], tf.int64, name="alpha"),
            tf.TensorSpec([], tf.float32, name="scale"),
        ]
    )
    def __call__(self, zeta, alpha, scale):
        hidden, best = self.tower(zeta)
        looked = self.table.lookup(alpha)[:, None] * scale
        self.calls.assign_add(1.0)
        return {"scores": best + looked, "looked": looked, "plain": best * 2.0}


@pytest.fixture(scope="module")
def towers(tmp_path_factory) -> tuple[Towers, Path]:
    module, path = Towers(), tmp_path_factory.mktemp("towers") / "model"
    tf.saved_model.save(module, str(path), signatures=module.__call__)
    return module, path


X = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)


def check(hub, arrays, *expected):
    for actual, wanted in zip(run_graph(hub, arrays), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-6)


def test_outputs_inside_of_called_functions(towers, tmp_path):
    """The inputs that they do not depend on are left out."""
    module, source = towers
    hub = imported(SCRIPT, source, tmp_path / "hub", output_nodes="tower/hidden,tower/best:1")
    assert names(hub.inputs) == ["zeta"] and names(hub.outputs) == ["tower/hidden", "tower/best:1"]
    hidden = np.maximum(X @ module.first.numpy(), 0)
    best = np.argsort(-np.tanh(hidden @ module.second.numpy()), 1)[:, :2]
    check(hub, [X], hidden, best)
    assert hub.inputs[0].shape == (None, 4) and hub.outputs[0].shape == (None, 6)
    assert hub.parameters_count == 42


def test_inputs_inside_of_called_functions(towers, tmp_path):
    module, source = towers
    hub = imported(SCRIPT, source, tmp_path / "hub", input_nodes="tower/hidden:0", output_nodes="plain")
    assert names(hub.inputs) == ["tower/hidden"] and names(hub.outputs) == ["plain"]
    hidden = np.random.default_rng(1).standard_normal((3, 6)).astype(np.float32)
    expected = -np.sort(-np.tanh(hidden @ module.second.numpy()), 1)[:, :2] * 2
    check(hub, [hidden], expected)
    assert hub.parameters_count == 18
    fixed = imported(
        SCRIPT, source, tmp_path / "fixed", input_nodes="tower/hidden", output_nodes="plain", input_shape="2,6"
    )
    assert fixed.inputs[0].shape == (2, 6)


def test_keys_of_the_signature_in_the_users_order(towers, tmp_path):
    hub = imported(SCRIPT, towers[1], tmp_path / "hub", input_nodes="scale,alpha", output_nodes="looked")
    assert names(hub.inputs) == ["scale", "alpha"]
    check(hub, [np.float32(2), np.array([3, 9, 1])], [[60.0], [-2.0], [20.0]])


def test_a_scalar_input_becomes_a_constant(towers, tmp_path):
    hub = imported(SCRIPT, towers[1], tmp_path / "hub", constants={"scale": 3.0}, output_nodes="looked,plain")
    assert names(hub.inputs) == ["zeta", "alpha"] and names(hub.outputs) == ["looked", "plain"]
    assert np.allclose(run_graph(hub, [X[:2], np.array([2, 7])])[0], [[60.0], [-3.0]])
    assert "it has alpha" in refused(SCRIPT, towers[1], tmp_path / "x", constants={"alpa": 1})
    both = refused(SCRIPT, towers[1], tmp_path / "x", constants={"scale": 1.0}, input_nodes="zeta,alpha,scale")
    assert "scale is one of the input_nodes too" in both


def test_names_that_are_not_there_are_answered_with_candidates(towers, tmp_path):
    source, hub = towers[1], tmp_path / "hub"
    message = refused(SCRIPT, source, hub, output_nodes="tower/hiden")
    assert "output_nodes: the graph has no node tower/hiden; did you mean tower/hidden" in message
    message = refused(SCRIPT, source, hub, output_nodes="nothing_like_it")
    assert "candidates are looked, plain, scores" in message or "candidates are scores" in message
    assert "tower/hidden" in message and "tower/mixed" in message
    message = refused(SCRIPT, source, hub, input_nodes="nothing_like_it")
    assert "candidates are zeta, alpha, scale" in message
    assert "which has 2 outputs" in refused(SCRIPT, source, hub, output_nodes="tower/best:2")
    message = refused(SCRIPT, source, hub, input_nodes="alpha", output_nodes="looked")
    assert "the outputs also depend on the placeholder" in message and "scale" in message


def test_a_keras_export_between_two_layers(tmp_path):
    keras.utils.set_random_seed(4)
    layers = keras.layers
    image = layers.Input((8, 8, 2), name="image")
    h = layers.Conv2D(3, 3, activation="relu", name="stem")(image)
    h = layers.Flatten(name="flat")(h)
    model = keras.Model(image, layers.Dense(4, activation="softmax", name="head")(h), name="net")
    model.export(tmp_path / "m", verbose=False)
    hub = imported(
        SCRIPT,
        tmp_path / "m",
        tmp_path / "hub",
        input_nodes="net_1/flat_1/Reshape",
        output_nodes="net_1/head_1/BiasAdd",
    )
    part = keras.Model(model.get_layer("flat").output, model.get_layer("head").output)
    arrays = [np.random.default_rng(5).standard_normal((2, 108)).astype(np.float32)]
    logits = run_graph(hub, arrays)[0]
    np.testing.assert_allclose(tf.nn.softmax(logits), part(arrays[0]), rtol=1e-5, atol=1e-6)


def test_behind_an_lstm_and_before_it(tmp_path):
    """The loop's weights stay, or go with it."""
    tf_keras.utils.set_random_seed(6)
    layers = tf_keras.layers
    model = tf_keras.Sequential(
        [layers.Input((7, 3), name="rows"), layers.LSTM(5, name="memory"), layers.Dense(2, name="top")]
    )
    model.save(tmp_path / "m", save_format="tf")
    rows = np.random.default_rng(7).standard_normal((4, 7, 3)).astype(np.float32)
    whole = imported(SCRIPT, tmp_path / "m", tmp_path / "a", output_nodes="sequential/top/BiasAdd")
    np.testing.assert_allclose(run_graph(whole, [rows])[0], model(rows), rtol=1e-5, atol=1e-6)
    behind = imported(SCRIPT, tmp_path / "m", tmp_path / "b", input_nodes="sequential/top/MatMul", output_nodes="top")
    assert behind.parameters_count == 2
    np.testing.assert_allclose(run_graph(behind, [np.zeros((1, 2), np.float32)])[0], model.layers[-1].bias[None])


def _save_tf1(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with tf.Graph().as_default() as graph:
        x = v1.placeholder(tf.float32, [None, 4], name="x_in")
        side = v1.placeholder(tf.float32, [None, 3], name="a_side")
        first, second = (
            v1.get_variable(name, shape, use_resource=False) for name, shape in (("w", [4, 6]), ("v", [6, 3]))
        )
        hidden = tf.nn.relu(x @ first, name="body/hidden")
        inputs, outputs = {"z": x, "b": side}, {"out": tf.add(hidden @ second, side, name="sum")}
        info = v1.saved_model.utils.build_tensor_info
        signature = v1.saved_model.signature_def_utils.build_signature_def(
            *({key: info(tensor) for key, tensor in entries.items()} for entries in (inputs, outputs)), "predict"
        )
        with v1.Session(graph=graph) as session:
            session.run(v1.global_variables_initializer())
            builder = v1.saved_model.builder.SavedModelBuilder(str(path))
            builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
            builder.save()
            return session.run([first, second])


def test_a_savedmodel_of_tensorflow_1(tmp_path):
    first, second = _save_tf1(tmp_path / "m")
    hub = imported(SCRIPT, tmp_path / "m", tmp_path / "a", output_nodes="body/hidden:0")
    assert names(hub.inputs) == ["z"] and names(hub.outputs) == ["body/hidden"]
    check(hub, [X], np.maximum(X @ first, 0))
    hub = imported(SCRIPT, tmp_path / "m", tmp_path / "b", input_nodes="b,body/hidden", output_nodes="out")
    hidden, side = (np.random.default_rng(9).standard_normal((2, size)).astype(np.float32) for size in (6, 3))
    check(hub, [side, hidden], hidden @ second + side)
    message = refused(SCRIPT, tmp_path / "m", tmp_path / "x", output_nodes="body/hiden")
    assert "the graph has no node body/hiden; did you mean body/hidden" in message and "candidates are out" in message
    message = refused(SCRIPT, tmp_path / "m", tmp_path / "x", input_nodes="body/hidden")
    assert "also depend on the placeholder a_side" in message


def test_planning_passes_them_on_and_each_part_has_a_hub_of_its_own(towers, project: Project):
    (project.folder / "models" / "net").symlink_to(towers[1])
    jobs = [
        {"convert_from": "models/net", "convert_to": f"converted/{name}.onnx", "output_nodes": nodes}
        for name, nodes in (("a", "tower/hidden"), ("b", "tower/hidden:0"), ("c", "plain"))
    ]
    run = project.snakemake("converted/a.onnx", "converted/b.onnx", "converted/c.onnx", config={"jobs": jobs})
    assert run.returncode == 0, run.stderr
    for name, output in (("a", "tower/hidden"), ("b", "tower/hidden"), ("c", "plain")):
        report = project.report(f"{name}.onnx")
        assert [entry["name"] for entry in report["outputs"]] == [output]
        assert report["status"] == "verified" and report["parameters"]["output_nodes"] == [output]
    hubs = [path for path in (project.folder / "intermediate").iterdir() if (path / "hub.json").is_file()]
    assert len(hubs) == 2
