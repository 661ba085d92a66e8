"""Halves, zeros, large values and infinities: where a target's usual formula leaves the source's."""

import numpy as np
import pytest
import tensorflow as tf
import torch
from special_hubs import export_to, function_hub, program_hub
from torch.nn import functional as F


def f32(*rows):
    return np.array(rows, np.float32)


FLOATS = {
    "typical": [f32([0.3, -0.7, 1.2, -2.2, 0.01, 3.3], [1, 2, 3, -1, -2, -3])],
    "ties": [f32([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], [3.5, 4.5, -3.5, -4.5, 0.49999997, -0.49999997])],
    "zeros": [np.zeros((2, 6), np.float32)],
    "large": [f32([1e4, -1e4, 1e6, -1e6, 88, -104], [1e4] * 6)],
}
INFINITE = f32([np.inf, -np.inf, 0, 1, np.inf, -3], [1, 2, 3, 4, 5, 6])


def quotients():
    """Quotients that float32 rounds up to whole numbers, and both signs."""
    a = [-7.5, -7, -3, -1, -0.5, 0, 0.5, 1, 3, 7, 7.5, 1e4, -1e5, 0.7, -0.3, 6, -6, 0.9]
    a, b = np.meshgrid(np.array(a, np.float32), np.array([-7, -2.5, -3, -1, 1, 2.5, 3, 0.3], np.float32))
    return {"typical": [a.reshape(-1, 6), b.reshape(-1, 6)]}


def assert_right(hub, targets, folder):
    for target in targets:
        result = export_to(hub, target, folder)
        assert result.verification.passed, f"{target}: {result.verification.message}"


