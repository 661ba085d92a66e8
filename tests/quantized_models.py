"""A small convolutional classifier as a hub, and representative data for it: what tests of quantization start from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf
from tf_hub import dense, make_hub

from converter.hub.hub import Hub

IMAGE = tf.TensorSpec([None, 8, 8, 3], tf.float32, "image")


class Blocks(tf.Module):
    """Three convolutions and a head, (N, 8, 8, 3) -> (N, 10); `spoilt` names one with a weight range that int8 cannot hold.

    That one multiplies channel 0 of its filters' inputs by 1000, where the layer before has channel 0 times 1 / 1000:
    the function stays the same, but one scale per filter leaves nothing of the other channels' weights.
    """

    def __init__(self, spoilt: str | None = None) -> None:
        super().__init__(name="net")
        rng = np.random.default_rng(0)
        self.kernels = {
            "first": dense(rng, 3, 3, 3, 24),
            "second": dense(rng, 3, 3, 24, 32),
            "third": dense(rng, 3, 3, 32, 64),
        }
        self.head = dense(rng, 64, 10)
        before = {"second": "first", "third": "second"}.get(spoilt)
        if before:
            down, up = np.ones(self.kernels[before].shape, np.float32), np.ones(self.kernels[spoilt].shape, np.float32)
            down[..., 0], up[:, :, 0] = 1e-3, 1e3
            self.kernels[before].assign(self.kernels[before] * down)
            self.kernels[spoilt].assign(self.kernels[spoilt] * up)

    def __call__(self, image: tf.Tensor) -> tf.Tensor:
        x = image
        for name, kernel in self.kernels.items():
            with tf.name_scope(name):
                x = tf.nn.relu(1.4 * tf.nn.conv2d(x, kernel, 1, "SAME"), name="Relu")
        with tf.name_scope("head"):
            return tf.matmul(tf.reduce_mean(x, [1, 2]), self.head, name="MatMul")


def blocks(path: Path, spoilt: str | None = None) -> Hub:
    return make_hub(path, Blocks(spoilt), [IMAGE], ["scores"])


def images(path: Path, count: int = 120) -> Path:
    """An .npz of standard normal images."""
    np.savez(path, image=np.random.default_rng(1).standard_normal((count, 8, 8, 3)).astype(np.float32))
    return path
