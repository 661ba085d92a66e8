"""Weights that pass by the converter give the same file as weights inside it, operator for operator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from export_tflite import export_model
from tf_hub import dense, make_hub, perturb

from converter.contracts import ExportJob
from converter.hub.hub import Hub
from converter.tf.tflite import deferred, export
from converter.tflite.flatbuffer import operators, read

RNG = np.random.default_rng(0)


def vector(size: int, low: float = 0.5, high: float = 2.0) -> tf.Variable:
    return tf.Variable(RNG.uniform(low, high, size).astype(np.float32))


FILTER, SQUARE = dense(RNG, 3, 3, 4, 6), dense(RNG, 1, 1, 6, 6)
MATRIX, TABLE = dense(RNG, 8, 6), dense(RNG, 12, 6)
SCALE, BIAS, MEAN, VARIANCE = vector(6), vector(6, -1, 1), vector(6, -1, 1), vector(6)
IMAGE, ROW = tf.TensorSpec([None, 8, 8, 4], tf.float32, "x"), tf.TensorSpec([None, 8], tf.float32, "x")


def conv(x: tf.Tensor, bias: bool = False) -> tf.Tensor:
    y = tf.nn.conv2d(x, FILTER, 1, "SAME")
    return tf.nn.bias_add(y, BIAS) if bias else y


def normalized(x: tf.Tensor) -> tf.Tensor:
    return tf.compat.v1.nn.fused_batch_norm(x, SCALE, BIAS, MEAN, VARIANCE, is_training=False)[0]


def written_out(x: tf.Tensor) -> tf.Tensor:
    """Batch normalization as Keras 3 traces it."""
    inverse = tf.math.rsqrt(tf.reshape(VARIANCE, [1, 1, 1, 6]) + 1e-3) * tf.reshape(SCALE, [1, 1, 1, 6])
    return x * inverse + (tf.reshape(BIAS, [1, 1, 1, 6]) - tf.reshape(MEAN, [1, 1, 1, 6]) * inverse)


def twice(x: tf.Tensor) -> tf.Tensor:
    y = conv(x)
    return tf.nn.relu(y * SCALE) + tf.tanh(y)


# name: (function, input, how many weights stay outside the converter)
CASES: dict[str, tuple[Callable, tf.TensorSpec, int]] = {
    "convolution": (lambda x: tf.nn.relu(conv(x, bias=True)), IMAGE, 1),
    "convolution, FusedBatchNorm": (lambda x: tf.nn.relu(normalized(conv(x))), IMAGE, 1),
    "convolution, bias, FusedBatchNorm": (lambda x: tf.nn.relu(normalized(conv(x, bias=True))), IMAGE, 1),
    "convolution, normalization written out": (lambda x: tf.nn.relu6(written_out(conv(x))), IMAGE, 1),
    "convolution, bias, normalization written out": (lambda x: written_out(conv(x, bias=True)), IMAGE, 1),
    "convolution, one factor": (lambda x: conv(x) * 0.17, IMAGE, 1),
    "convolution scaled in one of two uses": (twice, IMAGE, 0),
    "filter used twice": (
        lambda x: tf.nn.conv2d(tf.nn.conv2d(conv(x), SQUARE, 1, "SAME"), SQUARE, 1, "SAME"),
        IMAGE,
        2,
    ),
    "filter used twice, scaled once": (lambda x: (conv(x) * SCALE, conv(tf.nn.relu(x))), IMAGE, 0),
    "matrix": (lambda x: x @ MATRIX, ROW, 1),
    "matrix, bias, softmax": (lambda x: tf.nn.softmax(x @ MATRIX + BIAS), ROW, 1),
    "matrix, bias, normalization": (lambda x: tf.nn.relu((x @ MATRIX + BIAS) * SCALE + MEAN), ROW, 1),
    "matrix, transposed": (lambda x: tf.matmul(tf.matmul(x, MATRIX), MATRIX, transpose_b=True), ROW, 0),
    "matrix on sequences": (lambda x: tf.tensordot(tf.reshape(x, [-1, 1, 8]), MATRIX, 1), ROW, 1),
    "matrix that is an output": (lambda x: (x @ MATRIX, tf.identity(MATRIX)), ROW, 0),
    "embedding": (lambda x: tf.gather(TABLE, x), tf.TensorSpec([None, 3], tf.int32, "x"), 1),
    "separable in time": (lambda x: tf.nn.conv1d(tf.reshape(x, [-1, 2, 4]), FILTER[0], 1, "SAME"), ROW, 0),
    "channel factor on another axis": (lambda x: conv(x) * np.linspace(1, 2, 8, dtype=np.float32)[:, None], IMAGE, 0),
}


def convert(hub: Hub, path: Path) -> list[str]:
    result = export_model(hub, ExportJob("converted/x.tflite"), path)
    assert result.verification.passed, result.verification.message
    return [name for _, _, name in operators(read(path.read_bytes()))]


@pytest.mark.parametrize("case", CASES)
def test_same_operators_as_with_the_weights_inside(tmp_path, monkeypatch, case):
    function, spec, outside = CASES[case]
    count = len(tf.nest.flatten(function(tf.zeros([2 if dim is None else dim for dim in spec.shape], spec.dtype))))
    hub = make_hub(tmp_path / "hub", function, [spec], [f"y{i}" for i in range(count)])
    monkeypatch.setattr(deferred, "MIN_BYTES", 1 << 40)
    inside = convert(hub, tmp_path / "inside.tflite")
    monkeypatch.setattr(deferred, "MIN_BYTES", 100)
    placed: list[int] = []
    monkeypatch.setattr(export, "place", lambda m, a: (placed.append(len(a)), deferred.place(m, a)))
    assert convert(hub, tmp_path / "outside.tflite") == inside
    assert placed == [outside]
    model = read((tmp_path / "outside.tflite").read_bytes())
    used = {index for _, operator, _ in operators(model) for index in [*operator.inputs, *operator.outputs]}
    ends = {*model.subgraphs[0].inputs, *model.subgraphs[0].outputs}
    assert set(range(len(model.subgraphs[0].tensors))) == {index for index in used | ends if index >= 0}


def test_a_perturbed_weight_outside_the_converter_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(deferred, "MIN_BYTES", 100)
    for position in range(3):
        hub = make_hub(tmp_path / str(position), CASES["convolution, bias, FusedBatchNorm"][0], [IMAGE], ["y"])
        perturb(hub, hub.extra["variables"][position])
        assert not export_model(hub, ExportJob("converted/x.tflite"), tmp_path / "x.tflite").verification.passed
