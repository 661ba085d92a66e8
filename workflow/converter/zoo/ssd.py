"""A single-shot detector as TensorFlow 1's object detection models were: uint8 images of any size in, boxes out.

Around the network lie, in the graph, what its exporter put there: resizing each image to 300 x 300 in a loop, decoding boxes
from anchors, and for each image a loop body with one non-maximum suppression per class (Liu et al. 2016; the overlap
allowed by ssd_mobilenet_v1_coco). It lets scores above 1e-8 pass and so always finds 100 boxes; of random weights, whose
scores lie close together, that makes an order that rounding errors change, so here only scores above 0.7 count.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tf_keras as keras

__all__ = ["ssd_graph", "ssd_network"]

_SIZE = 300
_CLASSES = 90
_ANCHORS = 6
_SCALES = np.linspace(0.2, 0.95, 6)
_RATIOS = (1.0, 2.0, 0.5, 3.0, 1 / 3)
_DETECTIONS = 100
_IOU = 0.6
_SCORE = 0.7
# Sides of the six feature maps, by how a backbone pads, and the layers of each that give the first two.
_GRIDS = ((18, 9, 5, 3, 2, 1), (19, 10, 5, 3, 2, 1))
_TAPS = {"MobileNet": ("conv_pw_11_relu", "conv_pw_13_relu"), "MobileNetV2": ("block_13_expand_relu", "out_relu")}


def ssd_network(build: Callable) -> keras.Model:
    """Box encodings (N, anchors, 4) and class logits (N, anchors, 91), background first, of images in [-1, 1]."""
    layers = keras.layers
    image = keras.Input((_SIZE, _SIZE, 3))
    body = build(include_top=False, weights=None, input_tensor=image)
    maps = [body.get_layer(name).output for name in _TAPS[build.__name__]]
    for depth in (512, 256, 256, 128):
        x = layers.Conv2D(depth // 2, 1, use_bias=False)(maps[-1])
        x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
        x = layers.Conv2D(depth, 3, 2, padding="same", use_bias=False)(x)
        maps.append(layers.ReLU(6.0)(layers.BatchNormalization()(x)))
    boxes, logits = [], []
    for index, features in enumerate(maps):
        box = layers.Conv2D(_ANCHORS * 4, 1, name=f"boxes_{index}")(features)
        boxes.append(layers.Reshape((-1, 4))(box))
        logit = layers.Conv2D(_ANCHORS * (_CLASSES + 1), 1, name=f"logits_{index}")(features)
        logits.append(layers.Reshape((-1, _CLASSES + 1))(logit))
    return keras.Model(image, [layers.Concatenate(axis=1)(boxes), layers.Concatenate(axis=1)(logits)])


def anchors(count: int) -> np.ndarray:
    """(count, 4): centre y, centre x, height, width, as parts of the image."""
    found = []
    (grids,) = [grids for grids in _GRIDS if sum(_ANCHORS * grid**2 for grid in grids) == count]
    for grid, scale, following in zip(grids, _SCALES, [*_SCALES[1:], 1.0], strict=True):
        sizes = [(scale / np.sqrt(ratio), scale * np.sqrt(ratio)) for ratio in _RATIOS]
        sizes.append((np.sqrt(scale * following),) * 2)
        centres = (np.arange(grid) + 0.5) / grid
        found += [(y, x, height, width) for y in centres for x in centres for height, width in sizes]
    return np.array(found, np.float32)


def ssd_graph(network: Callable) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
    """Inputs and outputs of the whole detector, with the names of its exporter."""
    tf1 = tf.compat.v1
    image = tf1.placeholder(tf.uint8, [None, None, None, 3], name="image_tensor")

    def resized(one: tf.Tensor) -> tf.Tensor:
        return tf1.image.resize_bilinear(one[tf.newaxis], [_SIZE, _SIZE])[0]

    with tf1.name_scope("Preprocessor"):
        images = tf1.map_fn(resized, tf.cast(image, tf.float32), dtype=tf.float32)
        images = tf.reshape(images, [-1, _SIZE, _SIZE, 3]) * (2.0 / 255.0) - 1.0
    encodings, logits = network(images)
    with tf1.name_scope("Postprocessor"):
        boxes = _decode(encodings)
        # A shift of the logits keeps scores away from 1, where float32 cannot tell them apart.
        scores = tf.sigmoid(logits - 3.0)[:, :, 1:]
        found = tf1.map_fn(
            lambda one: _detections(*one), (boxes, scores), dtype=(tf.float32, tf.float32, tf.float32, tf.float32)
        )
    names = ("detection_boxes", "detection_scores", "detection_classes", "num_detections")
    return {"inputs": image}, {name: tf.identity(tensor, name=name) for name, tensor in zip(names, found, strict=True)}


def _decode(encodings: tf.Tensor) -> tf.Tensor:
    """(N, anchors, 4) as y0, x0, y1, x1, from encodings scaled by 10, 10, 5, 5 (Ren et al. 2015)."""
    y, x, height, width = tf.unstack(tf.constant(anchors(encodings.shape[1])), axis=1)
    ty, tx, th, tw = tf.unstack(encodings, axis=2)
    centre_y, centre_x = ty / 10.0 * height + y, tx / 10.0 * width + x
    half_height, half_width = tf.exp(th / 5.0) * height / 2.0, tf.exp(tw / 5.0) * width / 2.0
    return tf.stack(
        [centre_y - half_height, centre_x - half_width, centre_y + half_height, centre_x + half_width], axis=2
    )


def _detections(boxes: tf.Tensor, scores: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """One image's best boxes, scores and classes, padded with zeros to 100, and how many there are."""
    kept_boxes, kept_scores, kept_classes = [], [], []
    for index in range(_CLASSES):
        chosen = tf.image.non_max_suppression(boxes, scores[:, index], _DETECTIONS, _IOU, _SCORE)
        kept_boxes.append(tf.gather(boxes, chosen))
        kept_scores.append(tf.gather(scores[:, index], chosen))
        kept_classes.append(tf.fill([tf.size(chosen)], float(index + 1)))
    all_scores = tf.concat(kept_scores, axis=0)
    count = tf.minimum(_DETECTIONS, tf.size(all_scores))
    best, order = tf.nn.top_k(all_scores, k=count)
    padding = [[0, _DETECTIONS - count]]
    best_boxes = tf.clip_by_value(tf.gather(tf.concat(kept_boxes, axis=0), order), 0.0, 1.0)
    best_classes = tf.gather(tf.concat(kept_classes, axis=0), order)
    return (
        tf.ensure_shape(tf.pad(best_boxes, [*padding, [0, 0]]), [_DETECTIONS, 4]),
        tf.ensure_shape(tf.pad(best, padding), [_DETECTIONS]),
        tf.ensure_shape(tf.pad(best_classes, padding), [_DETECTIONS]),
        tf.cast(count, tf.float32),
    )
