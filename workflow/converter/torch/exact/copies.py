"""Copies, in programs that are to become Keras layers: those copy a single row a known number of times only.

And what is detached in place, which torch.export.load gives constants of a model (torch 2.13), is itself.
"""

from __future__ import annotations

import torch

from converter.torch.exact.rewriting import Rule, Writer

__all__ = ["RULES"]

_aten = torch.ops.aten


def _repeat(write: Writer, node: torch.fx.Node) -> torch.fx.Node | None:
    """repeat as expand where only axes of size 1 are repeated, by a number that is not known: a bias, for each of a batch."""
    x, repeats = node.args
    new = len(repeats) - x.meta["val"].dim()
    shape = [1] * new + list(x.meta["val"].shape)
    if all(isinstance(count, int) for count in repeats):
        return None
    sizes = []
    for axis, (size, count) in enumerate(zip(shape, repeats, strict=True)):
        if not (isinstance(count, int) and count == 1) and not (isinstance(size, int) and size == 1):
            return None
        sizes.append((1 if axis < new else -1) if isinstance(count, int) and count == 1 else count)
    return write(_aten.clone.default, write(_aten.expand.default, x, sizes))


def _detached(write: Writer, node: torch.fx.Node) -> torch.fx.Node:
    return write(_aten.alias.default, node.args[0])


RULES: dict[torch._ops.OpOverload, Rule] = {_aten.repeat.default: _repeat, _aten.detach_.default: _detached}
