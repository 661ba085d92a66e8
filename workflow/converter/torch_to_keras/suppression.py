"""torchvision's nms, for TensorFlow Lite alone: Keras has no function of that kind, and so a Keras file cannot hold one.

TensorFlow's operator (2.21) differs from nms: it exchanges corners, where a box whose second corner lies before the first
overlaps none, and it leaves out scores of minus infinity and NaN, which nms ranks last and first. Where LiteRT's kernel differs
from TensorFlow's, tf/tflite/detection.py steps around it. Among equal scores all take the earlier box.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from converter.torch.extensions.box_suppression import float32_threshold
from converter.torch_to_keras.call import Call
from converter.torch_to_keras.positions import plain
from converter.torch_to_keras.registry import converts_torchvision
from converter.torch_to_keras.values import Constant, KerasTensor, Value

_LARGEST = np.finfo(np.float32).max


@converts_torchvision("nms")
def nms(call: Call, boxes: Value | Constant, scores: Value | Constant, iou_threshold: float) -> Value:
    """(n,): the boxes (N, 4) that stay, by descending scores (N,)."""
    if not call.conversion.for_tensorflow:
        raise call.unsupported("Keras has no suppression of boxes; ask for .tflite or .onnx")
    if not 0 <= iou_threshold < 1:
        raise call.unsupported(f"the iou_threshold is {iou_threshold:g}, and TensorFlow's is at least 0 and below 1")
    corners, ranks = plain(call, boxes), plain(call, scores)
    if corners.dtype != "float32" or ranks.dtype != "float32":
        raise call.unsupported("it is given other numbers than float32: give it boxes.float() and scores.float()")
    threshold = float32_threshold(iou_threshold)
    return call.value(call.op(keras.ops.cast, call.op(suppressed, corners, ranks, threshold), call.dtype))


def suppressed(boxes: KerasTensor, scores: KerasTensor, threshold: float) -> KerasTensor:
    """int32 (n,). threshold: boxes that overlap more are dropped."""
    return _Suppression(threshold)(boxes, scores)


class _Suppression(keras.Operation):
    def __init__(self, threshold: float) -> None:
        super().__init__()
        self._threshold = threshold

    def compute_output_spec(self, boxes: KerasTensor, scores: KerasTensor) -> KerasTensor:
        return keras.KerasTensor((None,), "int32")

    def call(self, boxes: Any, scores: Any) -> Any:
        first = boxes[:, :2]
        corners = tf.concat([first, tf.maximum(first, boxes[:, 2:])], axis=1)
        infinite = tf.fill(tf.shape(scores), np.float32(np.inf))
        finite = tf.minimum(tf.maximum(scores, -_LARGEST), _LARGEST)
        kept, count = tf.raw_ops.NonMaxSuppressionV4(
            boxes=corners,
            scores=tf.where(tf.not_equal(scores, scores), infinite, finite),
            max_output_size=tf.shape(scores)[0],
            iou_threshold=self._threshold,
            score_threshold=-np.inf,
            pad_to_max_output_size=True,
        )
        return kept[:count]
