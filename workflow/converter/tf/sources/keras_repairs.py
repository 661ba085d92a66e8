"""Defects of Keras that keep a sound model from being traced, or make it slow to open, repaired while a model is open.

Each raises UnsupportedError where Keras or TensorFlow are not as they are known here (library_patches/keras.py).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import ops

from converter.library_patches.keras import ACTIVATION, EAGER_TENSOR, RESIZE, RESIZE_BACKEND, VARIABLE, initializers
from converter.library_patches.replacing import replaced

__all__ = ["no_initial_weights", "repaired", "uncopied_weights"]

_LARGE = 1 << 20


@contextmanager
def no_initial_weights(keras: ModuleType) -> Iterator[None]:
    """Inside, memory for weights is set aside and left as it is: those of a file replace them all (keras_filled.py looks),
    and drawing random ones for VGG16 first takes 1.6 CPU s and three times its size in memory, zeros half a second and
    its size. What is drawn for anything but a variable is drawn.
    """
    creating = [0]
    _, create = VARIABLE.find()

    def creation(self: tf.Variable, *args: object, **kwargs: object) -> None:
        creating[0] += 1
        try:
            create(self, *args, **kwargs)
        finally:
            creating[0] -= 1

    def without_values(call: Callable) -> Callable:
        @functools.wraps(call)
        def empty(self: object, shape: Sequence[int], dtype: Any = None, **kwargs: object) -> tf.Tensor:
            if not creating[0]:
                return call(self, shape, dtype, **kwargs)
            dims = tf.constant(tuple(shape), tf.int32)  # with its dtype: an empty tuple would be float
            return tf.raw_ops.Empty(shape=dims, dtype=dtype or keras.backend.floatx(), init=False)

        return empty

    calls = [(call, without_values(call.find()[1])) for call in initializers(keras.__name__)]
    with replaced((VARIABLE, creation), *calls):
        yield


@contextmanager
def uncopied_weights() -> Iterator[None]:
    """Inside, an array that was read from a file is not copied on its way into a variable: 0.9 CPU s and 330 MB for VGG16.

    TensorFlow (2.21) copies arrays since their owner could change them afterwards. Keras gives them away; code of a
    user's own need not.
    """
    _, create = EAGER_TENSOR.find()

    def uncopied(value: Any, ctx: Any, dtype: object = None) -> tf.Tensor:
        fits = isinstance(value, np.ndarray) and (dtype is None or tf.as_dtype(dtype) == value.dtype)
        if fits and value.flags.owndata and value.nbytes > _LARGE:
            ctx.ensure_initialized()
            value = ops.EagerTensor(value, ctx.device_name, None)
        return create(value, ctx, dtype)

    with replaced((EAGER_TENSOR, uncopied)):
        yield


@contextmanager
def repaired(keras: ModuleType) -> Iterator[None]:
    """Inside, this Keras can do what the functions below say."""
    with _custom_activations() if keras.__name__ == "tf_keras" else _symbolic_sizes():
        yield


@contextmanager
def _custom_activations() -> Iterator[None]:
    """Since 2.13, Keras 2 writes a custom activation as {"class_name": "function", "config": its name} and, opening an
    .h5, looks for a class named "function" (tf_keras 2.21). By its name alone, as older files have it, it is found.
    """
    _, deserialize = ACTIVATION.find()

    def by_name(name: object, *args: object, **kwargs: object) -> Callable:
        if isinstance(name, dict) and name.get("class_name") == "function" and isinstance(name.get("config"), str):
            name = name["config"]
        return deserialize(name, *args, **kwargs)

    with replaced((ACTIVATION, by_name)):
        yield


@contextmanager
def _symbolic_sizes() -> Iterator[None]:
    """Keras 3.15 compares the size asked of `ops.image.resize` with zero in Python, which no graph can do.

    So no UpSampling2D with interpolation can be traced for an unknown height or width, not by Keras's own export
    either. With a symbolic size the check is left out.
    """
    (_, unchecked), (_, checked) = RESIZE_BACKEND.find(), RESIZE.find()

    def resize(images: object, size: Sequence[int | tf.Tensor], *args: object, **kwargs: object) -> object:
        if any(tf.is_symbolic_tensor(side) for side in size):
            return unchecked(images, tuple(size), *args, **kwargs)
        return checked(images, size, *args, **kwargs)

    with replaced((RESIZE, resize)):
        yield
