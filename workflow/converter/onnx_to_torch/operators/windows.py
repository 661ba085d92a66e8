"""Where the windows of convolutions and pooling lie: strides, dilations, and padding for each spatial axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from converter.onnx_to_torch.core.registry import Call

__all__ = ["Windows", "pad_around"]


@dataclass(frozen=True)
class Windows:
    """One entry for each spatial axis. before and after: the padding, ints or torch.SymInt."""

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    before: list[Any]
    after: list[Any]

    @classmethod
    def of(cls, call: Call, sizes: Sequence[Any], kernel: Sequence[int], *, pooling: bool = False) -> Windows:
        """Of the node's attributes. sizes: of the input's spatial axes.

        pooling: as onnxruntime (1.32) pads then for outputs of the same size: as if there were no dilations, and by
        negative amounts where strides are longer than windows.
        """
        rank = len(sizes)
        if not 1 <= rank <= 3:
            raise call.refusal(f"has {rank} spatial axes, and torch has windows for one to three")
        strides = call.attribute("strides") or [1] * rank
        dilations = call.attribute("dilations") or [1] * rank
        pads = call.attribute("pads") or [0] * (2 * rank)
        before, after = list(pads[:rank]), list(pads[rank:])
        auto = call.attribute("auto_pad", "NOTSET")
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            totals = [
                _total(size, stride, dilation * (length - 1) + 1 if not pooling else length)
                for size, stride, dilation, length in zip(sizes, strides, dilations, kernel, strict=True)
            ]
            if not pooling:
                totals = [_largest(total, 0) for total in totals]
            before = [_half(total + (auto == "SAME_LOWER")) for total in totals]
            after = [total - side for total, side in zip(totals, before, strict=True)]
        elif auto == "VALID":
            before, after = [0] * rank, [0] * rank
        return cls(list(kernel), list(strides), list(dilations), before, after)

    @property
    def spans(self) -> list[int]:
        """How far a window reaches, with its dilation."""
        return [dilation * (length - 1) + 1 for dilation, length in zip(self.dilations, self.kernel, strict=True)]

    @property
    def symmetric(self) -> bool:
        """Whether the same number of elements is added on both sides, whatever the input's size."""
        sides = [*self.before, *self.after]
        return all(isinstance(side, int) and side >= 0 for side in sides) and self.before == self.after


def _total(size: Any, stride: int, span: int) -> Any:
    """How much to pad for an output of ceil(size / stride)."""
    return span - 1 if stride == 1 else ((size + stride - 1) // stride - 1) * stride + span - size


def _largest(first: Any, second: Any) -> Any:
    return max(first, second) if isinstance(first, int) else torch.sym_max(first, second)


def _half(total: Any) -> Any:
    """Rounded towards zero."""
    return _largest(total, 0) // 2 - _largest(-total, 0) // 2


def pad_around(x: torch.Tensor, before: Sequence[Any], after: Sequence[Any], value: float = 0.0) -> torch.Tensor:
    """Pads the last axes with a value; negative amounts leave elements out."""
    pairs = list(zip(before, after, strict=True))
    if all(isinstance(side, int) and side == 0 for pair in pairs for side in pair):
        return x
    return functional.pad(x, [side for pair in reversed(pairs) for side in pair], value=value)
