"""Quotients and remainders that round as PyTorch's do, for negative operands and for floats of any size.

As torch's exporters write them (torch 2.13), `div` of integers with a rounding mode goes through float32, which has no
16777217, and floor quotients of floats are floor(a / b), which is one too large where a / b is rounded up to a whole number:
1 // 0.1 is 9 in PyTorch. `floor_divide` of integers stays: eager_program.py takes it right to ONNX.
"""

from __future__ import annotations

import torch

from converter.torch.exact.rewriting import Rule, Writer

__all__ = ["BY_FMOD", "BY_REMAINDER", "RULES"]

_aten = torch.ops.aten
_Operand = torch.fx.Node | int | float


def _is_float(node: torch.fx.Node) -> bool:
    return node.meta["val"].dtype.is_floating_point


def _is_number(operand: object) -> bool:
    return not isinstance(operand, torch.fx.Node) or not isinstance(operand.meta.get("val"), torch.Tensor)


def _negative(write: Writer, x: _Operand) -> torch.fx.Node | bool:
    return x < 0 if _is_number(x) else write(_aten.lt.Scalar, x, 0)


def _differ_in_sign(write: Writer, a: _Operand, b: _Operand) -> torch.fx.Node:
    first, second = _negative(write, a), _negative(write, b)
    if isinstance(first, bool):
        first, second = second, first
    if isinstance(second, bool):
        return write(_aten.logical_not.default, first) if second else first
    return write(_aten.ne.Tensor, first, second)


def _where_inexact(write: Writer, remainder: torch.fx.Node, condition: torch.fx.Node) -> torch.fx.Node:
    # In ONNX below opset 11 these two alone are compared for equality; TensorFlow Lite has no absolute values of int64.
    if remainder.meta["val"].dtype in (torch.int32, torch.int64):
        inexact = write(_aten.ne.Scalar, remainder, 0)
    else:
        inexact = write(_aten.gt.Scalar, write(_aten.abs.default, remainder), 0)
    return write(_aten.logical_and.default, inexact, condition)


def _division(write: Writer, node: torch.fx.Node) -> torch.fx.Node | None:
    mode = node.kwargs.get("rounding_mode")
    a, b = node.args[:2]
    if _is_number(a) or (_is_number(b) and not isinstance(b, int | float)):
        return None
    if mode == "floor":
        return _floored(write, node, a, b) if _is_float(node) else write(_aten.floor_divide.default, a, b)
    return _truncated(write, node, a, b) if mode == "trunc" and not _is_float(node) else None


def _floor_divide(write: Writer, node: torch.fx.Node) -> torch.fx.Node | None:
    a, b = node.args[:2]
    if _is_number(a) or (_is_number(b) and not isinstance(b, int | float)):
        return None
    return _floored(write, node, a, b) if _is_float(node) else None


def _truncated(write: Writer, node: torch.fx.Node, a: torch.fx.Node, b: _Operand) -> torch.fx.Node:
    """Of integers: one more than the floor where that is inexact and below zero."""
    floor = write(_aten.floor_divide.default, a, b)
    remainder = write(_aten.sub.Tensor, a, write(_aten.mul.Tensor, floor, b))
    raised = _where_inexact(write, remainder, _differ_in_sign(write, a, b))
    return write(_aten.add.Tensor, floor, write(_aten._to_copy.default, raised, dtype=node.meta["val"].dtype))


def _floored(write: Writer, node: torch.fx.Node, a: torch.fx.Node, b: _Operand) -> torch.fx.Node:
    """Of floats, as ATen's div_floor_floating: (a - fmod(a, b)) / b is a whole number but for rounding."""
    dtype = node.meta["val"].dtype
    a, b = (_as(write, operand, dtype) for operand in (a, b))
    fmod = _aten.fmod.Scalar if _is_number(b) else _aten.fmod.Tensor
    remainder = write(fmod, a, b)
    quotient = write(_aten.div.Tensor, write(_aten.sub.Tensor, a, remainder), b)
    lowered = _where_inexact(write, remainder, _differ_in_sign(write, remainder, b))
    lowered = write(_aten._to_copy.default, lowered, dtype=dtype)
    # Not round: ONNX has none below opset 11.
    whole = write(_aten.floor.default, write(_aten.add.Scalar, write(_aten.sub.Tensor, quotient, lowered), 0.5))
    if _is_number(b):
        return whole if b != 0 else write(_aten.div.Tensor, a, b)
    by_zero = write(_aten.le.Scalar, write(_aten.abs.default, b), 0)
    return write(_aten.where.self, by_zero, write(_aten.div.Tensor, a, b), whole)


