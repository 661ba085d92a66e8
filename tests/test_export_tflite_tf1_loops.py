"""Loops of TensorFlow 1 (Enter, Merge, TensorArrayV3) in TensorFlow Lite: built-in operators, the batch left free."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from export_tflite import export_model

from converter.contracts import ExportJob
from converter.errors import UnsupportedError
from converter.hub.hub import Hub, TensorSpec
from converter.hub.informative import typical
from converter.hub.reference import make_reference
from converter.tf.graph.graph_bytes import read_graph
from converter.tf.sources.build_hub import ranks_boxes
from converter.tf.sources.freeze import freeze_graph
from converter.tflite.flatbuffer import operators, read

tf1 = tf.compat.v1


@pytest.fixture(autouse=True)
def loops_of_tf1() -> Iterator[None]:
    tf1.disable_control_flow_v2()
    yield
    tf1.enable_control_flow_v2()


def recurrent(x: tf.Tensor, steps: tf.Tensor | int, backwards: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
    """(N, T, 4) -> the hidden states (N, T, 6) and the last of them, as tf.nn.dynamic_rnn computes them."""
    rng = np.random.default_rng(0)
    kernel = tf.constant((rng.standard_normal((10, 24)) * 0.3).astype(np.float32))
    series = tf.reverse(x, [1]) if backwards else x
    inputs = tf.TensorArray(tf.float32, steps).unstack(tf.transpose(series, [1, 0, 2]))

    def step(t, hidden, cell, outputs):
        i, f, o, g = tf.split(tf.concat([inputs.read(t), hidden], 1) @ kernel, 4, 1)
        cell = tf.sigmoid(f) * cell + tf.sigmoid(i) * tf.tanh(g)
        hidden = tf.sigmoid(o) * tf.tanh(cell)
        return t + 1, hidden, cell, outputs.write(t, hidden)

    zeros = tf.zeros([tf.shape(x)[0], 6])
    state = [0, zeros, zeros, tf.TensorArray(tf.float32, steps)]
    hidden = tf.TensorShape([x.shape[0], 6])
    shapes = [tf.TensorShape([]), hidden, hidden, tf.TensorShape(None)]
    _, last, _, outputs = tf1.while_loop(lambda t, *_: t < steps, step, state, shape_invariants=shapes)
    return tf.transpose(outputs.stack(), [1, 0, 2]), last


def labels(x: tf.Tensor, steps: int) -> tuple[tf.Tensor, ...]:
    """The class of each step, kept in an array of integers: (N, T, 4) -> (N, T) int32."""
    inputs = tf.TensorArray(tf.float32, steps).unstack(tf.transpose(x, [1, 0, 2]))

    def step(t, found):
        return t + 1, found.write(t, tf.argmax(inputs.read(t), 1, output_type=tf.int32))

    _, found = tf1.while_loop(lambda t, _: t < steps, step, [0, tf.TensorArray(tf.int32, steps)])
    return (tf.transpose(found.stack(), [1, 0]),)


def softmaxes(x: tf.Tensor, steps: int) -> tuple[tf.Tensor, ...]:
    """A map over the batch, whose elements' size is known from the input alone."""
    return (tf1.map_fn(tf.nn.softmax, x),)


