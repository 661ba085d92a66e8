"""Values that live beside a graph, read one at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

__all__ = ["Value", "value_of_array"]


@dataclass(frozen=True, eq=False)
class Value:
    """The value of one variable or large constant; `read` fetches it, and nothing is held before that.

    name: what the source calls it. Stands in for an array where only its size, and at the end its bytes, are wanted
    (numpy converts it by `__array__`), so that writing hundreds of megabytes needs memory for the largest tensor only.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]

    @property
    def nbytes(self) -> int:
        """The size in bytes, without reading the value."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def enum(self) -> int:
        """The number of this dtype in TensorFlow's protos."""
        return tf.as_dtype(self.dtype).as_datatype_enum

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        array = np.asarray(self.read()).reshape(self.shape)
        return array if dtype is None else array.astype(dtype)


def value_of_array(name: str, array: np.ndarray) -> Value:
    """The value of an array that is in memory already."""
    return Value(name, array.dtype, array.shape, lambda: array)
