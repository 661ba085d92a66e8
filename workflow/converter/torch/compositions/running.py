"""Running products, maxima, minima and logarithms of sums, by doubling: step k joins what lies 2^k apart."""

from __future__ import annotations

from collections.abc import Callable

import torch

from converter.torch.compositions.table import composes

aten = torch.ops.aten
_Tensors = tuple[torch.Tensor, ...]


def _running(
    tensors: _Tensors, dim: int, starts: tuple[float, ...], join: Callable[[_Tensors, _Tensors], _Tensors]
) -> _Tensors:
    """Each element joined with all before it. starts: for what lies before the first one."""
    size, step = tensors[0].shape[dim], 1
    while step < size:
        earlier = tuple(
            torch.cat([torch.full_like(x.narrow(dim, 0, step), start), x.narrow(dim, 0, size - step)], dim)
            for x, start in zip(tensors, starts, strict=True)
        )
        tensors = join(earlier, tensors)
        step *= 2
    return tensors


def _alone(x: torch.Tensor, dim: int) -> bool:
    return x.dim() == 0 or not isinstance(x.shape[dim], int)


@composes(aten.cumprod.default)
def cumprod(x: torch.Tensor, dim: int, *, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Products of all values up to each."""
    if _alone(x, dim):
        return NotImplemented
    wanted = dtype or (x.dtype if x.is_floating_point() else torch.int64)
    return _running((x.to(wanted),), dim, (1,), lambda a, b: (a[0] * b[0],))[0]


def _extremum(x: torch.Tensor, dim: int, start: float, at_least: Callable) -> _Tensors:
    if _alone(x, dim):
        return NotImplemented
    shape = [-1 if axis == dim % x.dim() else 1 for axis in range(x.dim())]
    places = torch.arange(x.shape[dim]).reshape(shape) + torch.zeros_like(x, dtype=torch.int64)

    def join(earlier: _Tensors, later: _Tensors) -> _Tensors:
        takes = at_least(later[0], earlier[0])  # of equals the later
        if x.is_floating_point():
            takes = torch.isnan(later[0]) | (takes & ~torch.isnan(earlier[0]))
        return tuple(torch.where(takes, b, a) for a, b in zip(earlier, later, strict=True))

    return _running((x, places), dim, (start, 0), join)


@composes(aten.cummax.default)
def cummax(x: torch.Tensor, dim: int) -> _Tensors:
    """The largest value up to each, and its place."""
    low = -torch.inf if x.is_floating_point() else 0 if x.dtype == torch.bool else torch.iinfo(x.dtype).min
    return _extremum(x, dim, low, torch.ge)


@composes(aten.cummin.default)
def cummin(x: torch.Tensor, dim: int) -> _Tensors:
    """The smallest value up to each, and its place."""
    high = torch.inf if x.is_floating_point() else 1 if x.dtype == torch.bool else torch.iinfo(x.dtype).max
    return _extremum(x, dim, high, torch.le)


@composes(aten.logcumsumexp.default)
def logcumsumexp(x: torch.Tensor, dim: int) -> torch.Tensor:
    """Logarithms of running sums of exponentials."""
    if _alone(x, dim):
        return NotImplemented
    return _running((x,), dim, (-torch.inf,), lambda a, b: (_logaddexp(a[0], b[0]),))[0]


@composes(aten.logaddexp.default)
def _logaddexp(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    larger = torch.maximum(a, b)
    difference = -(a - b).abs()
    return torch.where(a == b, a + 0.6931471805599453, larger + torch.log1p(torch.exp(difference)))


@composes(aten.logaddexp2.default)
def _logaddexp2(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    larger = torch.maximum(a, b)
    difference = -(a - b).abs() * 0.6931471805599453
    return torch.where(a == b, a + 1, larger + torch.log1p(torch.exp(difference)) / 0.6931471805599453)
