"""Arithmetic of integers that torch, or a target, stores and casts but does not compute with.

Unsigned ones wider than a byte (torch 2.13) are computed in int64, whose last bits are those of the result; what depends on
the order of numbers needs more for uint64, whose upper half is negative there. Narrow ones (TensorFlow Lite has most kernels
for quantized numbers of that width only) are computed in int32.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

__all__ = ["UNSIGNED", "divided", "in_int64", "in_order", "shifted_right"]

UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)
_WIDER = {**dict.fromkeys(UNSIGNED, torch.int64), **dict.fromkeys((torch.int8, torch.uint8, torch.int16), torch.int32)}
_LOWEST = torch.iinfo(torch.int64).min


def in_int64(function: Callable[..., torch.Tensor], *tensors: torch.Tensor) -> torch.Tensor:
    """function(*tensors), of integers that are not computed with in wider ones and back: for sums, products, bits, equality
    and selections. The last tensor's dtype is the result's, but for truth values.
    """
    dtype = tensors[-1].dtype
    wider = _WIDER.get(dtype)
    if wider is None:
        return function(*tensors)
    result = function(*(tensor.to(wider) if tensor.dtype in _WIDER else tensor for tensor in tensors))
    return result.to(dtype) if result.dtype == wider else result


def in_order(function: Callable[..., torch.Tensor], *tensors: torch.Tensor) -> torch.Tensor:
    """The same for comparisons, the least and the greatest, and sorting."""
    dtype = tensors[-1].dtype
    if dtype != torch.uint64:
        return in_int64(function, *tensors)
    result = function(*(tensor.to(torch.int64) ^ _LOWEST for tensor in tensors))
    return (result ^ _LOWEST).to(dtype) if result.dtype == torch.int64 else result


def divided(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a / b of integers, towards zero."""
    if a.dtype != torch.uint64:
        return in_int64(lambda x, y: torch.div(x, y, rounding_mode="trunc"), a, b)
    # An estimate of half the numerator is one too small at most; a divisor in the upper half goes in once or not at all.
    x, y = a.to(torch.int64), b.to(torch.int64)
    halved = (x >> 1) & ~_LOWEST
    estimate = torch.div(halved, torch.where(y < 0, 1, y), rounding_mode="floor") << 1
    estimate = estimate + ((x - estimate * y) ^ _LOWEST).ge(y ^ _LOWEST)
    return torch.where(y < 0, ((x ^ _LOWEST) >= (y ^ _LOWEST)).to(torch.int64), estimate).to(torch.uint64)


def shifted_right(a: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """a >> bits, filled with zeros."""
    if a.dtype != torch.uint64:
        return in_int64(torch.bitwise_right_shift, a, bits)
    x, y = a.to(torch.int64), bits.to(torch.int64)
    return torch.where(y == 0, x, ((x >> 1) & ~_LOWEST) >> (y - 1).clamp(min=0)).to(torch.uint64)
