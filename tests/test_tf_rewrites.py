"""Operators that are written out as others before a graph reaches tf2onnx or the TFLite converter."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from export_tflite import export_model as to_tflite
from special_hubs import export_to, function_hub
from tf_hub import make_hub

from converter.contracts import ExportJob
from converter.errors import UnsupportedError
from converter.tf.graph.einsums import expand_einsums
from converter.tf.graph.graph import GraphDef
from converter.tf.graph.new_axes import expand_new_axes
from converter.tf.onnx.export import export as to_onnx
from converter.tf.tflite.detection import exact_non_max_suppressions
from converter.verification.runtimes import OnnxModel, TFLiteModel


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


def magnitudes(x):
    return tf.abs(tf.signal.stft(x, 10, 5, fft_length=12))


def parts(x):
    spectrum = tf.signal.rfft(x, [10]) * tf.signal.rfft(tf.constant([0.1, 0.2, 0.3]), [10])
    return tf.math.real(spectrum), tf.math.imag(tf.math.conj(spectrum) - 1.0), tf.signal.irfft(spectrum, [7])


def mixed(x):
    """The layer of FNet, and back."""
    spectrum = tf.signal.fft2d(tf.cast(x, tf.complex64))
    return tf.math.real(spectrum), tf.abs(tf.signal.ifft2d(tf.transpose(spectrum, [0, 2, 1])))


def image(x):
    spectrum = tf.signal.rfft2d(x, [5, 8])
    return tf.abs(spectrum), tf.signal.irfft2d(spectrum[:, :, :4] * 2.0, [6, 6])


@pytest.mark.parametrize(
    ("function", "shape", "outputs"),
    [
        (magnitudes, [None, None], ["y"]),
        (magnitudes, [None, 40], ["y"]),
        (parts, [None, 6], ["re", "im", "signal"]),
        (mixed, [None, 6, 5], ["re", "back"]),
        (image, [None, 6, 5], ["size", "back"]),
    ],
)
def test_fourier_transforms_of_any_length(function, shape, outputs, tmp_path):
    hub = make_hub(tmp_path / "hub", function, [tf.TensorSpec(shape, tf.float32, "x")], outputs)
    onnx = to_onnx(hub, ExportJob("converted/x.onnx"), tmp_path / "x.onnx")
    lite = to_tflite(hub, ExportJob("converted/x.tflite"), tmp_path / "x.tflite")
    for result in (onnx, lite):
        assert result.verification.passed, result.verification.message
        assert not result.verification.weak_evidence


def test_a_length_that_is_a_power_of_two_keeps_its_operator(tmp_path):
    hub = make_hub(
        tmp_path / "hub", lambda x: tf.abs(tf.signal.rfft(x)), [tf.TensorSpec([None, 8], tf.float32, "x")], ["y"]
    )
    result = to_tflite(hub, ExportJob("converted/x.tflite"), tmp_path / "x.tflite")
    assert result.verification.passed and result.notes == []


def test_a_transform_of_free_length_is_refused_in_words(tmp_path):
    hub = make_hub(
        tmp_path / "hub",
        lambda x: tf.abs(tf.signal.rfft(x)),
        [tf.TensorSpec([None, None], tf.float32, "x")],
        ["y"],
        batch_dynamic=True,
    )
    with pytest.raises(UnsupportedError, match="powers of two only.*input_shape"):
        to_tflite(hub, ExportJob("converted/x.tflite"), tmp_path / "x.tflite")


# Equations, and whether an Einsum may be left of them.
EQUATIONS = {
    "abcd,adbe->abce": False, "abcd,aebd->abce": False, "BTNH,BSNH->BNTS": False, "ab,ab->ab": False, "abc,c->abc": False,
    "abc,b->abc": False, "abc,b->cab": False, "abc,ca->abc": False, "abc,->abc": True, "abc,ce->abe": True, "ab,ac->bc": True,
    "abc,abe->abce": True, "aab,ab->ab": True, "abc,c->ab": True,
}  # fmt: skip


@pytest.mark.parametrize("equation", EQUATIONS)
@pytest.mark.parametrize("batch", [1, 3])
def test_einsums(equation, batch):
    """Axes have sizes of their own, so that one in another's place shows; the first has size 1 too, or is free."""
    left, right = (term.replace("...", "") for term in equation.partition("->")[0].split(","))
    sizes = {axis: batch if axis in "aB" else 2 + place for place, axis in enumerate(sorted({*left, *right}))}
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal([sizes[axis] for axis in term]).astype(np.float32) for term in (left, right)]
    for free in (False, True):
        shapes = [[None if free and axis in "aB" else sizes[axis] for axis in term] for term in (left, right)]
        signature = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
        function = tf.function(lambda x, y: tf.einsum(equation, x, y), input_signature=signature)
        graph = function.get_concrete_function().graph
        graph_def = GraphDef()
        graph_def.CopyFrom(graph.as_graph_def())
        expand_einsums(graph_def)
        assert any(node.op == "Einsum" for node in graph_def.node) == EQUATIONS[equation]
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            (result,) = tf.import_graph_def(graph_def, return_elements=[graph.outputs[0].name], name="")
            feeds = {tensor.name: array for tensor, array in zip(graph.inputs, arrays, strict=True)}
            found = session.run(result, feeds)
        np.testing.assert_allclose(found, np.einsum(equation, *arrays), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch", [1, None])
def test_an_attention_with_a_scale_becomes_tflite(batch, tmp_path):
    """TensorFlow's converter (2.21) refuses these products with a batch of 1, and LiteRT what it makes for a free one."""
    scale = tf.constant(np.linspace(0.5, 2, 6, dtype=np.float32))

    def attend(x):
        x = tf.einsum("abc,c->abc", x, scale)
        heads = tf.reshape(x, [-1 if batch is None else batch, 5, 3, 2])
        weights = tf.nn.softmax(tf.einsum("BTNH,BSNH->BNTS", heads, heads))
        return tf.einsum("abcd,adbe->abce", weights, heads)

    hub = make_hub(tmp_path / "hub", attend, [tf.TensorSpec([batch, 5, 6], tf.float32, "x")], ["y"])
    result = to_tflite(hub, ExportJob("converted/x.tflite"), tmp_path / "x.tflite")
    assert result.verification.passed
    assert result.inputs[0].shape == (batch, 5, 6)


BOXES = [
    [0, 0, 1, 1],
    [0, 0, 1, 2],
    [5, 5, 4, 4],
    [4, 4, 5, 5],
    [0, 0, 1, 1],
    [2, 2, 2, 2],
    [3, 1, 3, 2],
    [8, 8, 9, 9.5],
]


@pytest.mark.parametrize("form", ["plain", "padded", "with a number", "with scores"])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 2 / 3, 0.9])
def test_suppression_of_boxes_in_tensorflow_lite(threshold, form, tmp_path):
    """Overlaps of exactly the threshold, boxes without an area, and such whose corners are exchanged."""

    def suppress(boxes, scores):
        if form == "plain":
            return tf.image.non_max_suppression(boxes, scores, 7, threshold, 0.25)
        if form == "with scores":
            return tf.image.non_max_suppression_with_scores(boxes, scores, 7, threshold, 0.25)
        return tf.raw_ops.NonMaxSuppressionV4(
            boxes=boxes, scores=scores, max_output_size=7, iou_threshold=threshold, score_threshold=0.25,
            pad_to_max_output_size=form == "padded",
        )  # fmt: skip

    boxes = np.array(BOXES, np.float32)
    scores = np.linspace(0.9, 0.2, 8, dtype=np.float32)
    samples = {
        "typical": [boxes, scores],
        "other": [boxes * 1000 - 3000, scores[::-1].copy()],
        "few": [boxes[:3], scores[:3]],
    }
    hub = function_hub(tmp_path / "hub", suppress, samples)
    result = export_to(hub, "tflite", tmp_path)
    assert result.verification.passed, result.verification.message


