"""Every source format and several inputs, in all five variants, from the command line to what the files hold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, Project
from quantized_files import VARIANTS, check_variant, targets

SCHEMA = json.loads((ROOT / "configs" / "report.schema.json").read_text())
RNG = np.random.default_rng(0)


def dense(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:-1]))).astype(np.float32)


def scores(x: tf.Tensor, hidden: np.ndarray, last: np.ndarray) -> tf.Tensor:
    """Two layers, (N, 24) -> (N, 6), more than 300,000 weights."""
    x = tf.nn.relu(tf.matmul(x, hidden, name="hidden"))
    return tf.matmul(tf.nn.relu(tf.matmul(x, last[0], name="middle")), last[1], name="scores")


def weights() -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    return dense(24, 500), (dense(500, 600), dense(600, 6))


def keras_lstm(path: Path) -> dict[str, np.ndarray]:
    """Sequences (N, 20, 16) through an LSTM of 256 units, as a Keras file."""
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.Input((20, 16), name="steps"), keras.layers.LSTM(256), keras.layers.Dense(6)]
    keras.Sequential(layers).save(path / "lstm.h5")
    return {"steps": RNG.standard_normal((150, 20, 16)).astype(np.float32)}


def frozen_graph(path: Path) -> dict[str, np.ndarray]:
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [None, 24], name="x")
        hidden, last = weights()
        scores(x, tf.constant(hidden), [tf.constant(value) for value in last])
    (path / "frozen.pb").write_bytes(graph.as_graph_def().SerializeToString())
    return {"x": RNG.standard_normal((150, 24)).astype(np.float32)}


def checkpoint(path: Path) -> dict[str, np.ndarray]:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None, 24], name="x")
        hidden, last = weights()
        variables = [tf.compat.v1.get_variable(f"w{i}", initializer=w) for i, w in enumerate([hidden, *last])]
        scores(x, variables[0], variables[1:])
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, str(path / "trained"), write_state=False)
    return {"x": RNG.standard_normal((150, 24)).astype(np.float32)}


def saved_model(path: Path) -> dict[str, np.ndarray]:
    """Images (N, 16, 16, 3), two convolutions."""
    first, second = tf.Variable(dense(3, 3, 3, 64)), tf.Variable(dense(5, 5, 64, 192))
    last = tf.Variable(dense(192, 6))

    class Net(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.variables_ = [first, second, last]

        @tf.function(input_signature=[tf.TensorSpec([None, 16, 16, 3], tf.float32, "image")])
        def __call__(self, image):
            x = tf.nn.relu(tf.nn.conv2d(image, first, 2, "SAME"))
            x = tf.nn.relu(tf.nn.conv2d(x, second, 2, "SAME"))
            return {"scores": tf.reduce_max(x, [1, 2]) @ last}

    net = Net()
    tf.saved_model.save(net, str(path / "saved"), signatures=net.__call__)
    return {"image": RNG.standard_normal((150, 16, 16, 3)).astype(np.float32)}


def two_inputs(path: Path) -> dict[str, np.ndarray]:
    """An image and a vector, and two outputs."""
    import keras

    keras.utils.set_random_seed(0)
    image, vector = keras.Input((12, 12, 3), name="image"), keras.Input((24,), name="vector")
    x = keras.layers.Conv2D(64, 3, activation="relu", kernel_initializer="he_normal")(image)
    x = keras.layers.Flatten()(keras.layers.MaxPooling2D(2)(x))
    x = keras.layers.Concatenate()([keras.layers.Dense(200, activation="relu")(x), vector])
    outputs = [keras.layers.Dense(6, name="scores")(x), keras.layers.Dense(3, name="place")(x)]
    keras.Model([image, vector], outputs).save(path / "pair.keras")
    return {
        "image": RNG.standard_normal((150, 12, 12, 3)).astype(np.float32),
        "vector": RNG.standard_normal((150, 24)).astype(np.float32),
    }


def pytorch(path: Path) -> dict[str, np.ndarray]:
    """Images (N, 3, 16, 16): in this layout the data, channels-last the file."""
    import torch

    torch.manual_seed(0)
    relu, flatten = torch.nn.ReLU(), torch.nn.Flatten()
    first, second = torch.nn.Conv2d(3, 32, 3, stride=2, padding=1), torch.nn.Conv2d(32, 96, 3, stride=2, padding=1)
    net = torch.nn.Sequential(
        first, relu, second, relu, flatten, torch.nn.Linear(96 * 16, 200), relu, torch.nn.Linear(200, 6)
    )
    torch.save(net.eval(), path / "torchnet.pt")
    return {"x": RNG.standard_normal((150, 3, 16, 16)).astype(np.float32)}


SOURCES = {
    "lstm": keras_lstm,
    "frozen": frozen_graph,
    "trained": checkpoint,
    "saved": saved_model,
    "pair": two_inputs,
    "torchnet": pytorch,
}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """All sources with their representative data, and all their targets made by one command."""
    project = Project(tmp_path_factory.mktemp("formats"))
    entries = {}
    for name, make in SOURCES.items():
        np.savez(project.folder / f"{name}.npz", **make(project.folder / "models"))
        entries[name] = {"quantization": {"load": f"{name}.npz"}}
    entries["torchnet"]["input_shape"] = "1,3,16,16"
    run = project.snakemake(*(target for name in SOURCES for target in targets(name)), config={"models": entries})
    assert run.returncode == 0, run.stderr
    return project


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", SOURCES)
def test_each_variant_of_each_source(project: Project, name, variant):
    plain = project.folder / f"converted/{name}.tflite"
    assert plain.stat().st_size > 1_000_000
    report = check_variant(project, SCHEMA, name, variant)
    described = report["metadata"]["quantization"]
    if variant in ("int8", "uint8"):
        assert described["calibration_samples"] == 120 and report["verification"]["samples"] == 30
        assert "held out" in described["evaluated_on"]


def test_channels_last_files_take_data_in_the_sources_layout(project: Project):
    report = project.report("torchnet.int8.tflite")
    assert report["inputs"][0]["shape"] == [None, 16, 16, 3]
    assert any("channels-last" in note for note in report["notes"])