def detections(x: tf.Tensor, steps: int) -> tuple[tf.Tensor, ...]:
    """As a detector ends: of each row of boxes (steps, 4) the best by one of its numbers, padded to 10, and how many."""

    def row(boxes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        chosen = tf.image.non_max_suppression(boxes, tf.sigmoid(boxes[:, 0]), 10, 0.3, 0.7)
        count = tf.size(chosen)
        found = tf.pad(tf.gather(boxes, chosen), [[0, 10 - count], [0, 0]])
        return tf.ensure_shape(found, [10, 4]), tf.cast(count, tf.float32)

    return tf1.map_fn(row, x, dtype=(tf.float32, tf.float32))


def hub_of(path: Path, function: Callable, steps: int | None, batch: int | None = None, fixed: bool = True) -> Hub:
    """Without `fixed` the sizes are the hub's, as from input_shape, and the graph does not know them."""
    with tf.Graph().as_default() as graph:
        x = tf1.placeholder(tf.float32, [batch, steps, 4] if fixed else [None, None, 4], name="x")
        results = function(x, tf.shape(x)[1] if steps is None else steps)
        outputs = [tf.identity(result, name=f"y{i}") for i, result in enumerate(results)]
    specs = [TensorSpec(f"y{i}", None, result.dtype.name, result.name) for i, result in enumerate(outputs)]
    path.mkdir()
    inputs = [TensorSpec("x", (batch, steps, 4), "float32", "x:0")]
    frozen = freeze_graph(graph.as_graph_def(), {}, inputs, specs, path)
    hub = Hub(path, "tensorflow", frozen.inputs, frozen.outputs, batch is None)
    with tf1.Session(graph=graph) as session:
        run = lambda arrays: session.run([spec.tensor for spec in specs], {"x:0": arrays[0]})  # noqa: E731
        hub.write_reference(
            make_reference(frozen.inputs, batch is None, run, ranks=lambda: ranks_boxes(frozen.graph_def))
        )
    hub.write()
    return Hub.read(path)


@pytest.mark.parametrize("steps", [5, None])
@pytest.mark.parametrize("batch", [None, 2])
def test_a_loop_over_time(tmp_path, steps, batch):
    hub = hub_of(tmp_path / "hub", recurrent, steps, batch)
    assert {"Enter", "TensorArrayWriteV3"} <= {node.op for node in read_graph(hub.graph_path).node}
    result = export_model(hub, ExportJob("converted/x.tflite"), tmp_path / "x.tflite")
    assert result.verification.passed and not result.verification.weak_evidence
    assert result.inputs[0].shape == (batch, steps, 4) and result.notes == []
    names = {name for _, _, name in operators(read((tmp_path / "x.tflite").read_bytes()))}
    assert "WHILE" in names and not any(name.startswith("Flex") for name in names)


def test_two_loops(tmp_path):
    def both(x, steps):
        return recurrent(x, steps)[0], recurrent(x, steps, backwards=True)[1]

    hub = hub_of(tmp_path / "hub", both, 5)
    assert export_model(hub, ExportJob("converted/x.tflite"), tmp_path / "x.tflite").verification.passed


def test_an_array_of_integers(tmp_path):
    hub = hub_of(tmp_path / "hub", labels, 5)
    result = export_model(hub, ExportJob("converted/x.tflite"), tmp_path / "x.tflite")
    assert result.verification.passed and result.outputs[0].dtype == "int32"


def test_a_map_over_images_whose_size_is_given(tmp_path):
    hub = hub_of(tmp_path / "hub", softmaxes, 5, batch=2, fixed=False)
    assert export_model(hub, ExportJob("converted/x.tflite"), tmp_path / "x.tflite").verification.passed


@pytest.mark.parametrize("batch", [None, 1])
def test_fewer_detections_than_there_may_be(tmp_path, batch):
    """The converter drops the number of boxes that a non-maximum suppression chose: zeros would count as box 0."""
    hub = hub_of(tmp_path / "hub", detections, 30, batch)
    counts = [count for run in typical(hub.reference()) for count in run.outputs[1]]
    assert 0 < min(counts) < max(counts) < 10
    assert {"NonMaxSuppressionV3", "EnsureShape"} <= {node.op for node in read_graph(hub.graph_path).node}
    result = export_model(hub, ExportJob("converted/x.tflite"), tmp_path / "x.tflite")
    assert result.verification.passed and result.inputs[0].shape == (batch, 30, 4)
    names = {name for _, _, name in operators(read((tmp_path / "x.tflite").read_bytes()))}
    assert "NON_MAX_SUPPRESSION_V4" in names and not any(name.startswith("Flex") for name in names)


def test_an_array_read_in_another_order_is_refused_by_name(tmp_path):
    def shuffled(x, steps):
        array = tf.TensorArray(tf.float32, steps).scatter([4, 2, 0, 1, 3], tf.transpose(x, [1, 0, 2]))
        return (tf.transpose(array.stack(), [1, 0, 2]),)

    hub = hub_of(tmp_path / "hub", shuffled, 5)
    with pytest.raises(UnsupportedError, match="TensorArrayScatterV3"):
        export_model(hub, ExportJob("converted/x.tflite"), tmp_path / "x.tflite")
