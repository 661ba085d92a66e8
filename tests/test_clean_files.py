"""Converted files are as clean as those of the official routes: operators, no work left that a converter should do."""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
import tf2onnx
from conftest import ROOT
from imports import imported
from keras import layers

from converter.contracts import ExportJob

sys.path.insert(0, str(ROOT / "benchmarks"))

from clean import leftover_nodes, onnx_operators, tflite_operators


def network() -> keras.Model:
    """Filters and matrices above and below the size at which weights are kept outside of the graph."""
    inputs = x = keras.Input((24, 24, 3), name="image")
    x = layers.Conv2D(32, 3, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    y = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.Add()([x, layers.ReLU(6.0)(layers.Conv2D(32, 1)(y))])
    x = layers.Conv2D(96, 5, strides=2, activation="relu")(layers.MaxPooling2D(2)(x))
    x = layers.Dense(48, activation="relu")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(5, activation="softmax", name="classes")(x))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The model, and its hub."""
    folder = tmp_path_factory.mktemp("clean")
    keras.utils.set_random_seed(1)
    model = network()
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_variance.assign(np.random.default_rng(0).uniform(0.5, 2, 32))
    model.save(folder / "m.h5")
    return model, imported("import_keras", folder / "m.h5", folder / "hub")


def test_onnx(source, tmp_path: Path):
    from export_onnx import export_model

    model, hub = source
    ours, theirs = tmp_path / "ours.onnx", tmp_path / "theirs.onnx"
    result = export_model(hub, ExportJob("converted/m.onnx"), ours)
    assert result.verification.passed
    tf2onnx.convert.from_keras(model, opset=result.opset, output_path=str(theirs))
    onnx.checker.check_model(str(ours), full_check=True)
    assert onnx_operators(ours).total() <= onnx_operators(theirs).total()
    assert onnx_operators(ours)["Conv"] == onnx_operators(theirs)["Conv"] == 4
    assert leftover_nodes(ours) == []
    assert ours.stat().st_size < 1.02 * theirs.stat().st_size


def test_tflite(source, tmp_path: Path):
    from export_tflite import export_model

    model, hub = source
    ours, theirs = tmp_path / "ours.tflite", tmp_path / "theirs.tflite"
    assert export_model(hub, ExportJob("converted/m.tflite"), ours).verification.passed
    theirs.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    assert tflite_operators(ours) == tflite_operators(theirs)
    assert ours.stat().st_size < 1.02 * theirs.stat().st_size


def test_leftovers_are_seen(tmp_path: Path):
    """A transposed weight that was not folded, beside one that is."""
    helper, path = onnx.helper, tmp_path / "x.onnx"
    weight = onnx.numpy_helper.from_array(np.ones((2, 3), np.float32), "w")
    nodes = [helper.make_node("Transpose", ["w"], ["t"], name="left"), helper.make_node("MatMul", ["x", "t"], ["y"])]
    values = [helper.make_tensor_value_info(name, 1, [None, size]) for name, size in (("x", 3), ("y", 2))]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:], [weight])), path)
    assert leftover_nodes(path) == ["Transpose left"]