@pytest.mark.parametrize("move_empty", [True, False])
def test_boxes_without_an_area_are_moved_where_coordinates_are_floats(move_empty):
    """The range of coordinates becomes twice as large, no more: places between the largest one and twice that."""
    with tf.Graph().as_default() as graph:
        boxes, scores = tf.compat.v1.placeholder(tf.float32, (None, 4)), tf.compat.v1.placeholder(tf.float32, (None,))
        tf.image.non_max_suppression(boxes, scores, 7, 0.5)
    graph_def = graph.as_graph_def()
    exact_non_max_suppressions(graph_def, move_empty=move_empty)
    (suppression,) = (node for node in graph_def.node if node.op == "NonMaxSuppressionV4")
    assert (suppression.input[0] != boxes.op.name) == move_empty
    if move_empty:
        with tf.Graph().as_default() as changed:
            tf.import_graph_def(graph_def, name="")
        with tf.compat.v1.Session(graph=changed) as session:
            moved = session.run(f"{suppression.input[0]}:0", {boxes.name: np.array(BOXES) * 100})
        assert moved.max() <= 2 * 950 and (moved[[5, 6]].min() > 950) and (np.delete(moved, [5, 6], 0) <= 950).all()


def test_soft_suppression_in_tensorflow_lite(tmp_path):
    """Scores fall with the overlap; at its usual threshold of 1 none is dropped for it."""
    boxes = np.array([BOXES[i] for i in (0, 1, 3, 7)], np.float32)
    scores = np.array([0.9, 0.8, 0.7, 0.6], np.float32)

    def suppress(boxes, scores):
        return tf.image.non_max_suppression_with_scores(boxes, scores, 4, 1.0, 0.1, soft_nms_sigma=0.5)

    samples = {"typical": [boxes, scores], "other": [boxes + 1, scores[::-1].copy()]}
    result = export_to(function_hub(tmp_path / "hub", suppress, samples), "tflite", tmp_path)
    assert result.verification.passed, result.verification.message


def test_suppression_of_nothing_in_tensorflow_lite(tmp_path):
    """At a threshold of 1 TensorFlow keeps boxes that are equal."""
    boxes, scores = np.array([[0, 0, 1, 1], [0, 0, 1, 1]], np.float32), np.array([0.9, 0.8], np.float32)
    hub = function_hub(
        tmp_path / "hub", lambda b, s: tf.image.non_max_suppression(b, s, 2, 1.0), {"typical": [boxes, scores]}
    )
    with pytest.raises(UnsupportedError, match="would drop equal ones: leave it out of the model"):
        export_to(hub, "tflite", tmp_path)


def test_places_of_a_condition_in_tensorflow_lite(tmp_path):
    """Of one axis they are an Unpack of int64 with one output, which LiteRT lacks."""

    def places(x):
        return tf.unstack(tf.where(x > 0), 1, axis=1)[0]

    x = np.random.default_rng(0).normal(size=9).astype(np.float32)
    result = export_to(function_hub(tmp_path / "hub", places, {"typical": [x], "other": [-x]}), "tflite", tmp_path)
    assert result.verification.passed, result.verification.message
