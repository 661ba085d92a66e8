"""Lookup tables of every source become part of the file: contents, values that they do not hold, texts, and refusals."""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import pytest
import tensorflow as tf
from export_tflite import export_model as to_tflite
from imports import refused, run_step
from tf_hub import make_hub

from converter.contracts import ExportJob
from converter.errors import UnsupportedError
from converter.hub.hub import Hub
from converter.tf.onnx.export import export as to_onnx
from converter.tf.protobuf.export import export as to_pb
from converter.verification.runtimes import OnnxModel, TFLiteModel

v1 = tf.compat.v1
layers = keras.layers
# No two of these are the same number in float32, and not even all in float64.
LARGE = [2**24, 2**24 + 1, 2**53, 2**53 + 1, -(2**31) - 5, 7]


def pairs(keys, values, key_type=tf.int64, value_type=tf.int64):
    return tf.lookup.KeyValueTensorInitializer(tf.constant(keys, key_type), tf.constant(values, value_type))


def saved_model(path, shape, dtype, build):
    """A SavedModel of the function that `build(module)` returns; it keeps its tables in the module."""
    module = tf.Module()
    module.f = tf.function(build(module), input_signature=[tf.TensorSpec(shape, dtype, name="x")])
    tf.saved_model.save(module, str(path), signatures=module.f)
    return path


def keras_hub(tmp_path, layer, shape, dtype) -> Hub:
    x = keras.Input(shape, dtype=dtype, name="x")
    keras.Model(x, layer(x)).save(tmp_path / "m.keras")
    hub = run_step("import_keras", tmp_path / "m.keras", tmp_path / "hub")
    assert hub.error is None, hub.error
    return hub


def verified(hub: Hub, folder, *, targets=("onnx", "tflite", "pb")) -> None:
    exporters = {"onnx": to_onnx, "tflite": to_tflite, "pb": to_pb}
    for target in targets:
        result = exporters[target](hub, ExportJob(f"converted/x.{target}"), folder / f"x.{target}")
        assert result.verification.passed, (target, result.verification.message)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_oov_indices": 0},
        {"mask_token": 0},
        {"output_mode": "one_hot"},
        {"output_mode": "multi_hot"},
        {"output_mode": "count"},
        {"output_mode": "tf_idf", "idf_weights": [0.5, 1.5, 2.5]},
        {"invert": True},
    ],
    ids=str,
)
def test_integer_lookup(options, tmp_path):
    shape = (1,) if options.get("output_mode") == "one_hot" else (4,)
    hub = keras_hub(tmp_path, layers.IntegerLookup(vocabulary=[10, -20, 30], **options), shape, "int64")
    verified(hub, tmp_path)
    values = np.unique(np.concatenate([run.inputs[0].reshape(-1) for run in hub.reference()]))
    if "num_oov_indices" in options:
        assert set(values) == {10, -20, 30} and any("fails on values" in note for note in hub.notes)
    elif "invert" not in options:
        assert {10, -20, 30, -1, 11} <= set(values) and values.max() > 2**31


def test_what_a_table_holds_reaches_each_target_and_nothing_else_does(tmp_path):
    hub = keras_hub(tmp_path, layers.IntegerLookup(vocabulary=LARGE), (1,), "int64")
    verified(hub, tmp_path)
    asked = np.array([*LARGE, 0, -1, 2**24 + 2, 2**53 + 2, 2**62, -(2**63)], np.int64).reshape(-1, 1)
    expected = [1, 2, 3, 4, 5, 6, *[0] * 6]
    for model in (OnnxModel(tmp_path / "x.onnx"), TFLiteModel(tmp_path / "x.tflite")):
        assert model.run([asked])[0].reshape(-1).tolist() == expected


