"""How operators of TorchScript are written in ONNX where torch's exporter divides towards zero (torch 2.13).

For models that could be kept as TorchScript only; exported programs are rewritten before (exact_program.py).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.onnx._internal.torchscript_exporter import _type_utils as types
from torch.onnx._internal.torchscript_exporter import symbolic_opset9 as exporter

__all__ = ["register"]


def register(opsets: Iterable[int]) -> None:
    """Make the exporter use the functions below at these opsets, in this process from now on.

    It drops an underscore of aten::__rshift__, as of operators that write into their input.
    """
    for opset in opsets:
        torch.onnx.register_custom_op_symbolic("aten::floor_divide", exporter._floor_divide, opset)
        for name in ("__rshift_", "bitwise_right_shift"):
            torch.onnx.register_custom_op_symbolic(f"aten::{name}", _right_shift, opset)


def _right_shift(g, x, count):  # noqa: ANN001, ANN202 (a graph context and its values)
    """floor(x / 2**n), also below zero; powers of two are exact as floats."""
    exponent = g.op("Cast", count, to_i=torch.onnx.TensorProtoDataType.FLOAT)
    power = g.op("Pow", g.op("Constant", value_t=torch.tensor(2.0)), exponent)
    dtype = types.JitScalarType.from_value(x).onnx_type()
    return exporter._floor_divide(g, x, g.op("Cast", power, to_i=dtype))
