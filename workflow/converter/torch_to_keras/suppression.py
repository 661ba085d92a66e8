"""torchvision's nms, for TensorFlow Lite alone: Keras has no function of that kind, and so a Keras file cannot hold one.

LiteRT's NON_MAX_SUPPRESSION_V4 (2.3) differs from nms: it drops boxes at an overlap equal to the threshold, which is why it is
given the next number; it leaves out scores of minus infinity and NaN, which nms ranks last and first; it exchanges corners,
where a box whose second corner lies before the first overlaps none; and it gives a box without an area again and again, which
is why such boxes are moved to where nothing is. Among equal scores both take the earlier box.
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
    least = float(np.nextafter(np.float32(float32_threshold(iou_threshold)), np.float32(np.inf)))
    return call.value(call.op(keras.ops.cast, call.op(suppressed, corners, ranks, least), call.dtype))


def suppressed(boxes: KerasTensor, scores: KerasTensor, least: float) -> KerasTensor:
    """int32 (n,). least: the overlap from which on a box is dropped."""
    return _Suppression(least)(boxes, scores)


class _Suppression(keras.Operation):
    def __init__(self, least: float) -> None:
        super().__init__()
        self._least = least

    def compute_output_spec(self, boxes: KerasTensor, scores: KerasTensor) -> KerasTensor:
        return keras.KerasTensor((None,), "int32")

    def call(self, boxes: Any, scores: Any) -> Any:
        first = boxes[:, :2]
        second = tf.maximum(first, boxes[:, 2:])
        is_empty = tf.logical_not((second - first)[:, :1] * (second - first)[:, 1:] > 0)
        far = 2 * tf.maximum(tf.reduce_max(tf.abs(boxes)), 1)
        # By cumsum and one product: TensorFlow's converter (2.21) crashes at a concatenation of scaled columns.
        rank = tf.cumsum(tf.ones_like(boxes[:, :1]), axis=0)
        nowhere = far * (rank + np.array([[1, 1, 1.5, 1.5]], np.float32))
        corners = tf.where(is_empty, nowhere, tf.concat([first, second], axis=1))
        infinite = tf.fill(tf.shape(scores), np.float32(np.inf))
        finite = tf.minimum(tf.maximum(scores, -_LARGEST), _LARGEST)
        kept, count = tf.raw_ops.NonMaxSuppressionV4(
            boxes=corners,
            scores=tf.where(tf.not_equal(scores, scores), infinite, finite),
            max_output_size=tf.shape(scores)[0],
            iou_threshold=self._least,
            score_threshold=-np.inf,
            pad_to_max_output_size=True,
        )
        return kept[:count]
