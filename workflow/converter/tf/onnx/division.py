"""Handlers for tf2onnx of quotients, remainders and shifts that round as TensorFlow's do, below zero too.

ONNX divides integers towards zero, and tf2onnx 1.17 writes that for FloorDiv and FloorMod. Of floats it writes
x - floor(x / y) * y, which is off by y where x / y is rounded up to a whole number; ONNX has the exact remainder from opset
10 on. Registered when imported, in the place of tf2onnx's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import tf2onnx.tfonnx  # noqa: F401  (registers its own handlers, which these replace)
from onnx import TensorProto
from onnx.helper import tensor_dtype_to_np_dtype
from tf2onnx import utils
from tf2onnx.handler import tf_op

if TYPE_CHECKING:
    from tf2onnx.graph import Graph, Node

_FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16}
_NARROW = {TensorProto.INT8, TensorProto.INT16, TensorProto.UINT8, TensorProto.UINT16}
_UNSIGNED = {TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64}


class _Builder:
    """Takes a node of TensorFlow's out of the graph and puts operators of ONNX in its place.

    dtype: that of the operands in the file; onnxruntime 1.32 divides no integers narrower than 32 bits.
    """

    def __init__(self, ctx: Graph, node: Node, opset: int) -> None:
        self._ctx, self._opset = ctx, opset
        self._name, self._outputs = node.name, list(node.output)
        self._shapes, self._dtypes = node.output_shapes, node.output_dtypes
        self.source_dtype = ctx.get_dtype(node.input[0])
        self.dtype = TensorProto.INT32 if self.source_dtype in _NARROW else self.source_dtype
        self.operands = [self.cast(source, self.dtype, self.source_dtype) for source in node.input[:2]]
        divisor = node.inputs[1]
        self.divisor = np.asarray(divisor.get_tensor_value(as_list=False)) if divisor.is_const() else None
        ctx.remove_node(node.name)

    def __call__(self, operator: str, *inputs: str, **attributes: object) -> str:
        return self._ctx.make_node(operator, list(inputs), attr=attributes, op_name_scope=self._name).output[0]

    def constant(self, value: float, dtype: int | None = None) -> str:
        array = np.array(value, tensor_dtype_to_np_dtype(dtype or self.dtype))
        return self._ctx.make_const(utils.make_name(f"{self._name}/constant"), array).output[0]

    def cast(self, tensor: str, dtype: int, known: int | None = None) -> str:
        return tensor if known == dtype else self("Cast", tensor, to=dtype)

    def less(self, a: str, b: str) -> str:
        if self._opset < 9 and self.dtype not in _FLOATS:  # it compares floats only there
            a, b = (self.cast(x, TensorProto.FLOAT) for x in (a, b))
        return self("Less", a, b)

    def finish(self, result: str) -> None:
        operator = "Identity" if self.source_dtype == self.dtype else "Cast"
        attributes = {"to": self.source_dtype} if operator == "Cast" else {}
        self._ctx.make_node(
            operator,
            [result],
            attr=attributes,
            name=self._name,
            outputs=self._outputs,
            shapes=self._shapes,
            dtypes=self._dtypes,
        )

    def against(self, remainder: str) -> str:
        """Where the remainder of a quotient rounded towards zero has not the divisor's sign, and is not zero."""
        zero, divisor = self.constant(0), self.operands[1]
        if self.divisor is not None and (self.divisor > 0).all():
            return self.less(remainder, zero)
        if self.divisor is not None and (self.divisor < 0).all():
            return self.less(zero, remainder)
        below = self("And", self.less(remainder, zero), self.less(zero, divisor))
        above = self("And", self.less(zero, remainder), self.less(divisor, zero))
        return self("Or", below, above)

    def truncated(self) -> tuple[str, str]:
        """Quotient and remainder of integers, rounded towards zero."""
        x, y = self.operands
        quotient = self("Div", x, y)
        return quotient, self("Sub", x, self("Mul", quotient, y))


def _floor_divide(ctx: Graph, node: Node, opset: int) -> None:
    build = _Builder(ctx, node, opset)
    if build.dtype in _FLOATS:
        build.finish(build("Floor", build("Div", *build.operands)))
        return
    quotient, remainder = build.truncated()
    if build.source_dtype not in _UNSIGNED:
        quotient = build("Sub", quotient, build.cast(build.against(remainder), build.dtype))
    build.finish(quotient)


def _floor_mod(ctx: Graph, node: Node, opset: int) -> None:
    build = _Builder(ctx, node, opset)
    x, y = build.operands
    if build.dtype not in _FLOATS:
        remainder = build.truncated()[1]
        if build.source_dtype not in _UNSIGNED:
            raised = build("Mul", build.cast(build.against(remainder), build.dtype), y)
            remainder = build("Add", remainder, raised)
        build.finish(remainder)
    elif opset < 10:
        build.finish(build("Sub", x, build("Mul", build("Floor", build("Div", x, y)), y)))
    else:
        remainder = build("Mod", x, y, fmod=1)
        build.finish(build("Where", build.against(remainder), build("Add", remainder, y), remainder))


def _truncate_mod(ctx: Graph, node: Node, opset: int) -> None:
    build = _Builder(ctx, node, opset)
    if build.dtype not in _FLOATS:
        build.finish(build.truncated()[1])
        return
    utils.make_sure(opset >= 10, "the remainder of floats needs opset 10")
    build.finish(build("Mod", *build.operands, fmod=1))


def _shift(ctx: Graph, node: Node, opset: int) -> None:
    """ONNX shifts unsigned integers only. x >> n of a negative x is -1 - ((-1 - x) >> n), which keeps the sign."""
    direction = node.type.removesuffix("Shift").upper()
    build = _Builder(ctx, node, opset)
    x, count = (build.cast(operand, TensorProto.INT64, build.dtype) for operand in build.operands)
    count = build.cast(count, TensorProto.UINT64)
    keeps_sign = direction == "RIGHT" and build.source_dtype not in _UNSIGNED
    if keeps_sign:
        ones = build.constant(-1, TensorProto.INT64)
        negative = build("Less", x, build.constant(0, TensorProto.INT64))
        x = build("Where", negative, build("Sub", ones, x), x)
    bits = build.cast(x, TensorProto.UINT64)
    result = build.cast(build("BitShift", bits, count, direction=direction), TensorProto.INT64)
    if keeps_sign:
        result = build("Where", negative, build("Sub", ones, result), result)
    build.finish(build.cast(result, build.dtype, TensorProto.INT64))


@tf_op("FloorDiv")
class _FloorDiv:
    @classmethod
    def version_7(cls, ctx: Graph, node: Node, **kwargs: object) -> None:
        _floor_divide(ctx, node, ctx.opset)


@tf_op("FloorMod")
class _FloorMod:
    @classmethod
    def version_7(cls, ctx: Graph, node: Node, **kwargs: object) -> None:
        _floor_mod(ctx, node, ctx.opset)


@tf_op(["TruncateMod", "Mod"])
class _TruncateMod:
    @classmethod
    def version_7(cls, ctx: Graph, node: Node, **kwargs: object) -> None:
        _truncate_mod(ctx, node, ctx.opset)


@tf_op(["LeftShift", "RightShift"])
class _Shift:
    @classmethod
    def version_11(cls, ctx: Graph, node: Node, **kwargs: object) -> None:
        _shift(ctx, node, ctx.opset)
