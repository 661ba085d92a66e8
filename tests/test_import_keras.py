"""Keras files into the hub: of Keras 2 and 3, with all that their authors put into them."""

import json
import re
import sys
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from imports import imported, names, no_large_constants, refused, run_graph

from converter.hub.informative import typical

SCRIPT = "import_keras"
BOTH = pytest.mark.parametrize("library", [keras, tf_keras], ids=["keras3", "keras2"])


def _seed(library):
    library.utils.set_random_seed(3)


def _two_headed(library):
    """Two inputs and two outputs, whose order differs from the alphabet's."""
    _seed(library)
    layers = library.layers
    words = layers.Input((6,), dtype="int32", name="words")
    image = layers.Input((8, 8, 3), name="image")
    left = layers.LSTM(5)(layers.Embedding(40, 4)(words))
    right = layers.Flatten()(layers.Conv2D(4, 3, activation="relu", name="conv")(image))
    joined = layers.Concatenate(name="joined")([left, right])
    return library.Model([words, image], [layers.Dense(3, name="zeta")(joined), layers.Dense(2, name="alpha")(joined)])


@BOTH
@pytest.mark.parametrize("suffix", ["h5", "hdf5", "keras"])
def test_names_order_and_values_survive(library, suffix, tmp_path):
    model = _two_headed(library)
    model.save(tmp_path / f"m.{suffix}", **({"save_format": "h5"} if library is tf_keras and suffix != "keras" else {}))
    hub = imported(SCRIPT, tmp_path / f"m.{suffix}", tmp_path / "hub")
    assert names(hub.inputs) == ["words", "image"]
    assert names(hub.outputs) == ["zeta", "alpha"]
    assert [spec.shape for spec in hub.inputs] == [(None, 6), (None, 8, 8, 3)]
    assert [spec.dtype for spec in hub.inputs] == ["int32", "float32"]
    assert hub.batch_dynamic
    assert hub.parameters_count == model.count_params()
    assert sorted({len(run.inputs[0]) for run in hub.reference()[:2]}) == [1, 3]
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 40, (5, 6)).astype(np.int32), rng.standard_normal((5, 8, 8, 3)).astype(np.float32)]
    for actual, expected in zip(run_graph(hub, arrays), model(arrays), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    # Keras 2's LSTM can be fused by TFLite, if its functions are kept.
    assert hub.direct == ("saved_model" if library is tf_keras else None)
    if hub.direct:
        signature = tf.saved_model.load(str(hub.path / hub.direct)).signatures["serving_default"]
        result = signature(words=tf.constant(arrays[0]), image=tf.constant(arrays[1]))
        np.testing.assert_allclose(result["zeta"], model(arrays)[0], rtol=1e-5, atol=1e-6)


@BOTH
def test_indices_stay_below_the_rows_of_the_table(library, tmp_path):
    """A float input that Keras 2 casts to integers looks up a table too."""
    _seed(library)
    layers = library.layers
    model = library.Sequential([layers.Input((5,), name="ids"), layers.Embedding(7, 3), layers.GRU(4)])
    model.save(tmp_path / "m.h5")
    hub = imported(SCRIPT, tmp_path / "m.h5", tmp_path / "hub")
    assert hub.extra["vocabulary"] == {"ids": 7}
    assert all(run.inputs[0].min() >= 0 and run.inputs[0].max() < 7 for run in hub.reference())
    assert np.ptp(hub.reference()[1].outputs[0]) > 0


def test_unknown_height_and_width(tmp_path):
    _seed(keras)
    layers = keras.layers
    image = layers.Input((None, None, 3), name="image")
    x = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(image)
    x = layers.UpSampling2D(interpolation="bilinear")(x)
    x = layers.Conv2DTranspose(2, 3, strides=2, padding="same")(x)
    model = keras.Model(image, x)
    model.save(tmp_path / "m.keras")
    hub = imported(SCRIPT, tmp_path / "m.keras", tmp_path / "hub")
    assert hub.inputs[0].shape == (None, None, None, 3)
    assert len({run.inputs[0].shape[1] for run in hub.reference() if run.kind == "typical"}) == 2
    data = np.random.default_rng(0).standard_normal((2, 18, 10, 3)).astype(np.float32)
    np.testing.assert_allclose(run_graph(hub, [data])[0], model(data), rtol=1e-5, atol=1e-6)
    fixed = imported(SCRIPT, tmp_path / "m.keras", tmp_path / "fixed", input_shape="1,16,32,3")
    assert fixed.inputs[0].shape == (1, 16, 32, 3)
    assert fixed.outputs[0].shape == (1, 32, 64, 2)
    assert not fixed.batch_dynamic


def test_input_shape_that_does_not_fit(tmp_path):
    _two_headed(keras).save(tmp_path / "m.h5")
    message = refused(SCRIPT, tmp_path / "m.h5", tmp_path / "hub", input_shape="1,6")
    assert "2 inputs (words, image)" in message
    message = refused(SCRIPT, tmp_path / "m.h5", tmp_path / "hub", input_shape="1,6;1,8,8")
    assert "image has 4 dimensions" in message
    message = refused(SCRIPT, tmp_path / "m.h5", tmp_path / "hub", input_shape="float32:1,6;1,8,8,3")
    assert "words is int32" in message


@BOTH
def test_outputs_that_the_user_names(library, tmp_path):
    model = _two_headed(library)
    model.save(tmp_path / "m.h5")
    hub = imported(SCRIPT, tmp_path / "m.h5", tmp_path / "hub", output_nodes="alpha/BiasAdd:0,joined")
    assert names(hub.outputs) == ["alpha/BiasAdd", "joined"]
    assert hub.outputs[1].shape == (None, 5 + 6 * 6 * 4)
    message = refused(SCRIPT, tmp_path / "m.h5", tmp_path / "hub", output_nodes="alfa")
    assert "alpha" in message
    message = refused(SCRIPT, tmp_path / "m.h5", tmp_path / "hub", output_nodes="conv/BiasAdd")
    assert "before the relu" in message


def test_large_weights_and_constants_lie_beside_the_graph(tmp_path):
    keras.utils.clear_session()  # names of layers count on from other tests' models
    _seed(keras)
    model = keras.Sequential([keras.layers.Input((64,)), keras.layers.Dense(3000), keras.layers.Dense(5)])
    model.save(tmp_path / "m.keras")
    hub = imported(SCRIPT, tmp_path / "m.keras", tmp_path / "hub")
    assert no_large_constants(hub)
    assert hub.graph_path.stat().st_size < 20_000
    assert hub.extra["variables"] == ["dense/kernel", "dense/bias", "dense_1/kernel", "dense_1/bias"]


def test_one_layer_with_two_outputs(tmp_path):
    _seed(tf_keras)
    x = tf_keras.layers.Input((4, 3), name="x")
    tf_keras.Model(x, tf_keras.layers.LSTM(2, return_state=True, name="rnn")(x)).save(tmp_path / "m.h5")
    hub = imported(SCRIPT, tmp_path / "m.h5", tmp_path / "hub")
    assert names(hub.outputs) == ["rnn", "rnn_1", "rnn_2"]


@BOTH
def test_a_stateful_layer_starts_afresh_in_each_run(library, tmp_path):
    _seed(library)
    layers = library.layers
    x = layers.Input(batch_shape=(2, 4, 3), name="x")
    model = library.Model(x, layers.GRU(3, stateful=True, name="rnn")(x))
    model.save(tmp_path / "m.h5")
    hub = imported(SCRIPT, tmp_path / "m.h5", tmp_path / "hub")
    assert any("keeps no state" in note for note in hub.notes)
    assert len(typical(hub.reference())) == 4


CUSTOM = """
{imports}
class Scale({base}):
    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor
    def call(self, x):
        return x * self.factor
    def get_config(self):
        return {{**super().get_config(), "factor": self.factor}}

def squash(x):
    return x / (1 + abs(x))
"""
IMPORTS = {
    "import keras": "keras.layers.Layer",
    "import tensorflow as tf": "tf.keras.layers.Layer",
    "from tensorflow.keras.layers import Layer": "Layer",
    "from keras.layers import Layer": "Layer",
}


@BOTH
@pytest.mark.parametrize("imports", IMPORTS)
def test_custom_layers_and_functions_come_from_the_script(library, imports, tmp_path):
    script = tmp_path / "my_layers.py"
    script.write_text(CUSTOM.format(imports=imports, base=IMPORTS[imports]))
    written = {}
    # The file as its author made it, with this Keras under its own name.
    exec(CUSTOM.format(imports=f"import {library.__name__} as keras", base="keras.layers.Layer"), written)
    _seed(library)
    layers = library.layers
    x = layers.Input((4,), name="x")
    y = written["Scale"](2.5)(layers.Dense(3, activation=written["squash"])(x))
    library.Model(x, y).save(tmp_path / "m.h5")
    assert re.search(
        "custom class or function (Scale|squash): give network_script",
        refused(SCRIPT, tmp_path / "m.h5", tmp_path / "hub"),
    )
    before = keras.layers.Dense, tf.keras.layers.Dense
    hub = imported(SCRIPT, tmp_path / "m.h5", tmp_path / "hub", network_script=str(script))
    assert (keras.layers.Dense, tf.keras.layers.Dense) == before
    assert 0.5 < np.abs(hub.reference()[1].outputs[0]).max() < 2.5


@BOTH
def test_modules_that_a_layer_imports_when_it_is_called_are_recorded(library, tmp_path, monkeypatch):
    """And nothing else: AutoGraph writes modules of its own while it traces a layer of Keras 2."""
    monkeypatch.chdir(tmp_path)
    code = """
import {name} as keras
class Late(keras.layers.Layer):
    def call(self, x):
        from factors_beside import FACTOR
        return x * FACTOR
"""
    Path("late_layers.py").write_text(code.format(name=library.__name__))
    Path("factors_beside.py").write_text("FACTOR = 2.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import late_layers

    _seed(library)
    x = library.layers.Input((4,), name="x")
    library.Model(x, late_layers.Late()(library.layers.Dense(3)(x))).save("m.h5")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    for name in ("late_layers", "factors_beside"):
        sys.modules.pop(name, None)
    hub = imported(SCRIPT, Path("m.h5"), Path("hub"), network_script="late_layers.py")
    # Relative ones lie here; other tests of this process may have loaded modules from elsewhere.
    recorded = [path for path, *_ in hub.user_code["files"] if not Path(path).is_absolute()]
    assert recorded == ["factors_beside.py", "late_layers.py"]
    assert "factors_beside" not in sys.modules


def test_custom_objects_mapping_of_the_script(tmp_path):
    script = tmp_path / "objects.py"
    script.write_text("custom_objects = {'warp': lambda x: x * 3}\n")
    _seed(tf_keras)
    x = tf_keras.layers.Input((4,), name="x")

    def warp(x):
        return x * 3

    tf_keras.Model(x, tf_keras.layers.Dense(3, activation=warp)(x)).save(tmp_path / "m.h5")
    assert "warp" in refused(SCRIPT, tmp_path / "m.h5", tmp_path / "hub")
    imported(SCRIPT, tmp_path / "m.h5", tmp_path / "hub", network_script=str(script))
    assert "there is no file" in refused(
        SCRIPT, tmp_path / "m.h5", tmp_path / "h", network_script=str(tmp_path / "x.py")
    )
    script.write_text("1 / 0")
    message = refused(SCRIPT, tmp_path / "m.h5", tmp_path / "h", network_script=str(script))
    assert "ZeroDivisionError" in message


NETWORK = """
from {package} import layers, Model
def network(classes, width=4):
    x = layers.Input((5,), name="x")
    return Model(x, layers.Dense(classes, name="y")(layers.Dense(width, activation="tanh")(x)))
"""


@pytest.mark.parametrize(
    ("library", "package"), [(keras, "keras"), (tf_keras, "tensorflow.keras"), (tf_keras, "tf_keras")]
)
def test_weights_alone_need_the_network(library, package, tmp_path):
    script = tmp_path / "net.py"
    script.write_text(NETWORK.format(package=package))
    _seed(library)
    layers = library.layers
    x = layers.Input((5,), name="x")
    model = library.Model(x, layers.Dense(2, name="y")(layers.Dense(8, activation="tanh")(x)))
    path = tmp_path / "m.weights.h5"
    model.save_weights(path)
    message = refused(SCRIPT, path, tmp_path / "hub")
    assert "network_script and network_name" in message
    network = {"network_script": str(script), "network_name": "network"}
    hub = imported(SCRIPT, path, tmp_path / "hub", **network, network_args={"classes": 2, "width": 8})
    data = np.random.default_rng(1).standard_normal((3, 5)).astype(np.float32)
    np.testing.assert_allclose(run_graph(hub, [data])[0], model(data), rtol=1e-5, atol=1e-6)
    assert "do not fit" in refused(SCRIPT, path, tmp_path / "hub", **network, network_args=[2])
    assert "network_args" in refused(SCRIPT, path, tmp_path / "hub", **network)
    message = refused(SCRIPT, path, tmp_path / "hub", network_script=str(script), network_name="netwrok")
    assert "it has network" in message


@BOTH
@pytest.mark.parametrize("suffix", ["h5", "keras"])
def test_bytecode_is_not_run_unless_trusted(library, suffix, tmp_path):
    _seed(library)
    layers = library.layers
    x = layers.Input((4,), name="x")
    inner = library.Sequential([layers.Input((3,)), layers.Lambda(lambda t: t * 2.0, output_shape=(3,), name="double")])
    library.Model(x, inner(layers.Dense(3)(x))).save(tmp_path / f"m.{suffix}")
    message = refused(SCRIPT, tmp_path / f"m.{suffix}", tmp_path / "hub")
    assert "double" in message
    assert "trusted: true" in message
    imported(SCRIPT, tmp_path / f"m.{suffix}", tmp_path / "hub", trusted=True)


def test_bytecode_of_another_python(tmp_path):
    x = tf_keras.layers.Input((4,), name="x")
    tf_keras.Model(x, tf_keras.layers.Lambda(lambda t: t * 2.0)(x)).save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        config = json.loads(file.attrs["model_config"])
        (layer,) = [entry for entry in config["config"]["layers"] if entry["class_name"] == "Lambda"]
        layer["config"]["function"][0] = "4wEAAAAAAAAA\n"
        file.attrs["model_config"] = json.dumps(config)
    assert "toolchain: tf2.3" in refused(SCRIPT, tmp_path / "m.h5", tmp_path / "hub", trusted=True)


def test_an_old_optimizer_does_not_matter(tmp_path):
    _seed(tf_keras)
    model = tf_keras.Sequential([tf_keras.layers.Input((3,)), tf_keras.layers.Dense(2)])
    model.compile("adam", "mse")
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    model.save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        training = json.loads(file.attrs["training_config"])
        training["optimizer_config"] = {"class_name": "LazyAdamOfOldContrib", "config": {}}
        file.attrs["training_config"] = json.dumps(training)
    imported(SCRIPT, tmp_path / "m.h5", tmp_path / "hub")


@BOTH
@pytest.mark.parametrize("suffix", ["h5", "keras"])
def test_damaged_files(library, suffix, tmp_path):
    path = tmp_path / f"m.{suffix}"
    _two_headed(library).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert "truncated" in refused(SCRIPT, path, tmp_path / "hub")
    path.write_bytes(b"")
    assert "is empty" in refused(SCRIPT, path, tmp_path / "hub")
    path.write_bytes(b"not a model at all")
    assert "no Keras file" in refused(SCRIPT, path, tmp_path / "hub")


@pytest.mark.parametrize("version", ["", "NaN", "three.1", "9" * 40])
def test_damaged_versions(version, tmp_path):
    """They choose between the two Keras, before either looks at the file."""
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"], file.attrs["model_config"] = version, "{}"
    assert "is damaged: it says that Keras" in refused(SCRIPT, path, tmp_path / "hub")
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("metadata.json", json.dumps({"keras_version": version}))
    assert "is damaged: it says that Keras" in refused(SCRIPT, tmp_path / "m.keras", tmp_path / "hub")
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("config.json", "[1]")
    assert "is no JSON object" in refused(SCRIPT, tmp_path / "m.keras", tmp_path / "hub")


def test_an_hdf5_file_of_something_else(tmp_path):
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["measurements"] = np.arange(10)
    assert "without a Keras model (measurements)" in refused(SCRIPT, tmp_path / "data.h5", tmp_path / "hub")


SUBCLASS = """
import keras
@keras.saving.register_keras_serializable("mine")
class Net(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(3)
        self.drop = keras.layers.Dropout(0.5)
    def call(self, batch, training=False):
        return {"scores": self.drop(self.dense(batch), training=training), "mean": keras.ops.mean(batch, axis=1)}
"""


def test_a_subclassed_model(tmp_path):
    script = tmp_path / "net.py"
    script.write_text(SUBCLASS)
    written = {}
    exec(SUBCLASS, written)
    _seed(keras)
    model = written["Net"]()
    model(np.ones((2, 4), np.float32))
    model.save(tmp_path / "m.keras")
    keras.saving.get_custom_objects().clear()
    message = refused(SCRIPT, tmp_path / "m.keras", tmp_path / "hub")
    assert "Net" in message
    assert "network_script" in message
    hub = imported(SCRIPT, tmp_path / "m.keras", tmp_path / "hub", network_script=str(script), input_shape="-1,4")
    assert names(hub.inputs) == ["batch"]
    assert names(hub.outputs) == ["mean", "scores"]
    assert hub.batch_dynamic


def test_the_same_source_gives_the_same_bytes(tmp_path):
    _two_headed(tf_keras).save(tmp_path / "m.h5")
    first = imported(SCRIPT, tmp_path / "m.h5", tmp_path / "first")
    second = imported(SCRIPT, tmp_path / "m.h5", tmp_path / "second")
    for name in ("graph.pb", "weights.safetensors"):
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes()
    for left, right in zip(first.reference(), second.reference(), strict=True):
        np.testing.assert_array_equal(left.inputs[0], right.inputs[0])