@pytest.mark.parametrize("base", [0, 2**24])
def test_whole_numbers_next_to_each_other_are_told_apart(base, tmp_path):
    """The table of neighbouring keys is one array, which ends at the right numbers."""
    hub = keras_hub(tmp_path, layers.IntegerLookup(vocabulary=[base + 5, base + 6, base + 8]), (1,), "int64")
    verified(hub, tmp_path)
    asked = np.arange(base + 3, base + 11).reshape(-1, 1)
    for model in (OnnxModel(tmp_path / "x.onnx"), TFLiteModel(tmp_path / "x.tflite")):
        assert model.run([asked])[0].reshape(-1).tolist() == [0, 0, 1, 2, 0, 3, 0, 0]


def test_many_keys_far_apart(tmp_path):
    keys = np.random.default_rng(0).choice(2**40, 1500, replace=False) - 2**39
    hub = keras_hub(tmp_path, layers.IntegerLookup(vocabulary=keys.tolist()), (3,), "int64")
    verified(hub, tmp_path, targets=("onnx", "tflite"))
    asked = np.concatenate([keys[::5], keys[::5] + 1]).reshape(-1, 3)
    expected = np.concatenate([np.arange(1, 1501)[::5], np.zeros(300, int)]).reshape(-1, 3)
    for model in (OnnxModel(tmp_path / "x.onnx"), TFLiteModel(tmp_path / "x.tflite")):
        np.testing.assert_array_equal(model.run([asked])[0], expected)


@pytest.mark.parametrize("options", [{}, {"mask_token": ""}, {"output_mode": "multi_hot"}], ids=str)
def test_texts_in_onnx_and_a_refusal_whose_advice_works(options, tmp_path):
    word = keras.Input((3,), dtype="string", name="word")
    other = keras.Input((2,), name="other")
    looked_up = layers.StringLookup(vocabulary=["red", "green", "blue"], name="colour", **options)(word)
    joined = layers.Concatenate()([layers.Rescaling(1.0)(looked_up), other])
    keras.Model([word, other], layers.Dense(2, name="score")(joined)).save(tmp_path / "m.keras")
    hub = run_step("import_keras", tmp_path / "m.keras", tmp_path / "hub")
    verified(hub, tmp_path, targets=("onnx", "pb"))
    held = {text for run in hub.reference() for text in run.inputs[0].reshape(-1)}
    assert {b"red", b"green", b"blue", b"redx", b""} <= held
    with pytest.raises(UnsupportedError, match='colour.*input_nodes "colour,other"'):
        to_tflite(hub, ExportJob("converted/x.tflite"), tmp_path / "x.tflite")
    cut = run_step("import_keras", tmp_path / "m.keras", tmp_path / "cut", input_nodes="colour,other")
    assert [spec.name for spec in cut.inputs] == ["colour", "other"]
    verified(cut, tmp_path, targets=("tflite",))


def test_texts_that_a_table_gives(tmp_path):
    hub = keras_hub(tmp_path, layers.StringLookup(vocabulary=["a", "b"], invert=True), (4,), "int64")
    verified(hub, tmp_path)


def test_hashing_is_refused_by_layer(tmp_path):
    hub = keras_hub(tmp_path, layers.Hashing(num_bins=5, name="bucket"), (3,), "int64")
    with pytest.raises(UnsupportedError, match='StringToHashBucketFast \\(in bucket\\).*input_nodes "bucket"'):
        to_onnx(hub, ExportJob("converted/x.onnx"), tmp_path / "x.onnx")
    with pytest.raises(UnsupportedError, match="in bucket.*quantization.opsset tf"):
        to_tflite(hub, ExportJob("converted/x.tflite"), tmp_path / "x.tflite")
    result = to_tflite(hub, ExportJob("c/x.tflite", quantization={"opsset": "tf"}), tmp_path / "x.tflite")
    assert result.verification.passed


