"""Adaptive maximum pooling to sizes that do not divide the input's: no exporter to ONNX has an operator for it (torch 2.13)."""

from __future__ import annotations

import operator
from collections.abc import Callable

import torch

from converter.torch.exact.rewriting import Rule, Writer

__all__ = ["RULES"]

_aten = torch.ops.aten
_POOLINGS = (_aten.adaptive_max_pool1d.default, _aten.adaptive_max_pool2d.default, _aten.adaptive_max_pool3d.default)


def _largest(write: Writer, node: torch.fx.Node) -> torch.fx.Node | None:
    """The first result of such a pooling, axis by axis as the largest of each window; the places of these are not made.

    Window i of n along an axis of length l goes from floor(i l / n) to ceil((i + 1) l / n), as in PyTorch's documentation
    of AdaptiveAvgPool1d.
    """
    pooling, position = node.args
    if pooling.target not in _POOLINGS or position != 0 or any(u.users for u in pooling.users if u is not node):
        return None
    x, sizes = pooling.args
    first = x.meta["val"].dim() - len(sizes)
    lengths = list(x.meta["val"].shape)[first:]
    if not all(isinstance(length, int) for length in lengths):
        return None
    if all(length % size == 0 for length, size in zip(lengths, sizes, strict=True)):
        return None
    for axis, (length, size) in enumerate(zip(lengths, sizes, strict=True), first):
        windows = [(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]
        parts = [write(_aten.slice.Tensor, x, axis, start, end) for start, end in windows]
        x = write(_aten.cat.default, [write(_aten.amax.default, part, [axis], True) for part in parts], axis)
    return x


RULES: dict[Callable, Rule] = {operator.getitem: _largest}
