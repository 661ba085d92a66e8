"""Quotients of places, which are below 2^31 as the sizes of axes are, in 32 bits: LiteRT (2.3) divides no int64."""

from __future__ import annotations

import operator

import torch

from converter.torch.exact.rewriting import Rule, Writer

__all__ = ["RULES"]

_aten = torch.ops.aten
# Operators that count elements along an axis, those whose second result does, and those that hand on what they are given.
_COUNTING = ("argmax", "argmin", "argsort", "nonzero", "nonzero_numpy", "nms")
_SECOND = ("topk", "sort", "max", "min", "median", "kthvalue", "mode")
_PICKING = (
    "index", "index_select", "gather", "select", "slice", "narrow", "unbind", "split", "split_with_sizes", "chunk", "view",
    "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "permute", "transpose", "t", "expand", "repeat",
    "clone", "alias", "detach", "detach_", "contiguous", "flip", "roll", "masked_select", "take",
)  # fmt: skip


def _is_place(node: object) -> bool:
    while isinstance(node, torch.fx.Node):
        name = _name(node)
        if name in _COUNTING or node.target is _aten.where.default:
            return True
        if node.target is operator.getitem and isinstance(source := node.args[0], torch.fx.Node):
            if _name(source) in _SECOND:
                return bool(node.args[1] == 1)
        elif name not in _PICKING:
            return False
        node = node.args[0]
    return False


def _name(node: torch.fx.Node) -> str:
    return node.target._schema.name.rpartition("::")[2] if isinstance(node.target, torch._ops.OpOverload) else ""


def _floor_divide(write: Writer, node: torch.fx.Node) -> torch.fx.Node | None:
    place, divisor = node.args[:2]
    if node.meta["val"].dtype != torch.int64 or not isinstance(divisor, int) or not 0 < divisor < 2**31:
        return None
    if not _is_place(place):
        return None
    narrow = write(_aten.floor_divide.default, write(_aten._to_copy.default, place, dtype=torch.int32), divisor)
    return write(_aten._to_copy.default, narrow, dtype=torch.int64)


RULES: dict[torch._ops.OpOverload, Rule] = {
    _aten.floor_divide.default: _floor_divide,
    _aten.floor_divide.Scalar: _floor_divide,
}
