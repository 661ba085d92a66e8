"""Shifts and bits of integers as arithmetic, which every target has: in ONNX shifts come out wrong below zero.

torch's exporters divide for x >> n (torch 2.13), and ONNX divides towards zero, where the shift rounds down. Neither
ONNX below opset 18 nor TensorFlow Lite has the bitwise operators that are arithmetic in disguise.
"""

from __future__ import annotations

import torch

from converter.torch.exact.rewriting import Rule, Writer

__all__ = ["RULES"]

_aten = torch.ops.aten


def _bits(node: torch.fx.Node) -> int | None:
    """The width of the node's integers, None for other tensors."""
    dtype = node.meta["val"].dtype
    return None if dtype.is_floating_point or dtype.is_complex or dtype == torch.bool else torch.iinfo(dtype).bits


def _is_signed(node: torch.fx.Node) -> bool:
    return node.meta["val"].dtype.is_signed


def _left(write: Writer, node: torch.fx.Node) -> torch.fx.Node | None:
    """x << n is x * 2**n; what leaves the type at the top is lost."""
    x, count = node.args
    if not isinstance(x, torch.fx.Node) or (bits := _bits(node)) is None:
        return None
    if isinstance(count, torch.fx.Node):
        return _by_tensor(write, node, _aten.mul.Tensor)
    return write(_aten.mul.Tensor, x, 2**count) if 0 <= count < bits - 1 else None


def _right(write: Writer, node: torch.fx.Node) -> torch.fx.Node | None:
    """x >> n is floor(x / 2**n): two's complement keeps the sign."""
    x, count = node.args
    if not isinstance(x, torch.fx.Node) or (bits := _bits(node)) is None:
        return None
    if isinstance(count, torch.fx.Node):
        return _by_tensor(write, node, _aten.floor_divide.default)
    if count < 0:
        return None
    if count < bits - 1 or (count < bits and not _is_signed(node)):
        return write(_aten.floor_divide.default, x, 2**count)
    # Only the sign is left: 2**count would not fit into the type.
    negative = write(_aten.lt.Scalar, x, 0)
    return write(_aten.neg.default, write(_aten._to_copy.default, negative, dtype=node.meta["val"].dtype))


def _by_tensor(write: Writer, node: torch.fx.Node, operator: torch._ops.OpOverload) -> torch.fx.Node:
    """A shift by numbers that a tensor holds: by one power of two after the other."""
    x, count = node.args
    for power in _powers(write, count, node.meta["val"].dtype):
        x = write(operator, x, power)
    return x


def _powers(write: Writer, count: torch.fx.Node, dtype: torch.dtype) -> list[torch.fx.Node]:
    """Two factors of 2**count, as one would not fit into the type where only the sign is left.

    Powers of two are exact as floats, and no runtime has a power of integers at every opset.
    """
    half = write(_aten.floor_divide.default, count, 2)
    parts = half, write(_aten.sub.Tensor, count, half)
    floats = [write(_aten._to_copy.default, part, dtype=torch.float32) for part in parts]
    return [write(_aten._to_copy.default, write(_aten.pow.Scalar, 2.0, exponent), dtype=dtype) for exponent in floats]


def _not(write: Writer, node: torch.fx.Node) -> torch.fx.Node | None:
    """~x is -1 - x in two's complement, and 255 - x for uint8."""
    bits = _bits(node)
    if bits is None:
        return None
    return write(_aten.rsub.Scalar, node.args[0], -1 if _is_signed(node) else 2**bits - 1)


def _and(write: Writer, node: torch.fx.Node) -> torch.fx.Node | None:
    """x & (2**n - 1), the last n bits, is the remainder of x by 2**n, which is never negative."""
    x, mask = node.args
    bits = _bits(node)
    if bits is None or not isinstance(x, torch.fx.Node) or not isinstance(mask, int):
        return None
    if mask <= 0 or mask & (mask + 1) or mask + 1 >= 2 ** (bits - 1):
        return None
    return write(_aten.remainder.Scalar, x, mask + 1)


RULES: dict[torch._ops.OpOverload, Rule] = {
    _aten.__lshift__.Scalar: _left,
    _aten.__lshift__.Tensor: _left,
    _aten.bitwise_left_shift.Tensor: _left,
    _aten.bitwise_left_shift.Tensor_Scalar: _left,
    _aten.__rshift__.Scalar: _right,
    _aten.__rshift__.Tensor: _right,
    _aten.bitwise_right_shift.Tensor: _right,
    _aten.bitwise_right_shift.Tensor_Scalar: _right,
    _aten.bitwise_not.default: _not,
    _aten.bitwise_and.Scalar: _and,
    _aten.__and__.Scalar: _and,
}