@pytest.mark.parametrize("mode", ["int", "one_hot", "multi_hot", "count"])
def test_discretization_on_and_beside_its_edges(mode, tmp_path):
    layer = layers.Discretization(bin_boundaries=[18.0, 30.0, 50.0], output_mode=mode)
    hub = keras_hub(tmp_path, layer, (1,) if mode == "one_hot" else (2,), "float32")
    verified(hub, tmp_path)
    drawn = np.concatenate([run.inputs[0].reshape(-1) for run in hub.reference()])
    assert {18.0, 24.0, 30.0, 50.0} <= set(drawn.tolist()) and drawn.min() < 0 and drawn.max() > 50
    if mode == "int":
        asked = np.array([[17.99, 18.0], [np.nan, np.inf], [-np.inf, 50.0]], np.float32)
        for model in (OnnxModel(tmp_path / "x.onnx"), TFLiteModel(tmp_path / "x.tflite")):
            assert model.run([asked])[0].tolist() == [[0, 1], [3, 3], [0, 3]]


@pytest.mark.parametrize("mode", ["multi_hot", "count"])
def test_category_encoding(mode, tmp_path):
    verified(keras_hub(tmp_path, layers.CategoryEncoding(num_tokens=4, output_mode=mode), (3,), "int64"), tmp_path)


def mutable(module):
    module.table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.float32, default_value=[0.5, -0.5])
    module.table.insert(tf.constant([4, -2], tf.int64), tf.constant([[1.0, 2.0], [3.0, 4.0]]))
    return lambda x: {"y": module.table.lookup(x)}


def chained(module):
    """Two tables, one of which is read twice; the size of a table is part of the model too."""
    module.first = tf.lookup.StaticHashTable(pairs([1, 2], [7, 8]), 0)
    module.second = tf.lookup.StaticHashTable(pairs([7, 100], [1.5, 2.5], value_type=tf.float32), 9.0)
    return lambda x: {
        "y": module.second.lookup(module.first.lookup(x)),
        "z": module.first.lookup(x + 1) * module.first.size(),
    }


def in_a_branch(module):
    module.table = tf.lookup.StaticHashTable(pairs([1, 2], [7, 8]), -3)
    return lambda x: {"y": tf.cond(tf.reduce_max(x) > 1, lambda: module.table.lookup(x), lambda: x * 5)}


def empty(module):
    module.table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, default_value=3)
    return lambda x: {"y": module.table.lookup(x) + x}


def beside_an_embedding(module):
    """Which input a branch looks up is not known, and the other takes no numbers above 3."""
    module.table = tf.lookup.StaticHashTable(pairs([100, 2], [7, 8]), -3)
    rows = tf.constant([5, 6, 7, 8], tf.int64)
    return lambda x: {
        "y": tf.gather(rows, x) + tf.cond(tf.reduce_max(x) > 1, lambda: module.table.lookup(x), lambda: x)
    }


def unread(module):
    """As above, and the numbers that the other takes are no keys."""
    module.table = tf.lookup.StaticHashTable(pairs([100, 200], [7, 8]), -3)
    rows = tf.constant([5, 6, 7, 8], tf.int64)
    return lambda x: {
        "y": tf.gather(rows, x) + tf.cond(tf.reduce_max(x) > 1, lambda: module.table.lookup(x), lambda: x)
    }


def small_keys(module):
    module.table = tf.lookup.StaticHashTable(pairs([5, 7, -3], [1, 2, 3], tf.int32, tf.int32), -1)
    return lambda x: {"y": module.table.lookup(x)}


BUILDS = [mutable, chained, in_a_branch, empty, beside_an_embedding, small_keys]


@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.__name__)
def test_tables_of_a_saved_model(build, tmp_path):
    dtype = tf.int32 if build is small_keys else tf.int64
    source = saved_model(tmp_path / "m", (None, 3), dtype, build)
    hub = run_step("import_savedmodel", source, tmp_path / "hub")
    assert hub.error is None and hub.extra["resources"] == []
    verified(hub, tmp_path)
    assert hub.unproven is None
    if build is beside_an_embedding:
        assert any("others were compared" in note for note in hub.notes)
    elif build is not empty:
        drawn = {value for run in hub.reference() for value in run.inputs[0].reshape(-1).tolist()}
        held = {mutable: {4, -2}, small_keys: {5, 7, -3}}.get(build, {1, 2})
        assert held <= drawn and -1 in drawn