def _as(write: Writer, operand: _Operand, dtype: torch.dtype) -> _Operand:
    if _is_number(operand) or operand.meta["val"].dtype == dtype:
        return operand
    return write(_aten._to_copy.default, operand, dtype=dtype)


def _integer_fmod(write: Writer, node: torch.fx.Node) -> torch.fx.Node | None:
    """The remainder with the sign of the dividend: that of the floor, less the divisor where the signs differ."""
    a, b = node.args[:2]
    if _is_float(node) or _is_number(a) or (_is_number(b) and not isinstance(b, int)):
        return None
    remainder = write(_aten.remainder.Scalar if _is_number(b) else _aten.remainder.Tensor, a, b)
    lowered = write(_aten.sub.Tensor, remainder, b)
    return write(_aten.where.self, _where_inexact(write, remainder, _differ_in_sign(write, a, b)), lowered, remainder)


def _float_fmod(write: Writer, node: torch.fx.Node) -> torch.fx.Node | None:
    """Of the absolute values both remainders are the same."""
    a, b = node.args[:2]
    if not _is_float(node) or _is_number(a) or (_is_number(b) and not isinstance(b, int | float)):
        return None
    a, b = (_as(write, operand, node.meta["val"].dtype) for operand in (a, b))
    size = write(_aten.abs.default, a)
    if _is_number(b):
        remainder = write(_aten.remainder.Scalar, size, abs(b))
    else:
        remainder = write(_aten.remainder.Tensor, size, write(_aten.abs.default, b))
    opposite = write(_aten.neg.default, remainder)
    return write(_aten.where.self, write(_aten.lt.Scalar, a, 0), opposite, remainder)


def _float_remainder(write: Writer, node: torch.fx.Node) -> torch.fx.Node | None:
    """As ATen computes it: fmod, which is exact, plus the divisor where the signs differ."""
    a, b = node.args[:2]
    if not _is_float(node) or _is_number(a) or (_is_number(b) and not isinstance(b, int | float)):
        return None
    a, b = (_as(write, operand, node.meta["val"].dtype) for operand in (a, b))
    remainder = write(_aten.fmod.Scalar if _is_number(b) else _aten.fmod.Tensor, a, b)
    raised = write(_aten.add.Tensor, remainder, b)
    return write(
        _aten.where.self, _where_inexact(write, remainder, _differ_in_sign(write, remainder, b)), raised, remainder
    )


def _remainder(write: Writer, node: torch.fx.Node) -> torch.fx.Node | None:
    """Of whole numbers by a size, or by a number read from a tensor, which onnxscript (0.7.2) takes for a plain one."""
    a, b = node.args[:2]
    if _is_float(node) or not isinstance(b, torch.fx.Node) or not _is_number(b) or _is_number(a):
        return _float_remainder(write, node)
    divisor = write(_aten.scalar_tensor.default, b, dtype=node.meta["val"].dtype)
    return write(_aten.remainder.Tensor, a, divisor)


RULES: dict[torch._ops.OpOverload, Rule] = {
    _aten.floor_divide.default: _floor_divide,
    _aten.floor_divide.Scalar: _floor_divide,
    _aten.div.Tensor_mode: _division,
    _aten.div.Scalar_mode: _division,
    _aten.fmod.Tensor: _integer_fmod,
    _aten.fmod.Scalar: _integer_fmod,
}

# Of the two remainders of floats each target has one that is exact; the other would be a - floor(a / b) * b there, which is
# off by a whole divisor where a / b is rounded up.
BY_FMOD: dict[torch._ops.OpOverload, Rule] = {
    _aten.remainder.Tensor: _float_remainder,
    _aten.remainder.Scalar: _remainder,
}
BY_REMAINDER: dict[torch._ops.OpOverload, Rule] = {
    _aten.fmod.Tensor: _float_fmod,
    _aten.fmod.Scalar: _float_fmod,
}
