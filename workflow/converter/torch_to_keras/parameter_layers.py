"""A product with, or a sum of, a tensor and a parameter: a layer that holds the parameter as its weight."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from keras import layers

from converter.torch_to_keras.alignment import constant_in_order
from converter.torch_to_keras.call import Call
from converter.torch_to_keras.values import Constant, KerasTensor, Value, keras_shape, static

__all__ = ["affine"]

_LETTERS = "abcdefgh"


def affine(call: Call, value: Value, *, scale: Constant | None = None, shift: Constant | None = None) -> Value | None:
    """value * scale, or value + shift, where the constant varies along axes other than the batch; None if it cannot be.

    Along the channels: a DepthwiseConv of size 1, which is a product and a sum per channel, or for a constant that is
    not trained a Rescaling. Along other axes: an EinsumDense, whose kernel and bias may lie along any of them.
    """
    constant = scale or shift
    array = constant_in_order(constant, value.order)
    axes = [axis for axis, size in enumerate(array.shape) if size != 1]
    if 0 in axes or not axes or any(static(value.storage_shape[axis]) is None for axis in axes):
        return None
    if axes == [len(value.order) - 1] and not constant.trainable and np.isfinite(array).all():
        numbers = [float(x) for x in array.reshape(-1)]
        config = {"scale": numbers} if scale else {"scale": 1.0, "offset": numbers}
        return value.like(call.layer(layers.Rescaling, value.tensor, **config))
    last = len(value.order) - 1
    if shift and len(axes) == 1 and axes != [last]:
        # Keras 3.15's add on TensorFlow would take a bias of one axis for one of the channels: give it two.
        channels = static(value.storage_shape[-1])
        if channels in (None, 1):
            return None
        axes = [*axes, last]
        array = np.broadcast_to(array, (*array.shape[:-1], channels))
    array = np.ascontiguousarray(array.reshape([array.shape[axis] for axis in axes]))
    if axes == [len(value.order) - 1] and len(value.order) in (3, 4):
        return value.like(_depthwise(call, value, constant, array, bool(scale)))
    return value.like(_einsum(call, value, constant, array, axes, bool(scale)))


def _name(call: Call, constant: Constant, kind: str) -> str:
    """After the parameter itself (`pos_embedding`), not after the module that owns it: it may own several."""
    return call.conversion.names.unique(constant.name) if constant.name else call.name(kind)


def _depthwise(call: Call, value: Value, constant: Constant, array: np.ndarray, scales: bool) -> KerasTensor:
    cls, ones = (layers.DepthwiseConv1D, (1,)) if len(value.order) == 3 else (layers.DepthwiseConv2D, (1, 1))
    kernel = array if scales else np.ones_like(array)
    return call.layer(
        cls,
        value.tensor,
        kernel_size=1,
        use_bias=not scales,
        weights=[kernel.reshape(*ones, -1, 1), *([] if scales else [array])],
        trainable=constant.trainable,
        name=_name(call, constant, "scale" if scales else "shift"),
    )


def _einsum(
    call: Call, value: Value, constant: Constant, array: np.ndarray, axes: Sequence[int], scales: bool
) -> KerasTensor:
    rank = len(value.order)
    stored = _LETTERS[:rank]
    along = "".join(stored[axis] for axis in axes)
    # EinsumDense wants a kernel: of ones, along the last axis, where there is only a sum.
    last = static(value.storage_shape[-1])
    kernel_axes = along if scales or last is None else stored[-1]
    kernel = array if scales else np.ones([static(value.storage_shape[stored.index(k)]) for k in kernel_axes])
    return call.layer(
        layers.EinsumDense,
        value.tensor,
        equation=f"{stored},{kernel_axes}->{stored}",
        output_shape=keras_shape(value.storage_shape[1:]),
        bias_axes=None if scales else along,
        weights=[kernel.astype(array.dtype), *([] if scales else [_bias(array, axes, rank)])],
        trainable=constant.trainable,
        name=_name(call, constant, "scale" if scales else "shift"),
    )


def _bias(array: np.ndarray, axes: Sequence[int], rank: int) -> np.ndarray:
    """EinsumDense gives the bias axes of size 1 behind its first one, so that it broadcasts."""
    sizes = dict(zip(axes, array.shape, strict=True))
    return array.reshape([sizes.get(axis, 1) for axis in range(min(axes), rank)])