def test_a_table_of_which_no_key_can_be_drawn_is_not_proven(tmp_path):
    source = saved_model(tmp_path / "m", (None, 3), tf.int64, unread)
    hub = run_step("import_savedmodel", source, tmp_path / "hub")
    assert "no value of x" in hub.unproven and "verify.inputs" in hub.unproven


def test_texts_to_texts_of_a_saved_model(tmp_path):
    def build(module):
        module.table = tf.lookup.StaticHashTable(pairs(["a", "b"], ["x", "y"], tf.string, tf.string), "?")
        return lambda x: {"y": module.table.lookup(x)}

    hub = run_step("import_savedmodel", saved_model(tmp_path / "m", (None,), tf.string, build), tmp_path / "hub")
    verified(hub, tmp_path, targets=("onnx", "pb"))
    results = OnnxModel(tmp_path / "x.onnx").run([np.array([b"b", b"a", b"ab", b""], object)])
    assert results[0].tolist() == ["y", "x", "?", "?"]


def test_a_table_that_the_model_changes_is_refused(tmp_path):
    def build(module):
        module.table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, default_value=0)

        def call(x):
            module.table.insert(x, x * 2)
            return {"y": module.table.lookup(x)}

        return call

    source = saved_model(tmp_path / "m", (None, 3), tf.int64, build)
    assert "changes its lookup table" in refused("import_savedmodel", source, tmp_path / "hub")


def tf1_graph(session=None):
    x = v1.placeholder(tf.int64, [None, 3], name="x")
    table = tf.lookup.StaticHashTable(pairs([5, 7, -3], [1, 2, 3]), 0)
    weights = tf.constant(np.arange(8, dtype=np.float32).reshape(4, 2))
    if session is not None:
        weights = v1.get_variable("w", initializer=weights)
    return x, tf.identity(tf.gather(weights, table.lookup(x)), name="y")


def test_tables_of_a_frozen_graph(tmp_path):
    with tf.Graph().as_default() as graph:
        tf1_graph()
    (tmp_path / "m.pb").write_bytes(graph.as_graph_def().SerializeToString())
    hub = run_step("import_protobuf", tmp_path / "m.pb", tmp_path / "hub", output_nodes="y")
    assert hub.error is None, hub.error
    verified(hub, tmp_path)
    drawn = {value for run in hub.reference() for value in run.inputs[0].reshape(-1).tolist()}
    assert {5, 7, -3, -1} <= drawn


def test_a_frozen_graph_that_does_not_fill_its_table_is_refused(tmp_path):
    with tf.Graph().as_default() as graph:
        tf1_graph()
    kept = [node for node in graph.as_graph_def().node if not node.op.startswith(("LookupTableImport", "Initialize"))]
    (tmp_path / "m.pb").write_bytes(v1.GraphDef(node=kept).SerializeToString())
    message = refused("import_protobuf", tmp_path / "m.pb", tmp_path / "hub", output_nodes="y")
    assert "does not say what its lookup table" in message and "input_nodes" in message


def test_tables_of_a_checkpoint_and_of_its_saved_model(tmp_path):
    with tf.Graph().as_default(), v1.Session() as session:
        x, y = tf1_graph(session)
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        v1.train.Saver().save(session, str(tmp_path / "model.ckpt"))
        builder = v1.saved_model.Builder(str(tmp_path / "saved"))
        signature = v1.saved_model.predict_signature_def({"x": x}, {"y": y})
        builder.add_meta_graph_and_variables(
            session, ["serve"], {"serving_default": signature}, main_op=v1.tables_initializer()
        )
        builder.save()
    hub = run_step("import_checkpoint", tmp_path / "model.ckpt.meta", tmp_path / "hub", output_nodes="y")
    verified(hub, tmp_path)
    verified(run_step("import_savedmodel", tmp_path / "saved", tmp_path / "other"), tmp_path)


