"""Functions that torch's exporters write for ONNX so that they fail at the ends of their range (torch 2.13)."""

from __future__ import annotations

import math

import torch

from converter.torch.exact.rewriting import Rule, Writer

__all__ = ["RULES"]

_aten = torch.ops.aten


def _log_sigmoid(write: Writer, node: torch.fx.Node) -> torch.fx.Node:
    """-softplus(-x): the logarithm of a sigmoid is minus infinity below -104, where x itself is meant."""
    return write(_aten.neg.default, write(_aten.softplus.default, write(_aten.neg.default, node.args[0])))


def _atan2(write: Writer, node: torch.fx.Node) -> torch.fx.Node | None:
    """By quadrants, with pi on the negative axis and 0 at the origin, where the exporters write -pi and NaN.

    The sign of a zero is not looked at: atan2(-0.0, -1) is pi here, -pi in PyTorch.
    """
    y, x = node.args
    if not all(operand.meta["val"].dtype.is_floating_point for operand in (y, x)):
        return None
    is_zero = write(_aten.le.Scalar, write(_aten.abs.default, x), 0)
    angle = write(_aten.atan.default, write(_aten.div.Tensor, y, write(_aten.masked_fill.Scalar, x, is_zero, 1.0)))
    half = write(_aten.mul.Scalar, write(_aten.sign.default, y), math.pi / 2)
    angle = write(_aten.where.self, is_zero, half, angle)
    above = write(_aten._to_copy.default, write(_aten.ge.Scalar, y, 0), dtype=node.meta["val"].dtype)
    turn = write(_aten.add.Scalar, write(_aten.mul.Scalar, above, 2 * math.pi), -math.pi)
    left = write(_aten.lt.Scalar, x, 0)
    return write(_aten.where.self, left, write(_aten.add.Tensor, angle, turn), angle)


def _truth(write: Writer, node: torch.fx.Node) -> torch.fx.Node | None:
    """any and all of floats ask which are not zero; the exporters ask which are not once they are whole numbers."""
    x, *rest = node.args
    if not x.meta["val"].dtype.is_floating_point:
        return None
    zero = write(_aten.le.Scalar, write(_aten.abs.default, x), 0)
    return write(node.target, write(_aten.logical_not.default, zero), *rest, **node.kwargs)


RULES: dict[torch._ops.OpOverload, Rule] = {
    _aten.log_sigmoid.default: _log_sigmoid,
    _aten.atan2.default: _atan2,
    _aten.any.default: _truth,
    _aten.any.dim: _truth,
    _aten.any.dims: _truth,
    _aten.all.default: _truth,
    _aten.all.dim: _truth,
    _aten.all.dims: _truth,
}
