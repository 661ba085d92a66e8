"""Reductions over axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from converter.onnx_to_torch.core.integers import in_int64, in_order
from converter.onnx_to_torch.core.registry import Call, operator

__all__ = ["reduced_axes"]

# From these opsets on the axes are an input.
_AXES_AS_INPUT = {"ReduceSum": 13}


def reduced_axes(call: Call, rank: int) -> list[int] | None:
    """The axes, counted from the first; None where nothing is reduced."""
    if call.opset >= _AXES_AS_INPUT.get(call.node.op_type, 18):
        axes = call.ints(1)
        if axes and not all(isinstance(axis, int) for axis in axes):
            raise call.refusal("needs axes that are known before the model runs, which these are not")
    else:
        axes = call.attribute("axes")
    if not axes:
        return None if call.attribute("noop_with_empty_axes", 0) else list(range(rank))
    return sorted(axis % rank for axis in axes) if rank else []


_Reduction = Callable[[torch.Tensor, list[int], bool], torch.Tensor]


def _reduction(
    *names: str,
    before: Callable[[torch.Tensor], torch.Tensor] | None = None,
    after: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> Callable[[_Reduction], _Reduction]:
    """Registers a reduction of all the axes that it is given; before, after: what is done to each element."""

    def register(function: _Reduction) -> _Reduction:
        def compute(call: Call) -> torch.Tensor:
            x = call.tensor(0)
            axes, keep = reduced_axes(call, x.dim()), bool(call.attribute("keepdims", 1))
            dtype = x.dtype
            if after is not None and not x.is_floating_point():
                x = x.to(torch.float64)  # roots and logarithms of integers, as the integers that they are cut to
            x = x if before is None else before(x)
            # A tensor without axes is its own sum; torch takes no axes for all of them.
            x = function(x, axes, keep) if axes else x
            x = x if after is None else after(x)
            return x if x.dtype == dtype else x.to(dtype)

        operator(*names)(compute)
        return function

    return register


def _abs(x: torch.Tensor) -> torch.Tensor:
    return x.abs() if x.dtype.is_signed else x


def _square(x: torch.Tensor) -> torch.Tensor:
    return in_int64(lambda y: y * y, x)


@_reduction("ReduceSum")
@_reduction("ReduceL1", before=_abs)
@_reduction("ReduceSumSquare", before=_square)
@_reduction("ReduceL2", before=_square, after=torch.sqrt)
@_reduction("ReduceLogSum", after=torch.log)
def _summed(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    return in_int64(lambda y: y.sum(axes, keep, dtype=y.dtype), x)


@_reduction("ReduceMean")
def _averaged(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    if x.is_floating_point():
        return x.mean(axes, keep)
    count: Any = 1
    for axis in axes:
        count = count * x.shape[axis]
    return torch.div(x.to(torch.int64).sum(axes, keep), count, rounding_mode="trunc")


@_reduction("ReduceLogSumExp", before=None, after=lambda x: x)
def _log_sum_exp(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    return torch.logsumexp(x, axes, keep)


@_reduction("ReduceProd")
def _multiplied(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    def over_all(y: torch.Tensor) -> torch.Tensor:
        for axis in reversed(axes):
            y = y.prod(axis, keep, dtype=y.dtype)
        return y

    return in_int64(over_all, x)


@_reduction("ReduceMax")
def _largest(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    if x.dtype == torch.bool:
        return x.any(axes, keep)
    if _is_empty(x, axes):
        return _filled(x, axes, keep, float("-inf") if x.is_floating_point() else torch.iinfo(x.dtype).min)
    return in_order(lambda y: y.amax(axes, keep), x)


@_reduction("ReduceMin")
def _smallest(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    if x.dtype == torch.bool:
        return x.all(axes, keep)
    if _is_empty(x, axes):
        return _filled(x, axes, keep, float("inf") if x.is_floating_point() else torch.iinfo(x.dtype).max)
    return in_order(lambda y: y.amin(axes, keep), x)


def _is_empty(x: torch.Tensor, axes: list[int]) -> bool:
    return any(isinstance(x.shape[axis], int) and x.shape[axis] == 0 for axis in axes)


def _filled(x: torch.Tensor, axes: list[int], keep: bool, value: float) -> torch.Tensor:
    """What the largest or smallest of no elements is."""
    shape = [1 if axis in axes else size for axis, size in enumerate(x.shape) if keep or axis not in axes]
    return torch.full(shape, value, dtype=x.dtype)


@operator("ArgMax")
def _arg_max(call: Call) -> torch.Tensor:
    return _place(call, torch.argmax)


@operator("ArgMin")
def _arg_min(call: Call) -> torch.Tensor:
    return _place(call, torch.argmin)


def _place(call: Call, function: Callable[..., torch.Tensor]) -> torch.Tensor:
    x, axis = call.tensor(0), call.attribute("axis", 0)
    if x.dim() == 0:
        return torch.zeros_like(x, dtype=torch.int64)
    keep = bool(call.attribute("keepdims", 1))
    if call.attribute("select_last_index", 0):
        return x.shape[axis] - 1 - in_order(lambda y: function(y.flip(axis), axis, keep), x)
    return in_order(lambda y: function(y, axis, keep), x)
