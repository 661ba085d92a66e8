"""One sentence per mistake: each says what to change, the exit status is 1, nothing half-made stays, others are made.

All sources are wrong in their own way and asked for in one run, as in a user's list of models.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, Project

# target, what the sentence must name: the file or parameter, and what to write instead
EXPECTED = {
    "digitz.onnx": ["no source for digitz", "did you mean digits?"],
    "twice.onnx": ["models/twice.h5", "models/twice.keras", "convert_from"],
    "digits.onxx": [".onxx is no target format", ".onnx"],
    "lostnode.onnx": ["output_nodes", "nonesuch", "scores"],
    "unfrozen.onnx": ["unfrozen.pb", "checkpoint"],
    "onlyweights.onnx": ["onlyweights.h5", "network_script", "network_name"],
    "nosignature.onnx": ["nosignature", "signature"],
    "wrongtag.onnx": ["savedmodel_tag", "serve"],
    "wrongsignature.onnx": ["savedmodel_signature", "serving_default"],
    "truncated.onnx": ["truncated.h5"],
    "empty.onnx": ["empty.pb", "empty"],
    "objects.onnx": ["objects.index", "SavedModel"],
    "words.tflite": ["text", "TensorFlow Lite"],
    "determinant.onnx": ["opset 7", "onnx_opset"],
    "open.onnx": ["input_shape"],
}
MODELS = {
    "lostnode": {"input_nodes": "x", "output_nodes": "nonesuch:0"},
    "wrongtag": {"savedmodel_tag": "train"},
    "wrongsignature": {"savedmodel_signature": "predict"},
    "determinant": {"onnx_opset": 7},
}


def _graph(path: Path, build, frozen: bool = True) -> None:
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        build(tf)
    path.write_bytes(graph.as_graph_def().SerializeToString())


def _scores(tf) -> None:
    x = tf.compat.v1.placeholder(tf.float32, (None, 4), name="x")
    tf.identity(tf.nn.softmax(x @ tf.constant(np.eye(4, 3, dtype=np.float32))), name="scores")


def _unfrozen(tf) -> None:
    x = tf.compat.v1.placeholder(tf.float32, (None, 4), name="x")
    weight = tf.compat.v1.get_variable("weight", (4, 3), use_resource=False)
    tf.identity(x @ weight, name="scores")


def _determinant(tf) -> None:
    """ONNX has the operator since opset 11."""
    x = tf.compat.v1.placeholder(tf.float32, (None, 4, 4), name="x")
    tf.identity(tf.linalg.det(x), name="scores")


def _open(tf) -> None:
    """Sizes must agree with a weight that only the user can know of."""
    x = tf.compat.v1.placeholder(tf.float32, (None, None), name="x")
    tf.identity(tf.reshape(x, (-1, 4321)) @ tf.constant(np.ones((4321, 2), np.float32)), name="scores")


def _saved_models(models: Path) -> None:
    import tensorflow as tf

    class Plain(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 2), tf.float32, name="x")])
        def score(self, x):  # noqa: ANN001, ANN202
            return {"y": tf.nn.tanh(x)}

    plain = Plain()
    silent = tf.Module()  # a function without an input signature gives a SavedModel without one
    silent.score = tf.function(lambda x: tf.nn.tanh(x))
    tf.saved_model.save(silent, str(models / "nosignature"))
    for name in ("wrongtag", "wrongsignature"):
        tf.saved_model.save(plain, str(models / name), signatures=plain.score)

    class Words(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="text")])
        def score(self, text):  # noqa: ANN001, ANN202
            return {"length": tf.cast(tf.strings.length(text), tf.float32)}

    words = Words()
    tf.saved_model.save(words, str(models / "words"), signatures=words.score)
    tf.train.Checkpoint(weight=tf.Variable([1.0])).write(str(models / "objects"))


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory):
    """One run with every mistake, and one target without."""
    import keras

    project = Project(tmp_path_factory.mktemp("errors"))
    models = project.folder / "models"
    digits = ROOT / "models" / "digits.h5"
    shutil.copy(digits, models / "digits.h5")
    for name in ("twice.h5", "twice.keras"):
        shutil.copy(digits, models / name)
    (models / "truncated.h5").write_bytes(digits.read_bytes()[:100_000])
    (models / "empty.pb").write_bytes(b"")
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    network.save_weights(models / "onlyweights.weights.h5")
    (models / "onlyweights.weights.h5").rename(models / "onlyweights.h5")
    _graph(models / "lostnode.pb", _scores)
    _graph(models / "unfrozen.pb", _unfrozen)
    _graph(models / "determinant.pb", _determinant)
    _graph(models / "open.pb", _open)
    _saved_models(models)
    targets = [f"converted/{name}" for name in [*EXPECTED, "digits.onnx"]]
    run = project.snakemake(*targets, config={"models": MODELS})
    sentences = {}
    for line in run.stderr.splitlines():
        target, _, sentence = line.partition(": ")
        if target.startswith("converted/"):
            sentences[target.removeprefix("converted/")] = sentence
    return project, run, sentences


@pytest.mark.parametrize("target", EXPECTED)
def test_each_mistake_has_its_sentence(outcome, target: str) -> None:
    project, _, sentences = outcome
    assert target in sentences
    for words in EXPECTED[target]:
        assert words in sentences[target], sentences[target]
    assert "Traceback" not in sentences[target]
    assert "(see the log)" not in sentences[target]
    report = project.report(target)
    assert report["status"] == "failed"
    assert report["reason"]


def test_others_are_made_and_nothing_else(outcome) -> None:
    project, run, sentences = outcome
    assert run.returncode == 1
    assert project.converted() == ["digits.onnx"]
    assert project.report("digits.onnx")["status"] == "verified"
    assert set(sentences) == set(EXPECTED)
    last = run.stderr.strip().splitlines()[-len(EXPECTED) :]
    assert all(line.startswith("converted/") for line in last), "the sentences are the last words"


def test_a_failure_is_repeated_without_work(outcome) -> None:
    project, _, sentences = outcome
    again = project.snakemake("converted/unfrozen.onnx", config={"models": MODELS})
    assert again.returncode == 1
    assert again.stderr.strip().splitlines()[-1] == f"converted/unfrozen.onnx: {sentences['unfrozen.onnx']}"
