"""Resizing of images."""

from __future__ import annotations

from typing import Any

import numpy as np

from converter.errors import SourceError
from converter.tflite.flatbuffer import schema
from converter.tflite_to_onnx.core.registry import Call, operator

_MOST_COMPARED = 1 << 16


def _mode(align_corners: bool, half_pixel: bool) -> str:
    return "align_corners" if align_corners else "half_pixel" if half_pixel else "asymmetric"


def _resized(call: Call, **attributes: Any) -> str:
    graph = call.graph
    x = graph.transpose(call.real(), (0, 3, 1, 2))
    sizes = graph.sizes(call.real())
    if call.input(1).array is None:
        batch = graph.vector([sizes[0], sizes[3]])
        target = call.node("Concat", batch, call.int64(1), axis=0)
    else:
        target = graph.vector([sizes[0], sizes[3], *_target(call)])
    return graph.transpose(call.node("Resize", x, "", "", target, **attributes), (0, 2, 3, 1))


def _target(call: Call) -> list[int]:
    sizes = call.ints(1, "sizes")
    if len(sizes) != 2 or min(sizes) < 1 or call.rank() != 4 or 0 in call.shape():
        raise SourceError(f"its operator {call.name} resizes {call.rank()} axes to {sizes}")
    return sizes


@operator("RESIZE_BILINEAR")
def _bilinear(call: Call) -> str:
    options = call.options(schema.ResizeBilinearOptionsT)
    mode = _mode(options.alignCorners, options.halfPixelCenters)
    return _resized(call, mode="linear", coordinate_transformation_mode=mode)


@operator("RESIZE_NEAREST_NEIGHBOR", moves=True)
def _nearest(call: Call) -> str:
    options = call.options(schema.ResizeNearestNeighborOptionsT)
    align, half = options.alignCorners, options.halfPixelCenters
    rounding = "round_prefer_ceil" if align or half else "floor"
    if call.input(1).array is not None and None not in call.shape()[1:3]:
        pairs = [(size, out) for size, out in zip(call.shape()[1:3], _target(call), strict=True) if size is not None]
        chosen = [_chosen(size, out, align, half) for size, out in pairs if out <= _MOST_COMPARED]
        expected = [_onnx_chosen(size, out, align, half) for size, out in pairs if out <= _MOST_COMPARED]
        if any(not np.array_equal(*both) for both in zip(chosen, expected, strict=True)) and len(chosen) == 2:
            # The two divide in another order, and float32 falls on the other side of a whole number.
            x = call.node("Gather", call.real(), call.graph.constant(chosen[0]), axis=1)
            return call.node("Gather", x, call.graph.constant(chosen[1]), axis=2)
    return _resized(call, mode="nearest", coordinate_transformation_mode=_mode(align, half), nearest_mode=rounding)


def _chosen(size: int, out: int, align: bool, half: bool) -> np.ndarray:
    """Indices as LiteRT computes them (reference/resize_nearest_neighbor.h)."""
    aligned = align and out > 1
    scale = np.float32(size - 1) / np.float32(out - 1) if aligned else np.float32(size) / np.float32(out)
    places = (np.arange(out, dtype=np.float32) + np.float32(0.5 if half else 0)) * scale
    found = np.floor(places + np.float32(0.5)) if align else np.floor(places)
    return np.clip(found, 0, size - 1).astype(np.int64)


def _onnx_chosen(size: int, out: int, align: bool, half: bool) -> np.ndarray:
    """Indices as onnxruntime computes them (upsamplebase.h, 1.32)."""
    places, scale = np.arange(out, dtype=np.float32), np.float32(out) / np.float32(size)
    if align:
        found = places * np.float32(size - 1) / np.float32(out - 1) if out > 1 else places * 0
    else:
        found = (places + np.float32(0.5)) / scale - np.float32(0.5) if half else places / scale
    found = np.floor(found + np.float32(0.5)) if align or half else np.floor(found)
    return np.clip(found, 0, size - 1).astype(np.int64)
