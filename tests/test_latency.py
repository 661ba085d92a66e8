"""The latency of converted files, measured in processes of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import tensorflow as tf
from onnx import TensorProto, helper

from converter.errors import UnsupportedError
from converter.hub.hub import TensorSpec
from converter.profiling.latency import Latency, latencies, latency, random_inputs, time_file


def write_tflite(path: Path, width: int) -> Path:
    """tanh(x @ W) four times over, x of shape (N, width)."""
    weights = tf.constant(np.random.default_rng(0).standard_normal((width, width)).astype(np.float32) / width)

    @tf.function(input_signature=[tf.TensorSpec([None, width], tf.float32, "x")])
    def net(x):
        for _ in range(4):
            x = tf.tanh(x @ weights)
        return x

    converter = tf.lite.TFLiteConverter.from_concrete_functions([net.get_concrete_function()])
    path.write_bytes(converter.convert())
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    return write_tflite(tmp_path_factory.mktemp("small") / "small.tflite", 8)


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    return write_tflite(tmp_path_factory.mktemp("large") / "large.tflite", 1500)


def check(found: Latency, runs: int, threads: int) -> None:
    assert found.runs == runs and found.threads == threads and found.batch == 1
    assert 0 < found.median_ms <= found.p90_ms <= found.p99_ms
    assert found.throughput_per_second == pytest.approx(1000 / found.median_ms, rel=0.02, abs=0.01)
    assert found.init_ms > 0
    assert 10 < found.memory_before_mb < found.peak_memory_mb < 1000


def test_a_large_file_is_slower_and_needs_more_memory_than_a_small_one(small, large):
    fast, slow = latencies([small, large], runs=21, warmup=2, threads=2, rounds=2)
    check(fast, 22, 2)  # runs are shared by the rounds, rounded up
    check(slow, 22, 2)
    assert fast.runtime.startswith("ai-edge-litert ")
    assert slow.median_ms > 3 * fast.median_ms
    assert slow.peak_memory_mb > fast.peak_memory_mb + 5  # its weights are 9 MB


def test_onnx_files_run_in_onnxruntime(tmp_path):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Sigmoid", ["x"], ["y"])],
        "net",
        [value("x", TensorProto.FLOAT, ["n", 3])],
        [value("y", TensorProto.FLOAT, ["n", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, tmp_path / "x.onnx")
    found = latency(tmp_path / "x.onnx", runs=10, warmup=1)
    check(found, 10, 1)
    assert found.runtime.startswith("onnxruntime ")


def test_a_file_that_does_not_run_is_named(tmp_path):
    (tmp_path / "broken.tflite").write_bytes(b"not a model")
    with pytest.raises(UnsupportedError, match=r"broken\.tflite cannot be run here: ValueError"):
        latency(tmp_path / "broken.tflite", runs=1)
    with pytest.raises(UnsupportedError, match=r"only \.onnx and \.tflite"):
        time_file(tmp_path / "x.pb", runs=1, warmup=0, threads=1)


def test_random_inputs_fit_their_specs_and_are_the_same_each_time():
    specs = [
        TensorSpec("image", (None, 4, 4, 3), "float32"),
        TensorSpec("tokens", (2, 5), "int32"),
        TensorSpec("pixels", (1, 64), "uint8"),
        TensorSpec("training", (), "bool"),
    ]
    arrays = random_inputs(specs)
    assert [(array.shape, str(array.dtype)) for array in arrays] == [
        ((1, 4, 4, 3), "float32"),
        ((2, 5), "int32"),
        ((1, 64), "uint8"),
        ((), "bool"),
    ]
    assert set(np.unique(arrays[1])) <= {0, 1} and arrays[2].max() > 200
    for first, second in zip(arrays, random_inputs(specs), strict=True):
        np.testing.assert_array_equal(first, second)
