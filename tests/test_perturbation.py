"""A wrong weight must never be published: one weight changed by 1 % behind the importer's back, and nothing appears."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from conftest import ROOT, Project, last_line

from converter.weights import Weights, write_weights


def _perturb(project: Project, model: str, place: float) -> str:
    """Scale the weight at that place (0 first, 1 last, in the source's order) by 1 %; returns its name."""
    (hub,) = (project.folder / "intermediate").glob(f"{model}-*")
    path = hub / "weights.safetensors"
    stored = Weights(path)
    arrays = {name: np.array(stored[name]) for name in stored}
    floats = [name for name in arrays if arrays[name].dtype.kind == "f" and arrays[name].ndim > 1]
    name = floats[round(place * (len(floats) - 1))]
    arrays[name] = (arrays[name] * 1.01).astype(arrays[name].dtype)
    del stored
    write_weights(path, arrays)
    return name


def _digits(project: Project) -> None:
    shutil.copy(ROOT / "models" / "digits.h5", project.folder / "models" / "scaled.h5")


def _recurrent(project: Project) -> None:
    import keras

    keras.utils.set_random_seed(3)
    inputs = keras.Input((12,), dtype="int32", name="tokens")
    hidden = keras.layers.Embedding(50, 16, embeddings_initializer="random_normal")(inputs)
    hidden = keras.layers.Bidirectional(keras.layers.LSTM(8, return_sequences=True))(hidden)
    outputs = keras.layers.Dense(3, name="scores")(keras.layers.GRU(8)(hidden))
    keras.Model(inputs, outputs).save(project.folder / "models" / "scaled.keras")


def _module(project: Project) -> None:
    import tensorflow as tf

    class Scorer(tf.Module):
        def __init__(self) -> None:
            rng = np.random.default_rng(5)
            self.first = tf.Variable(rng.normal(size=(3, 3, 2, 6)).astype(np.float32))
            self.second = tf.Variable(rng.normal(size=(6, 4)).astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec((None, 9, 9, 2), tf.float32, name="image")])
        def __call__(self, image):  # noqa: ANN001, ANN204
            hidden = tf.nn.relu(tf.nn.conv2d(image, self.first, 2, "SAME"))
            return {"scores": tf.reduce_mean(hidden, [1, 2]) @ self.second}

    module = Scorer()
    tf.saved_model.save(module, str(project.folder / "models" / "scaled"), signatures=module.__call__)


@pytest.mark.parametrize("make", [_digits, _recurrent, _module], ids=["keras2d", "recurrent", "savedmodel"])
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0], ids=["early", "middle", "last"])
def test_perturbed_weight_is_not_published(project: Project, make, place: float) -> None:
    make(project)
    inspected = project.snakemake("reports/scaled.inspect.json")
    assert inspected.returncode == 0, inspected.stderr
    weight = _perturb(project, "scaled", place)
    run = project.snakemake("converted/scaled.onnx", "converted/scaled.tflite")
    assert run.returncode == 1
    assert project.converted() == [], f"published with a wrong {weight}"
    for name in ("scaled.onnx", "scaled.tflite"):
        report = project.report(name)
        assert report["status"] == "inaccurate", (weight, report["reason"])
        assert (project.folder / "rejected" / name).is_file()
    assert "does not compute what the source computes" in last_line(run)
