"""Handlers for tf2onnx of rounding: halves to even at every opset, and fake quantization as TensorFlow computes it.

tf2onnx 1.17 rounds by floor(x + 0.5) below opset 11, and writes fake quantization as QuantizeLinear, which rounds halves
otherwise and knows nothing of the nudged range. Registered when imported, in the place of tf2onnx's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import tf2onnx.tfonnx  # noqa: F401  (registers its own handlers, which these replace)
from onnx.helper import tensor_dtype_to_np_dtype
from tf2onnx import utils
from tf2onnx.handler import tf_op

if TYPE_CHECKING:
    from tf2onnx.graph import Graph, Node


class _Builder:
    """Takes a node out of the graph and puts operators of ONNX in its place."""

    def __init__(self, ctx: Graph, node: Node) -> None:
        self._ctx, self._name, self._outputs = ctx, node.name, list(node.output)
        self._shapes, self._dtypes = node.output_shapes, node.output_dtypes
        self._numpy_dtype = tensor_dtype_to_np_dtype(ctx.get_dtype(node.input[0]))
        self.dtype = ctx.get_dtype(node.input[0])
        self.source = node.input[0]
        ctx.remove_node(node.name)

    def __call__(self, operator: str, *inputs: str | float | np.ndarray, last: bool = False, **attributes: int) -> str:
        placed = {"name": self._name, "outputs": self._outputs, "shapes": self._shapes, "dtypes": self._dtypes}
        options = placed if last else {"op_name_scope": self._name}
        sources = [x if isinstance(x, str) else self._constant(x) for x in inputs]
        return self._ctx.make_node(operator, sources, attr=attributes, **options).output[0]

    def _constant(self, value: float | np.ndarray) -> str:
        array = np.asarray(value, self._numpy_dtype)
        return self._ctx.make_const(utils.make_name(f"{self._name}/constant"), array).output[0]


@tf_op(["Round", "Rint"])
class _Round:
    @classmethod
    def version_7(cls, ctx: Graph, node: Node, **kwargs: object) -> None:
        """The floor, and one more above a half, and at a half where the floor is odd."""
        build = _Builder(ctx, node)
        floor = build("Floor", build.source)
        rest = build("Sub", build.source, floor)
        odd = build("Sub", floor, build("Mul", build("Floor", build("Mul", floor, 0.5)), 2))
        # Comparisons for equality take no floats below opset 11.
        half_or_more, more = build("Not", build("Less", rest, 0.5)), build("Greater", rest, 0.5)
        raised = build("Or", more, build("And", half_or_more, build("Greater", odd, 0.5)))
        build("Add", floor, build("Cast", raised, to=build.dtype), last=True)

    @classmethod
    def version_11(cls, ctx: Graph, node: Node, **kwargs: object) -> None:
        node.type = "Round"


@tf_op(["FakeQuantWithMinMaxArgs", "FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel"])
class _FakeQuantization:
    @classmethod
    def version_8(cls, ctx: Graph, node: Node, **kwargs: object) -> None:
        _fake_quantize(ctx, node)

    @classmethod
    def version_10(cls, ctx: Graph, node: Node, **kwargs: object) -> None:
        _fake_quantize(ctx, node)


def _fake_quantize(ctx: Graph, node: Node) -> None:
    """tensorflow/core/kernels/fake_quant_ops_functor.h: floor((clamped - low) / scale - zero + 0.5) * scale."""
    if node.type == "FakeQuantWithMinMaxArgs":
        low, high = (np.float32(node.get_attr(name).f) for name in ("min", "max"))
    else:
        utils.make_sure(all(source.is_const() for source in node.inputs[1:]), "the range must be constant")
        low, high = (np.asarray(source.get_tensor_value(as_list=False), np.float32) for source in node.inputs[1:])
    narrow, bits = node.get_attr("narrow_range"), node.get_attr("num_bits")
    lowest = np.float32(1 if narrow is not None and narrow.i else 0)
    highest = np.float32(2 ** (bits.i if bits is not None else 8) - 1)
    if node.type.endswith("PerChannel"):
        utils.make_sure((high > low).all(), "a channel's range is empty")
    elif low == 0 and high == 0:
        build = _Builder(ctx, node)
        build("Mul", build.source, 0, last=True)
        return
    scale = (high - low) / (highest - lowest)
    zero = np.clip(lowest - low / scale, lowest, highest)
    zero = np.floor(zero + np.float32(0.5))  # std::round, of what is not negative
    nudged_low, nudged_high = (lowest - zero) * scale, (highest - zero) * scale
    inverse = np.float32(1) / scale
    offset = np.floor(-nudged_low * inverse + np.float32(0.5))
    build = _Builder(ctx, node)
    clamped = build("Max", build("Min", build.source, nudged_high), nudged_low)
    steps = build("Sub", build("Mul", build("Sub", clamped, nudged_low), inverse), offset - np.float32(0.5))
    build("Mul", build("Floor", steps), scale, last=True)
