"""Functions of each element that are made of more common ones."""

from __future__ import annotations

import torch

from converter.torch.compositions.table import composes

aten = torch.ops.aten


@composes(aten.hypot.default)
def hypot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """sqrt(a^2 + b^2), without squares that overflow."""
    larger = torch.maximum(a.abs(), b.abs())
    smaller = torch.minimum(a.abs(), b.abs())
    ratio = torch.where(larger == smaller, 1.0, smaller / larger)
    return torch.where(larger == 0, larger, larger * torch.sqrt(1 + ratio * ratio))


@composes(aten.fmax.default)
def fmax(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The larger, or the one that is a number."""
    return torch.where(torch.isnan(b) | (a >= b), a, b) if a.is_floating_point() else torch.maximum(a, b)


@composes(aten.fmin.default)
def fmin(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The smaller, or the one that is a number."""
    return torch.where(torch.isnan(b) | (a <= b), a, b) if a.is_floating_point() else torch.minimum(a, b)


@composes(aten.xlogy.Tensor)
def xlogy(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """x log(y), and 0 where x is 0 and y a number."""
    return torch.where(torch.isnan(y), y, torch.where(x == 0, torch.zeros_like(x * y), x * torch.log(y)))


@composes(aten.special_xlog1py.default)
def xlog1py(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """x log(1 + y), and 0 where x is 0 and y a number."""
    return torch.where(torch.isnan(y), y, torch.where(x == 0, torch.zeros_like(x * y), x * torch.log1p(y)))


@composes(aten.heaviside.default)
def heaviside(x: torch.Tensor, middle: torch.Tensor) -> torch.Tensor:
    """0 below zero and 1 above it; in between what is given."""
    return torch.where(x == 0, middle, (x > 0).to(x.dtype) + torch.where(torch.isnan(x), x, 0.0))


@composes(aten.copysign.Tensor)
def copysign(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The size of one with the sign of the other, also of a zero."""
    return torch.where(_is_negative(b), -a.abs(), a.abs())


def _is_negative(x: torch.Tensor) -> torch.Tensor:
    # Of a zero the sign shows in its inverse.
    return (x < 0) | ((x == 0) & (1 / x < 0))


@composes(aten.signbit.default)
def signbit(x: torch.Tensor) -> torch.Tensor:
    """Whether the number, or the zero, has a minus."""
    return _is_negative(x) if x.is_floating_point() else x < 0


@composes(aten.round.decimals)
def round_decimals(x: torch.Tensor, *, decimals: int = 0) -> torch.Tensor:
    """Rounded to so many places behind the point, halves to even ones."""
    factor = 10.0 ** abs(decimals)
    return torch.round(x * factor) / factor if decimals >= 0 else torch.round(x / factor) * factor


@composes(aten._trilinear.default)
def trilinear(
    a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, expand1: list[int], expand2: list[int], expand3: list[int],
    sumdim: list[int], unroll_dim: int = 1,
) -> torch.Tensor:  # fmt: skip
    """The sum over some axes of the product of three tensors that are broadcast along others."""
    for dims, index in ((expand1, 0), (expand2, 1), (expand3, 2)):
        for dim in dims:
            a, b, c = (x.unsqueeze(dim) if place == index else x for place, x in enumerate((a, b, c)))
    return (a * b * c).sum(sumdim)
