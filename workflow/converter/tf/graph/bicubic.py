"""ResizeBicubic as gathers and sums, exactly as TensorFlow computes it.

ONNX's Resize and TensorFlow differ by up to a thousandth: TensorFlow (tensorflow/core/kernels/image/resize_bicubic_op.cc)
rounds the distances between pixels to 1/1024. TensorFlow Lite has no such operator. Here sizes may be free.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from converter.tf.graph.graph import GraphDef, NodeDef
from converter.tf.graph.rewrite import Emitter, replace_operators

__all__ = ["expand_bicubic"]

_STEPS = 1024.0


def expand_bicubic(graph_def: GraphDef) -> None:
    """Replace the operator, in place, in the graph and in its functions."""
    replace_operators(graph_def, {"ResizeBicubic": _resize})


def _resize(node: NodeDef, emit: Emitter, value: Callable) -> tuple[str, tf.DType]:
    """(N, H, W, C) to (N, size[0], size[1], C), float32."""
    images, dtype = node.input[0], tf.as_dtype(node.attr["T"].type)
    if dtype != tf.float32:
        images = emit("Cast", images, SrcT=dtype, DstT=tf.float32)
    build = _Builder(emit)
    shape = emit("Shape", images, T=tf.float32, out_type=tf.int32)
    half_pixel, align = node.attr["half_pixel_centers"].b, node.attr["align_corners"].b
    for axis in (1, 2):
        before, after = build.element(shape, axis), build.element(node.input[1], axis - 1)
        images = build.along(axis, images, before, after, half_pixel, align)
    return images, tf.float32


class _Builder:
    """Arithmetic in float32."""

    def __init__(self, emit: Emitter) -> None:
        self._emit = emit

    def element(self, vector: str, index: int) -> str:
        """A scalar of an int32 vector."""
        place, first = self._emit.const(index, tf.int32), self._emit.const(0, tf.int32)
        return self._emit("GatherV2", vector, place, first, Tparams=tf.int32, Tindices=tf.int32, Taxis=tf.int32)

    def number(self, value: float) -> str:
        return self._emit.const(value, tf.float32)

    def of(self, op: str, *operands: str | float) -> str:
        tensors = [self.number(operand) if isinstance(operand, float) else operand for operand in operands]
        return self._emit(op, *tensors, T=tf.float32)

    def float_of(self, tensor: str) -> str:
        return self._emit("Cast", tensor, SrcT=tf.int32, DstT=tf.float32)

    def select(self, condition: str, then: str, otherwise: str) -> str:
        return self._emit("SelectV2", condition, then, otherwise, T=tf.float32)

    def along(self, axis: int, images: str, before: str, after: str, half_pixel: bool, align: bool) -> str:
        """Resize one axis from `before` to `after` pixels, both int32 scalars."""
        emit, of = self._emit, self.of
        last = of("Sub", self.float_of(before), 1.0)
        zero, one = emit.const(0, tf.int32), emit.const(1, tf.int32)
        pixels = self.float_of(emit("Range", zero, after, one, Tidx=tf.int32))
        scale = of("RealDiv", self.float_of(before), self.float_of(after))
        if align:
            steps = of("Sub", self.float_of(after), 1.0)
            between = of("RealDiv", last, of("Maximum", steps, 1.0))
            scale = self.select(of("Greater", steps, 0.0), between, scale)
        place = of("Mul", pixels, scale)
        if half_pixel:
            place = of("Sub", of("Mul", of("AddV2", pixels, 0.5), scale), 0.5)
        whole = of("Floor", place)
        rest = of("RealDiv", of("Round", of("Mul", of("Sub", place, whole), _STEPS)), _STEPS)
        indices, weights = [], []
        for offset in (-1.0, 0.0, 1.0, 2.0):
            index = of("AddV2", whole, offset)
            inside = of("Minimum", of("Maximum", index, 0.0), last)
            weight = self.weight(of("Abs", of("Sub", rest, offset)), half_pixel)
            if half_pixel:  # pixels beyond the edge have no weight; else the edge's stands for them
                beyond = of("Abs", of("Sub", index, inside))
                weight = self.select(of("Greater", beyond, 0.5), self.number(0.0), weight)
            indices.append(emit("Cast", inside, SrcT=tf.float32, DstT=tf.int32))
            weights.append(weight)
        if half_pixel:
            total = of("AddV2", of("AddV2", *weights[:2]), of("AddV2", *weights[2:]))
            weights = [of("RealDiv", weight, total) for weight in weights]
        column = emit.const([-1, 1, 1] if axis == 1 else [-1, 1], tf.int32)
        parts = []
        for index, weight in zip(indices, weights, strict=True):
            rows = emit(
                *("GatherV2", images, index, emit.const(axis, tf.int32)),
                Tparams=tf.float32,
                Tindices=tf.int32,
                Taxis=tf.int32,
            )
            parts.append(of("Mul", rows, emit("Reshape", weight, column, T=tf.float32, Tshape=tf.int32)))
        return of("AddV2", of("AddV2", *parts[:2]), of("AddV2", *parts[2:]))

    def weight(self, distance: str, half_pixel: bool) -> str:
        """Of a pixel at this distance, 0 to 2: the cubic of Keys with a = -1/2, or -3/4 without centres of half pixels."""
        of, a = self.of, -0.5 if half_pixel else -0.75
        near = of("Mul", of("Sub", of("Mul", distance, a + 2), a + 3), of("Mul", distance, distance))
        far = of("Mul", of("AddV2", of("Mul", of("Sub", of("Mul", distance, a), 5 * a), distance), 8 * a), distance)
        is_near = of("Less", distance, 1.0)
        return self.select(is_near, of("AddV2", near, 1.0), of("Sub", far, 4 * a))
