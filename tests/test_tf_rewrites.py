"""Operators that are written out as others before a graph reaches tf2onnx or the TFLite converter."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from export_tflite import export_model as to_tflite
from tf_hub import make_hub

from converter.runtimes import OnnxModel, TFLiteModel
from converter.step import ExportJob
from converter.tf.graph import GraphDef
from converter.tf.new_axes import expand_new_axes
from converter.tf.onnx_export import export as to_onnx


@pytest.mark.parametrize("mode", ["plain", "half_pixel_centers", "align_corners"])
def test_bicubic_resizing_of_free_sizes(mode, tmp_path):
    """TensorFlow rounds distances to 1/1024, and only with half pixel centres gives none of the weight to the edge."""
    flags = {} if mode == "plain" else {mode: True}

    def resize(x):
        size = tf.shape(x)[1:3]
        fixed = tf.raw_ops.ResizeBicubic(images=x, size=[11, 1], **flags)
        return fixed, tf.raw_ops.ResizeBicubic(images=x, size=size * 2 + 1, **flags)

    hub = make_hub(
        tmp_path / "hub", resize, [tf.TensorSpec([None, None, None, 2], tf.float32, "x")], ["fixed", "larger"]
    )
    assert to_onnx(hub, ExportJob("converted/x.onnx"), tmp_path / "x.onnx").verification.passed
    assert to_tflite(hub, ExportJob("converted/x.tflite"), tmp_path / "x.tflite").verification.passed
    rng = np.random.default_rng(1)
    for shape in ((1, 5, 7, 2), (2, 8, 3, 2), (1, 1, 2, 2)):
        image = rng.standard_normal(shape).astype(np.float32)
        for model in (OnnxModel(tmp_path / "x.onnx"), TFLiteModel(tmp_path / "x.tflite")):
            for actual, expected in zip(model.run([image]), resize(tf.constant(image)), strict=True):
                np.testing.assert_allclose(actual, expected, atol=5e-6)


SLICES = {
    "in front": lambda x: x[None],
    "several": lambda x: x[None, None, :, :],
    "between": lambda x: x[:, None, 1:, None],
    "behind an ellipsis": lambda x: x[..., None],
    "around an ellipsis": lambda x: x[None, ..., None, 0, None],
    "with a dropped axis": lambda x: x[1, None, ::2],
    "at the end": lambda x: x[:, :, None],
}


@pytest.mark.parametrize("name", SLICES)
def test_new_axes_of_a_slice(name, tmp_path):
    function = tf.function(SLICES[name], input_signature=[tf.TensorSpec([None, None, 4], tf.float32, "x")])
    graph = function.get_concrete_function().graph
    graph_def = GraphDef()
    graph_def.CopyFrom(graph.as_graph_def())
    expand_new_axes(graph_def)
    assert not any(node.op == "StridedSlice" and node.attr["new_axis_mask"].i for node in graph_def.node)
    assert any(node.op == "ExpandDims" for node in graph_def.node)
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    with tf.Graph().as_default() as changed:
        tf.import_graph_def(graph_def, name="")
    with tf.compat.v1.Session(graph=changed) as session:
        actual = session.run(graph.outputs[0].name, {graph.inputs[0].name: x})
    np.testing.assert_array_equal(actual, SLICES[name](x))


def test_a_causal_mask_of_free_size_in_tensorflow_lite(tmp_path):
    def attend(x):
        length = tf.shape(x)[1]
        mask = tf.linalg.band_part(tf.ones([length, length], tf.bool), -1, 0)[None, :, :]
        scores = tf.where(mask, x @ tf.transpose(x, [0, 2, 1]), -1e9)
        return tf.nn.softmax(scores) @ x

    hub = make_hub(tmp_path / "hub", attend, [tf.TensorSpec([None, None, 4], tf.float32, "x")], ["y"])
    assert to_tflite(hub, ExportJob("converted/x.tflite"), tmp_path / "x.tflite").verification.passed
    model = TFLiteModel(tmp_path / "x.tflite")
    for shape in ((1, 5, 4), (3, 9, 4)):
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        np.testing.assert_allclose(model.run([x])[0], attend(tf.constant(x)), atol=1e-5)
