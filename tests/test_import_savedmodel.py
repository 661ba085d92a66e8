"""SavedModels of both TensorFlows into the hub."""

import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from imports import imported, names, no_large_constants, refused, run_graph

SCRIPT = "import_savedmodel"
v1 = tf.compat.v1


class Sums(tf.Module):
    """Two signatures, arguments and results in an order that is not the alphabet's."""

    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(0)
        self.kernel = tf.Variable(rng.standard_normal((4, 5)), dtype=tf.float32)
        self.table = tf.constant(rng.standard_normal((5000, 4)), tf.float32)  # a captured constant of 80 KB
        self.calls = tf.Variable(0.0)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 4], tf.float32, name="zeta"),
            tf.TensorSpec([None], tf.int64, name="alpha"),
            tf.TensorSpec([None, 1], tf.bool, name="mask"),
        ]
    )
    def embed(self, zeta, alpha, mask):
        x = (zeta + tf.gather(self.table, alpha)) * tf.cast(mask, tf.float32)
        return {"scores": x @ self.kernel, "best": tf.argmax(x @ self.kernel, 1)}

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def count(self, x):
        self.calls.assign_add(1.0)
        return {"y": tf.nn.relu(x @ self.kernel)}

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def counted(self, x):
        return {"y": x * self.calls.assign_add(1.0)}

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def loop(self, x):
        for _ in tf.range(tf.shape(x)[0]):
            if tf.reduce_sum(x) > 1:
                x = tf.tanh(x @ self.kernel)[:, :4] + tf.nn.embedding_lookup(self.kernel, [0])[:, :4]
            else:
                x = x + 0.1
        return {"y": x}


@pytest.fixture(scope="module")
def sums(tmp_path_factory) -> tuple[Sums, Path]:
    module, path = Sums(), tmp_path_factory.mktemp("sums") / "model"
    signatures = {
        "serving_default": module.embed,
        "count": module.count,
        "counted": module.counted,
        "loop": module.loop,
    }
    tf.saved_model.save(module, str(path), signatures=signatures)
    return module, path


def test_a_module_keeps_names_order_and_types(sums, tmp_path):
    module, source = sums
    hub = imported(SCRIPT, source, tmp_path / "hub")
    assert names(hub.inputs) == ["zeta", "alpha", "mask"]
    assert [spec.dtype for spec in hub.inputs] == ["float32", "int64", "bool"]
    assert sorted(names(hub.outputs)) == ["best", "scores"]
    assert hub.extra["vocabulary"] == {"alpha": 5000}
    assert no_large_constants(hub)
    assert (5000, 4) in [array.shape for array in hub.weights().values()]
    assert hub.parameters_count == 20  # a constant is no parameter
    arrays = [np.ones((2, 4), np.float32), np.array([7, 4999]), np.array([[True], [False]])]
    expected = module.embed(*map(tf.constant, arrays))
    for spec, actual in zip(hub.outputs, run_graph(hub, arrays), strict=True):
        np.testing.assert_allclose(actual, expected[spec.name], rtol=1e-5, atol=1e-6)


def test_another_signature_that_counts_its_calls(sums, tmp_path):
    hub = imported(SCRIPT, sums[1], tmp_path / "hub", savedmodel_signature="count")
    assert names(hub.outputs) == ["y"]
    assert any("keeps no state" in note for note in hub.notes)
    assert hub.decisions == [
        "signature: count of count, counted, loop, serving_default",
        "keeps no state between calls",
    ]


def test_an_output_that_depends_on_assigned_state(sums, tmp_path):
    message = refused(SCRIPT, sums[1], tmp_path / "hub", savedmodel_signature="counted")
    assert "assigns to its own variable" in message


def test_variables_inside_loops_and_branches(sums, tmp_path):
    hub = imported(SCRIPT, sums[1], tmp_path / "hub", savedmodel_signature="loop")
    assert "ResourceGather" not in hub.operators
    assert {"While", "StatelessWhile"} & set(hub.operators)
    assert hub.outputs[0].shape == (None, 4)


def test_wrong_names_are_answered_with_the_right_ones(sums, tmp_path):
    source, hub = sums[1], tmp_path / "hub"
    assert "write savedmodel_tag: serve" in refused(SCRIPT, source, hub, savedmodel_tag="server")
    message = refused(SCRIPT, source, hub, savedmodel_signature="serving")
    assert "write savedmodel_signature: serving_default or count" in message
    assert "did you mean scores" in refused(SCRIPT, source, hub, output_nodes="score")
    assert "3 inputs (zeta, alpha, mask)" in refused(SCRIPT, source, hub, input_shape="1,4")


def test_shapes_can_be_fixed(sums, tmp_path):
    hub = imported(SCRIPT, sums[1], tmp_path / "hub", input_shape="2,4;2;2,1", output_nodes="scores")
    assert [spec.shape for spec in hub.inputs] == [(2, 4), (2,), (2, 1)]
    assert hub.outputs[0].shape == (2, 5)
    assert names(hub.outputs) == ["scores"]


def _recurrent(library):
    library.utils.set_random_seed(1)
    layers = library.layers
    words = layers.Input((6,), dtype="int32", name="words")
    extra = layers.Input((6, 3), name="extra")
    h = layers.Concatenate()([layers.Embedding(30, 4)(words), extra])
    h = layers.LSTM(5)(h)
    return library.Model([words, extra], [layers.Dense(2, name="zeta")(h), layers.Dense(1, name="alpha")(h)])