def test_tensorflow_remainders_of_floats(tmp_path):
    hub = function_hub(
        tmp_path / "hub", lambda x, y: (x % y, x // y, tf.truncatemod(x, y), x % 0.3, x % -2.5), quotients()
    )
    assert_right(hub, ["onnx-10", "onnx-13", "onnx-18"], tmp_path)


def test_tensorflow_rounds_halves_to_even(tmp_path):
    samples = {**FLOATS, "infinite": [INFINITE]}
    hub = function_hub(tmp_path / "hub", lambda x: (tf.round(x), tf.math.rint(x)), samples)
    assert_right(hub, ["onnx-7", "onnx-10", "onnx-11", "tflite"], tmp_path)


def test_tensorflow_floats_are_equal_as_floats(tmp_path):
    """Below opset 11 too: 0.3 is not 0, and a NaN is not equal to anything."""

    def compare(x):
        return tf.equal(x, 0.0), tf.not_equal(x, tf.round(x)), tf.math.count_nonzero(x, 1)

    samples = {**FLOATS, "infinite": [INFINITE]}
    hub = function_hub(tmp_path / "hub", compare, samples)
    assert_right(hub, ["onnx-7", "onnx-10", "onnx-13"], tmp_path)
    samples["nan"] = [f32([np.nan, 1, 2, 0, -1, np.nan], [0] * 6)]
    hub = function_hub(tmp_path / "nan", lambda x: (tf.equal(x, x[:, :1]), tf.not_equal(x, 0.0)), samples)
    assert_right(hub, ["onnx-10", "onnx-13"], tmp_path)


def test_tensorflow_casts_places_and_sums_of_exponentials(tmp_path):
    """Whole numbers of halves and of negative floats; the first of equal numbers; infinities."""

    def functions(x):
        near = tf.clip_by_value(x, -1e6, 1e6)
        return tf.cast(near, tf.int32), tf.cast(x, tf.bool), tf.argmax(x, 1), tf.argmin(x, 1), tf.reduce_logsumexp(x, 1)

    assert_right(function_hub(tmp_path / "hub", functions, FLOATS), ["onnx-13", "tflite"], tmp_path)
    ends = FLOATS | {"infinite": [INFINITE]}
    sums = function_hub(tmp_path / "infinite", lambda x: (tf.reduce_logsumexp(x, 1), tf.argmax(x, 1)), ends)
    assert_right(sums, ["onnx-13", "tflite"], tmp_path)


def test_tensorflow_does_not_mix_what_it_chooses_from(tmp_path):
    """The logarithm of what is not chosen is NaN or infinite."""
    samples = FLOATS | {"infinite": [INFINITE]}
    choose = lambda x: (tf.where(x > 0, tf.math.log(x), x), tf.where(x < 1, x, 1.0), tf.where(x[:, :1] > 0, x, -x))  # noqa: E731
    assert_right(function_hub(tmp_path / "hub", choose, samples), ["onnx-10", "onnx-13", "tflite"], tmp_path)


@pytest.mark.parametrize("target", ["onnx-17", "onnx-18", "tflite", "keras"])
def test_pytorch_casts_places_and_sums_of_exponentials(tmp_path, target):
    def functions(x):
        whole = x.clamp(-1e6, 1e6).to(torch.int32)
        return whole, x.bool(), x.argmax(1), x.argmin(1), x.round(), x.sign(), x.logsumexp(1)

    assert_right(program_hub(tmp_path / "hub", functions, FLOATS | {"infinite": [INFINITE]}), [target], tmp_path)


def test_tensorflow_fake_quantization(tmp_path):
    """A range that is nudged to hold zero, a narrow one, and one for each channel."""

    def quantize(x):
        return (
            tf.quantization.fake_quant_with_min_max_args(x, -3, 4),
            tf.quantization.fake_quant_with_min_max_vars(x, -2.9, 4.0),
            tf.quantization.fake_quant_with_min_max_args(x, -127.0, 127.0, 8, True),
            tf.quantization.fake_quant_with_min_max_vars_per_channel(x, [-1.0] * 6, [1.0, 2, 3, 4, 5, 6]),
        )

    assert_right(function_hub(tmp_path / "hub", quantize, FLOATS), ["onnx-10", "onnx-13", "onnx-18"], tmp_path)


def test_tensorflow_softplus_of_large_values(tmp_path):
    hub = function_hub(tmp_path / "hub", lambda x: (tf.nn.softplus(x), tf.math.log_sigmoid(x)), FLOATS)
    assert_right(hub, ["tflite", "onnx-10"], tmp_path)


@pytest.mark.parametrize("target", ["onnx-10", "onnx-17", "onnx-18", "tflite", "keras"])
def test_pytorch_quotients_of_floats(tmp_path, target):
    def divide(x, y):
        return x // y, x % y, torch.fmod(x, y), x // 0.3, x % 0.3, torch.div(x, y, rounding_mode="floor")

    hub = program_hub(tmp_path / "hub", divide, quotients())
    assert (hub.reference()[0].outputs[0] != np.floor(np.divide(*hub.reference()[0].inputs))).any()
    assert_right(hub, [target], tmp_path)


@pytest.mark.parametrize("target", ["onnx-10", "onnx-17", "onnx-18", "tflite", "keras"])
def test_pytorch_functions_at_the_ends(tmp_path, target):
    def functions(x):
        return F.logsigmoid(x), F.softplus(x), x.logsumexp(1), x.log_softmax(1), torch.isfinite(x / (x - 1))

    assert_right(program_hub(tmp_path / "hub", functions, FLOATS), [target], tmp_path)


@pytest.mark.parametrize("target", ["onnx-10", "onnx-17", "onnx-18"])
def test_pytorch_angles_and_truth_of_floats(tmp_path, target):
    def functions(x):
        return torch.atan2(x, x - 1), torch.atan2(x, -x.abs() - 1), x.any(1), x.all(1)

    assert_right(program_hub(tmp_path / "hub", functions, FLOATS), [target], tmp_path)


def test_pytorch_bits_with_numbers(tmp_path):
    x = np.array([[-9, -1, 0, 5, 255, 1 << 20]] * 2, np.int32)
    hub = program_hub(tmp_path / "hub", lambda x: (x & 12, x | 5, x ^ -3), {"typical": [x]})
    assert_right(hub, ["keras", "onnx-18"], tmp_path)
