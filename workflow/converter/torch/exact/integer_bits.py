"""`a & b` and `a | b` of whole numbers, for TensorFlow Lite: it has a kernel for `a ^ b` alone, of 32 bits and fewer.

Of numbers of 16 bits a + b is (a ^ b) + 2 (a & b), without an overflow in 32. Larger ones are taken in pieces of 16 bits, of
which the highest has the sign. And a | b is a + b less a & b. Numbers of 64 bits it cannot even divide.
"""

from __future__ import annotations

from typing import Any

import torch

from converter.torch.exact.rewriting import Rule, Writer

__all__ = ["RULES"]

_aten = torch.ops.aten
_PIECE = 1 << 16
_PIECES = {torch.int8: 1, torch.uint8: 1, torch.int16: 1, torch.int32: 2}


def _and(write: Writer, node: torch.fx.Node) -> torch.fx.Node | None:
    pieces = _pieces(node)
    return None if pieces is None else _back(write, node, _joined(write, _wide(write, node), pieces))


def _or(write: Writer, node: torch.fx.Node) -> torch.fx.Node | None:
    pieces = _pieces(node)
    if pieces is None:
        return None
    a, b = operands = _wide(write, node)
    return _back(write, node, write(_aten.sub.Tensor, write(_aten.add.Tensor, a, b), _joined(write, operands, pieces)))


def _wide(write: Writer, node: torch.fx.Node) -> list[Any]:
    """Both operands in 32 bits: there are no kernels for narrower numbers that mean no quantized ones."""
    if node.meta["val"].dtype == torch.int32:
        return list(node.args)
    return [write(_aten.to.dtype, x, torch.int32) for x in node.args]


def _back(write: Writer, node: torch.fx.Node, result: torch.fx.Node) -> torch.fx.Node:
    dtype = node.meta["val"].dtype
    return result if dtype == torch.int32 else write(_aten.to.dtype, result, dtype)


def _pieces(node: torch.fx.Node) -> int | None:
    """How many 16 bits its numbers have; None where they are truth values, or one of both is no tensor of that type."""
    result: Any = node.meta["val"]
    for source in node.args:
        value = source.meta.get("val") if isinstance(source, torch.fx.Node) else None
        if not isinstance(value, torch.Tensor) or value.dtype != result.dtype:
            return None
    return _PIECES.get(result.dtype)


def _joined(write: Writer, operands: list[Any], pieces: int) -> torch.fx.Node:
    total: torch.fx.Node | None = None
    for place in range(pieces):
        one, other = (_piece(write, x, place, place == pieces - 1) for x in operands)
        twice = write(
            _aten.sub.Tensor, write(_aten.add.Tensor, one, other), write(_aten.bitwise_xor.Tensor, one, other)
        )
        both = write(_aten.div.Tensor_mode, twice, 2, rounding_mode="floor")
        shifted = write(_aten.mul.Tensor, both, _PIECE**place) if place else both
        total = shifted if total is None else write(_aten.add.Tensor, total, shifted)
    assert total is not None
    return total


def _piece(write: Writer, x: Any, place: int, last: bool) -> Any:
    higher = write(_aten.div.Tensor_mode, x, _PIECE**place, rounding_mode="floor") if place else x
    return higher if last else write(_aten.remainder.Scalar, higher, _PIECE)


RULES: dict[torch._ops.OpOverload, Rule] = {
    _aten.bitwise_and.Tensor: _and,
    _aten.__and__.Tensor: _and,
    _aten.bitwise_or.Tensor: _or,
    _aten.__or__.Tensor: _or,
}