@pytest.mark.parametrize("library", [keras, tf_keras], ids=["keras3", "keras2"])
def test_keras_exports(library, tmp_path):
    model = _recurrent(library)
    if library is keras:
        model.export(tmp_path / "m", verbose=False)
    else:
        model.save(tmp_path / "m", save_format="tf")
    hub = imported(SCRIPT, tmp_path / "m", tmp_path / "hub")
    assert names(hub.inputs) == ["words", "extra"]
    assert names(hub.outputs) == (["output_0", "output_1"] if library is keras else ["zeta", "alpha"])
    assert hub.extra["vocabulary"] == {"words": 30}
    rng = np.random.default_rng(2)
    arrays = [rng.integers(0, 30, (4, 6)).astype(np.int32), rng.standard_normal((4, 6, 3)).astype(np.float32)]
    for actual, expected in zip(run_graph(hub, arrays), model(arrays), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    assert hub.direct == ("saved_model" if library is tf_keras else None)
    if hub.direct:
        signature = tf.saved_model.load(str(hub.path / hub.direct)).signatures["serving_default"]
        results = signature(words=tf.constant(arrays[0]), extra=tf.constant(arrays[1]))
        np.testing.assert_allclose(results["zeta"], model(arrays)[0], rtol=1e-5, atol=1e-6)


def test_no_signature_and_no_model(tmp_path):
    module = tf.Module()
    module.w = tf.Variable([1.0])
    tf.saved_model.save(module, str(tmp_path / "m"))
    assert "has no signature" in refused(SCRIPT, tmp_path / "m", tmp_path / "hub")
    (tmp_path / "empty").mkdir()
    assert "no saved_model.pb" in refused(SCRIPT, tmp_path / "empty", tmp_path / "hub")


def test_damaged_directories(sums, tmp_path):
    source = tmp_path / "m"
    shutil.copytree(sums[1], source)
    whole = (source / "saved_model.pb").read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"\x00\x01 something else"):
        (source / "saved_model.pb").write_bytes(content)
        assert "copy the directory again" in refused(SCRIPT, source, tmp_path / "hub")
    (source / "saved_model.pb").write_bytes(whole)
    shutil.rmtree(source / "variables")
    assert "complete" in refused(SCRIPT, source, tmp_path / "hub")


def _save_tf1(path: Path) -> dict[str, np.ndarray]:
    """As TF 1.15 writes it: a graph without objects, two tag sets, two signatures, a flag that defaults to training."""
    with tf.Graph().as_default() as graph:
        v1.disable_control_flow_v2()
        v1.set_random_seed(1)
        x = v1.placeholder(tf.float32, [None, 4], name="x_in")
        side = v1.placeholder(tf.float32, [None, 4], name="a_side")
        flag = v1.placeholder_with_default(True, [], name="training")
        h = x + 2.0 * side
        h = h @ v1.get_variable("w", [4, 200], use_resource=False)
        h = tf.cond(flag, lambda: tf.nn.dropout(h, rate=0.5), lambda: h)
        y = tf.nn.relu(h) @ v1.get_variable("w2", [200, 3], use_resource=True)

        def signature(inputs: dict, outputs: dict):
            info = v1.saved_model.utils.build_tensor_info
            return v1.saved_model.signature_def_utils.build_signature_def(
                {key: info(tensor) for key, tensor in inputs.items()},
                {key: info(tensor) for key, tensor in outputs.items()},
                "tensorflow/serving/predict",
            )

        with v1.Session(graph=graph) as session:
            session.run(v1.global_variables_initializer())
            builder = v1.saved_model.builder.SavedModelBuilder(str(path))
            first = signature({"z": x, "b": side}, {"out": y})
            second = signature({"z": x, "b": side}, {"first": h, "class": tf.argmax(y, 1)})
            builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": first, "classify": second})
            builder.add_meta_graph(
                ["serve", "gpu"], {"serving_default": signature({"z": x, "b": side}, {"out": y * 2.0})}
            )
            builder.save()
            feeds = {"x_in:0": np.ones((1, 4)), "a_side:0": np.full((1, 4), 0.5), "training:0": False}
            return session.run(y, feeds)


def test_tf1_tags_and_signatures(tmp_path):
    expected = _save_tf1(tmp_path / "m")
    hub = imported(SCRIPT, tmp_path / "m", tmp_path / "hub")
    assert names(hub.inputs) == ["z", "b"]
    assert names(hub.outputs) == ["out"]
    assert "training:0 was set to false (it selects training)" in hub.notes
    assert hub.decisions == [
        "tags: serve of serve, gpu,serve",
        "signature: serving_default of serving_default, classify",
        "training set to false",
    ]
    assert any("signature serving_default was converted; the file also has classify" in note for note in hub.notes)
    assert hub.operators == {"AddV2": 1, "MatMul": 2, "Mul": 1, "Relu": 1}
    arrays = [np.ones((1, 4), np.float32), np.full((1, 4), 0.5, np.float32)]
    np.testing.assert_allclose(run_graph(hub, arrays)[0], expected, rtol=1e-5)
    doubled = imported(SCRIPT, tmp_path / "m", tmp_path / "gpu", savedmodel_tag="serve,gpu")
    np.testing.assert_allclose(run_graph(doubled, arrays)[0], 2 * expected, rtol=1e-5)
    classes = imported(SCRIPT, tmp_path / "m", tmp_path / "classes", savedmodel_signature="classify")
    assert names(classes.outputs) == ["first", "class"]
    assert classes.outputs[1].dtype == "int64"
    assert "savedmodel_tag: serve or gpu,serve" in refused(SCRIPT, tmp_path / "m", tmp_path / "x", savedmodel_tag="gpu")


def test_the_same_source_gives_the_same_bytes(sums, tmp_path):
    hubs = [imported(SCRIPT, sums[1], tmp_path / name, savedmodel_signature="loop") for name in ("a", "b")]
    for name in ("graph.pb", "weights.safetensors"):
        assert (hubs[0].path / name).read_bytes() == (hubs[1].path / name).read_bytes()
