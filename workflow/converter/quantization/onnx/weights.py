"""Weights as integers: symmetric, with one scale for each channel, or for each block of one."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

__all__ = ["BLOCK", "blocks_of", "int4_tensor", "per_channel"]

BLOCK = 32
"""Values of one scale, as most programs for 4 bits take them; onnxruntime has kernels from 16 on."""


def per_channel(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """(int8 of the same shape, float32 scales along `axis`): values = int8 * scale, from -127 to 127."""
    others = tuple(place for place in range(values.ndim) if place != axis)
    largest = np.abs(values).max(axis=others, initial=0.0)
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    scales = np.maximum(scales, np.finfo(np.float32).tiny)
    shape = [-1 if place == axis else 1 for place in range(values.ndim)]
    return np.clip(np.rint(values / scales.reshape(shape)), -127, 127).astype(np.int8), scales


def blocks_of(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """(int8 from -8 to 7 of the same shape, float32 scales): values = int4 * scale, a scale for each BLOCK along `axis`.

    values: rank 2. The last block may be shorter. The value that is largest in size becomes -8, so that all 16 steps serve.
    """
    moved = np.moveaxis(values, axis, 0)
    length, others = moved.shape
    count = -(-length // BLOCK)
    padded = np.zeros((count * BLOCK, others), np.float32)
    padded[:length] = moved
    blocks = padded.reshape(count, BLOCK, others)
    places = np.abs(blocks).argmax(axis=1, keepdims=True)
    scales = (np.take_along_axis(blocks, places, axis=1) / -8).astype(np.float32)
    scales = np.where(np.abs(scales) < np.finfo(np.float32).tiny, np.float32(1), scales)
    integers = np.clip(np.rint(blocks / scales), -8, 7).astype(np.int8)
    integers = integers.reshape(count * BLOCK, others)[:length]
    return np.ascontiguousarray(np.moveaxis(integers, 0, axis)), np.moveaxis(scales[:, 0], 0, axis).copy()


def int4_tensor(values: np.ndarray, name: str) -> TensorProto:
    """An initializer of 4 bits a value, two in a byte, the first in the lower half (onnx.proto, raw_data)."""
    flat = values.reshape(-1).astype(np.uint8) & 0xF
    if flat.size % 2:
        flat = np.append(flat, np.uint8(0))
    packed = (flat[0::2] | (flat[1::2] << 4)).astype(np.uint8)
    return TensorProto(name=name, data_type=TensorProto.INT4, dims=values.shape, raw_data=packed.tobytes())
