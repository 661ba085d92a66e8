"""Quotients, remainders, shifts and comparisons of integers: below zero, and beyond what float32 holds."""

import numpy as np
import pytest
import tensorflow as tf
import torch
from special_hubs import export_to, function_hub, program_hub

VALUES = [-100, -9, -8, -7, -4, -3, -2, -1, 0, 1, 2, 3, 4, 7, 8, 9, 100, 12345]


def pairs(dtype):
    """Each value with each divisor; as rows of six."""
    a, b = np.meshgrid(np.array(VALUES, dtype), np.array([-7, -3, -2, -1, 1, 2, 3, 7], dtype))
    return [a.reshape(-1, 6), b.reshape(-1, 6)]


def ends(dtype):
    limits = np.iinfo(dtype)
    return np.array([[limits.min, limits.min + 1, -1, 0, 1, limits.max], [2**24 + 1, -(2**24) - 1, 5, 6, 7, 8]], dtype)


def rows(dtype):
    return {"typical": [np.array(VALUES, dtype).reshape(3, 6)], "ends of the range": [ends(dtype)]}


def assert_right(hub, target, folder, route=None):
    result = export_to(hub, target, folder)
    assert result.verification.passed, result.verification.message
    if route is not None:
        assert result.route[-1] == route


@pytest.mark.parametrize("dtype", ["int32", "int64", "int8"])
def test_tensorflow_divides_towards_minus_infinity(tmp_path, dtype):
    def divide(x, y):
        narrow = () if dtype == "int8" else (tf.truncatemod(x, y),)  # which TensorFlow does not have
        return x // y, x % y, x // tf.constant(3, dtype), x % tf.constant(-7, dtype), *narrow

    a, b = pairs("int32")
    hub = function_hub(tmp_path / "hub", divide, {"typical": [np.clip(a, -127, 127).astype(dtype), b.astype(dtype)]})
    assert (hub.reference()[0].outputs[0] != np.trunc(a / b)).any()
    for opset in (7, 10, 13, 18):
        assert_right(hub, f"onnx-{opset}", tmp_path)


@pytest.mark.parametrize("dtype", ["int32", "int64", "int8"])
def test_tensorflow_shifts_keep_the_sign(tmp_path, dtype):
    def shift(x):
        one, more = tf.constant(1, dtype), tf.constant([0, 1, 2, 3, 5, 6], dtype)
        return tf.bitwise.right_shift(x, one), tf.bitwise.right_shift(x, more), tf.bitwise.left_shift(x, one)

    limits = np.iinfo(dtype)
    hub = function_hub(
        tmp_path / "hub",
        shift,
        {
            "typical": [np.clip(np.array(VALUES), limits.min, limits.max).astype(dtype).reshape(3, 6)],
            "ends of the range": [np.array([[limits.min, -1, 0, 1, limits.max, -2]] * 2, dtype)],
        },
    )
    for opset in (11, 18):
        assert_right(hub, f"onnx-{opset}", tmp_path)


def test_tensorflow_integers_are_compared_as_integers(tmp_path):
    def compare(x, y):
        values, places = tf.math.top_k(x, 3)
        return x < y, x >= y, tf.equal(x, y), tf.not_equal(x, y), values, places

    x = np.array([[2**24, 2**24 + 1, -(2**24) - 1, 3, 2**31 - 1, 2**31 - 2]] * 2, np.int32)
    hub = function_hub(tmp_path / "hub", compare, {"typical": [x, x[:, [1, 0, 2, 3, 5, 4]]]})
    for opset in (11, 18):
        assert_right(hub, f"onnx-{opset}", tmp_path)


def test_tensorflow_one_hot_of_what_is_out_of_range_is_nothing(tmp_path):
    hub = function_hub(tmp_path / "hub", lambda x: tf.one_hot(x, 4), {"typical": [np.array([[-1, 0, 3], [4, -5, 2]])]})
    for opset in (10, 11, 13):
        assert_right(hub, f"onnx-{opset}", tmp_path)


def test_tensorflow_bits_in_tensorflow_lite(tmp_path):
    def bits(x):
        return tf.bitwise.invert(x), tf.bitwise.left_shift(x, 2), tf.bitwise.right_shift(x, 1), x // 3, x % -7

    assert_right(function_hub(tmp_path / "hub", bits, {"typical": rows("int32")["typical"]}), "tflite", tmp_path)


def divide(x, y):
    return (
        x // y,
        x % y,
        torch.fmod(x, y),
        torch.div(x, y, rounding_mode="floor"),
        torch.div(x, y, rounding_mode="trunc"),
    )


def shift(x):
    return x >> 1, x >> 31, torch.bitwise_right_shift(x, 2), ~x, x & 7, x // 3, torch.div(x, 3, rounding_mode="trunc")


def shift_by_tensor(x):
    count = torch.arange(6) * 6 + 1  # up to the 31 that leave only the sign
    return x >> count.to(x.dtype), (x % 16) << (count % 8).to(x.dtype), torch.fmod(x, 7)


EXPORTERS = [
    ("onnx-10", "torchscript-exporter"),
    ("onnx-17", "torchscript-exporter"),
    ("onnx-18", "dynamo-exporter"),
    ("tflite", "export_tflite"),
    ("litert", "litert-torch"),
    ("keras", "export_keras"),
]


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hubs")
    return {
        "division": program_hub(folder / "division", divide, {"typical": pairs("int32")}),
        "shifts": program_hub(folder / "shifts", shift, rows("int32")),
        "shifts by a tensor": program_hub(folder / "counts", shift_by_tensor, rows("int32")),
    }


@pytest.mark.parametrize("name", ["division", "shifts", "shifts by a tensor"])
@pytest.mark.parametrize(("target", "route"), EXPORTERS)
def test_pytorch_integers(tmp_path, programs, name, target, route):
    assert_right(programs[name], target, tmp_path, route)


def test_pytorch_integers_of_64_bits(tmp_path):
    hub = program_hub(tmp_path / "hub", lambda x: (x // 3, x >> 1, x >> 63, ~x, torch.fmod(x, 7)), rows("int64"))
    for target, route in EXPORTERS[:3]:
        assert_right(hub, target, tmp_path, route)


def test_torchscript_integers(tmp_path):
    """What could be kept as TorchScript only is exported by other functions of torch."""

    class Script(torch.nn.Module):
        def forward(self, x):
            return x // 3, x >> 1, x % 7

    folder = tmp_path / "hub"
    hub = program_hub(folder, Script(), rows("int32"))
    torch.jit.save(torch.jit.script(Script()), folder / "module.pt")
    hub.extra["form"] = "torchscript"
    for opset in (10, 13, 17):
        assert_right(hub, f"onnx-{opset}", tmp_path, "torchscript-exporter")