def test_comparisons_of_large_whole_numbers_and_of_fractions_in_onnx(tmp_path):
    """tf2onnx casts the first to float32, and compares the second as whole numbers below opset 11."""

    def compare(n, x):
        limit = tf.constant(2**24 + 1, tf.int64)
        return n < limit, n >= limit, tf.equal(x, 0.25), x <= 0.25

    specs = [tf.TensorSpec([None], tf.int64, "n"), tf.TensorSpec([None], tf.float32, "x")]
    hub = make_hub(tmp_path / "hub", compare, specs, ["less", "not_less", "same", "below"])
    numbers = np.array([2**24, 2**24 + 1, 2**24 + 2], np.int64)
    fractions = np.array([0.75, 0.25, np.nan], np.float32)
    for opset in (9, 10, 13):
        to_onnx(hub, ExportJob("converted/x.onnx", onnx_opset=opset), tmp_path / "x.onnx")
        results = OnnxModel(tmp_path / "x.onnx").run([numbers, fractions])
        assert [result.tolist() for result in results] == [
            [True, False, False],
            [False, True, True],
            [False, True, False],
            [False, True, False],
        ]


def test_a_table_that_is_filled_from_a_file_needs_trust(tmp_path):
    (tmp_path / "words.txt").write_text("alpha\nbeta\n")
    with tf.Graph().as_default() as graph:
        x = v1.placeholder(tf.string, [None], name="x")
        whole, number = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
        lines = tf.lookup.TextFileInitializer(str(tmp_path / "words.txt"), tf.string, whole, tf.int64, number)
        tf.identity(tf.lookup.StaticHashTable(lines, -1).lookup(x), name="y")
    (tmp_path / "m.pb").write_bytes(graph.as_graph_def().SerializeToString())
    assert "reads files" in refused("import_protobuf", tmp_path / "m.pb", tmp_path / "hub", output_nodes="y")
    hub = run_step("import_protobuf", tmp_path / "m.pb", tmp_path / "hub", output_nodes="y", trusted=True)
    (tmp_path / "words.txt").unlink()
    verified(hub, tmp_path, targets=("onnx", "pb"))
    assert OnnxModel(tmp_path / "x.onnx").run([np.array([b"beta", b"x"], object)])[0].tolist() == [1, -1]


def test_a_lookup_within_a_loop_of_tensorflow_1(tmp_path):
    """Constants belong to such a loop only through their control inputs."""
    with tf.Graph().as_default() as graph:
        v1.disable_control_flow_v2()
        try:
            x = v1.placeholder(tf.int64, [2, 3], name="x")
            table = tf.lookup.StaticHashTable(pairs([1, 2, 3], [2, 3, 900]), -4)
            body = lambda i, a: (i + 1, table.lookup(a) + 0 * a)  # noqa: E731
            tf.identity(v1.while_loop(lambda i, a: i < 2, body, (tf.constant(0), x))[1], name="y")
        finally:
            v1.enable_control_flow_v2()
    assert any(node.op == "Enter" for node in graph.as_graph_def().node)
    (tmp_path / "m.pb").write_bytes(graph.as_graph_def().SerializeToString())
    hub = run_step("import_protobuf", tmp_path / "m.pb", tmp_path / "hub", output_nodes="y")
    assert hub.error is None, hub.error
    verified(hub, tmp_path, targets=("pb", "onnx"))


def test_the_same_model_gives_the_same_bytes(tmp_path):
    x = keras.Input((2,), dtype="int64", name="x")
    keras.Model(x, layers.IntegerLookup(vocabulary=LARGE, name="ids")(x)).save(tmp_path / "m.keras")
    made = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        hub = run_step("import_keras", tmp_path / "m.keras", folder / "hub")
        verified(hub, folder, targets=("onnx", "tflite"))
        files = (hub.graph_path, hub.path / "reference.npz", folder / "x.onnx", folder / "x.tflite")
        made.append([file.read_bytes() for file in files])
    assert made[0] == made[1]
