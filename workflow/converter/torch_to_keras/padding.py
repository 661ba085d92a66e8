"""Padding and cropping."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import numpy as np
from keras import layers

from converter.torch_to_keras.activations import rescale
from converter.torch_to_keras.call import Call
from converter.torch_to_keras.indexing import take_axis
from converter.torch_to_keras.layout import channels_last_tensor, reshape_tensor
from converter.torch_to_keras.registry import converts
from converter.torch_to_keras.slicing import slice_axis
from converter.torch_to_keras.values import KerasTensor, Value, channels_last, static

__all__ = ["crop", "zero_pad"]

_PAD = {1: layers.ZeroPadding1D, 2: layers.ZeroPadding2D, 3: layers.ZeroPadding3D}
_CROP = {1: layers.Cropping1D, 2: layers.Cropping2D, 3: layers.Cropping3D}
_NUMPY_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def zero_pad(call: Call, tensor: KerasTensor, margins: Sequence[tuple[int, int]]) -> KerasTensor:
    """Pad the spatial axes of a channels-last tensor with zeros."""
    if not any(map(any, margins)):
        return tensor
    padding = tuple(margins) if len(margins) > 1 else margins[0]
    return call.layer(_PAD[len(margins)], tensor, padding=padding)


def crop(call: Call, tensor: KerasTensor, margins: Sequence[tuple[int, int]]) -> KerasTensor:
    """Crop the spatial axes of a channels-last tensor."""
    if not any(map(any, margins)):
        return tensor
    cropping = tuple(margins) if len(margins) > 1 else margins[0]
    return call.layer(_CROP[len(margins)], tensor, cropping=cropping)


@converts("constant_pad_nd.default")
def constant_pad(call: Call, value: Value, pad: Sequence[int], fill: float) -> Value:
    """`pad`: (left, right) of the last axis, then of the one before; negative numbers crop."""
    rank = len(value.shape)
    margins = [(0, 0)] * (rank - len(pad) // 2) + [(pad[i], pad[i + 1]) for i in range(len(pad) - 2, -1, -2)]
    for axis, (left, right) in enumerate(margins):
        if left < 0 or right < 0:
            size = static(value.shape[axis])
            if size is None:
                raise call.unsupported("it crops an axis of unknown size")
            value = slice_axis(call, value, axis, max(-left, 0), size - max(-right, 0))
    margins = [(max(left, 0), max(right, 0)) for left, right in margins]
    if not any(map(any, margins)):
        return value
    if rank in (3, 4, 5) and not any(map(any, margins[:2])) and value.is_float and np.isfinite(fill):
        shifted = rescale(call, Value(channels_last_tensor(call, value), value.shape, channels_last(rank)), 1.0, -fill)
        padded = Value(zero_pad(call, shifted.tensor, margins[2:]), call.shape, channels_last(rank))
        nonnegative = value.nonnegative and fill >= 0
        return Value(rescale(call, padded, 1.0, fill).tensor, call.shape, padded.order, nonnegative)
    widths = [margins[axis] for axis in value.order]
    if call.layers_only and fill == 0 and len([width for width in widths if any(width)]) == 1:
        return _pad_one_axis(call, value, widths)
    tensor = call.op(keras.ops.pad, value.tensor, widths, mode="constant", constant_values=fill)
    return Value(tensor, call.shape, value.order, value.nonnegative and fill >= 0)


def _pad_one_axis(call: Call, value: Value, widths: list[tuple[int, int]]) -> Value:
    """Zeros along any axis but the batch, in layers: ZeroPadding2D of axis 2 of (N, before, axis, after)."""
    place = next(i for i, width in enumerate(widths) if any(width))
    stored, rank = value.storage_shape, len(value.order)
    if place == 0 or any(static(stored[axis]) is None for axis in range(1, rank)):
        raise call.unsupported("HDF5 files cannot hold this padding: convert to .keras instead")
    before, after = math.prod(stored[1:place]), math.prod(stored[place + 1 :])
    tensor = reshape_tensor(call, value.tensor, stored, (stored[0], before, stored[place], after))
    tensor = zero_pad(call, tensor, [(0, 0), widths[place]])
    wide = stored[place] + sum(widths[place])
    shape = [call.shape[axis] for axis in value.order]
    tensor = reshape_tensor(call, tensor, (stored[0], before, wide, after), shape)
    return Value(tensor, call.shape, value.order, value.nonnegative)


@converts("pad.default")
def pad_mode(call: Call, value: Value, pad: Sequence[int], mode: str, fill: float | None) -> Value:
    if mode == "constant":
        return constant_pad(call, value, pad, fill or 0.0)
    if mode == "reflect" and not call.layers_only and min(pad) >= 0:
        margins = {len(value.shape) - 1 - i // 2: (pad[i], pad[i + 1]) for i in range(0, len(pad), 2)}
        widths = [margins.get(axis, (0, 0)) for axis in value.order]
        return Value(call.op(keras.ops.pad, value.tensor, widths, mode="reflect"), call.shape, value.order)
    for i in range(0, len(pad), 2):
        axis = len(value.shape) - 1 - i // 2
        size = static(value.shape[axis])
        if size is None or min(pad) < 0:
            raise call.unsupported(f"padding in mode {mode} of an axis of unknown size, or by less than nothing")
        positions = np.pad(np.arange(size), (pad[i], pad[i + 1]), mode=_NUMPY_MODES[mode])
        value = take_axis(call, value, axis, positions)
    return value
