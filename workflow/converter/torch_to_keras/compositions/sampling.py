"""Images and volumes sampled at places that a tensor names (grid_sample, affine_grid)."""

from __future__ import annotations

import itertools

import torch

from converter.torch_to_keras.compositions.table import composes

aten = torch.ops.aten
_LINEAR, _NEAREST, _CUBIC = 0, 1, 2
_ZEROS, _BORDER, _REFLECTION = 0, 1, 2
_CUBIC_COEFFICIENT = -0.75  # that of PyTorch, and of OpenCV


@composes(aten.grid_sampler.default, aten.grid_sampler_2d.default, aten.grid_sampler_3d.default)
def grid_sampler(x: torch.Tensor, grid: torch.Tensor, mode: int, padding: int, corners: bool) -> torch.Tensor:
    """x (N, C, *sizes) at the places grid (N, *result, axes), which run from -1 to 1, the last axis of `x` first."""
    sizes = list(x.shape[2:])
    places = [_place(grid[..., -1 - axis], size, corners) for axis, size in enumerate(sizes)]
    rows = x.flatten(2).transpose(1, 2)
    if mode == _CUBIC:
        total = _cubic(rows, places, sizes, padding, corners)
    else:
        if padding != _ZEROS:
            places = [_inside(place, size, padding, corners) for place, size in zip(places, sizes, strict=True)]
        total = _nearest(rows, places, sizes) if mode == _NEAREST else _linear(rows, places, sizes)
    return total.transpose(1, 2).reshape(x.shape[0], x.shape[1], *grid.shape[1:-1])


def _place(coordinate: torch.Tensor, size: int, corners: bool) -> torch.Tensor:
    """From -1 ... 1 to places in the axis: of the outer pixels' centres, or of their edges."""
    return (coordinate + 1) / 2 * (size - 1) if corners else ((coordinate + 1) * size - 1) / 2


def _inside(place: torch.Tensor, size: int, padding: int, corners: bool) -> torch.Tensor:
    """What lies beyond the border at the border, or reflected there, at pixels' centres or at their edges."""
    if padding == _REFLECTION:
        low, span = (0.0, size - 1) if corners else (-0.5, size)
        if corners and size == 1:
            place = torch.zeros_like(place)
        else:
            distance = (place - low).abs()
            turns = torch.floor(distance / span)
            extra = distance - turns * span
            odd = turns - torch.floor(turns / 2) * 2
            place = torch.where(odd == 0, extra + low, span - extra + low)
    return torch.minimum(place.clamp(min=0), torch.ones_like(place) * (size - 1))


def _picked(rows: torch.Tensor, places: list[torch.Tensor], sizes: list[int]) -> torch.Tensor:
    """(N, P, C): the rows at whole places, and zeros for those beyond the border. rows: (N, prod(sizes), C)."""
    held, flat = None, None
    for place, size in zip(places, sizes, strict=True):
        here = (place >= 0) & (place <= size - 1)
        held = here if held is None else held & here
        whole = torch.where(here, place, 0.0).to(torch.int64)
        flat = whole if flat is None else flat * size + whole
    count = rows.shape[0]
    picked = rows[torch.arange(count).unsqueeze(1), flat.flatten(1)]
    return torch.where(held.flatten(1).unsqueeze(-1), picked, 0.0)


def _nearest(rows: torch.Tensor, places: list[torch.Tensor], sizes: list[int]) -> torch.Tensor:
    return _picked(rows, [torch.round(place) for place in places], sizes)


def _linear(rows: torch.Tensor, places: list[torch.Tensor], sizes: list[int]) -> torch.Tensor:
    lows = [torch.floor(place) for place in places]
    total = None
    for corner in itertools.product((0, 1), repeat=len(places)):
        weight = None
        for place, low, side in zip(places, lows, corner, strict=True):
            share = place - low if side else low + 1 - place
            weight = share if weight is None else weight * share
        part = _picked(rows, [low + side for low, side in zip(lows, corner, strict=True)], sizes)
        part = part * weight.flatten(1).unsqueeze(-1)
        total = part if total is None else total + part
    return total


def _cubic(
    rows: torch.Tensor, places: list[torch.Tensor], sizes: list[int], padding: int, corners: bool
) -> torch.Tensor:
    lows = [torch.floor(place) for place in places]
    weights = [_cubic_weights(place - low) for place, low in zip(places, lows, strict=True)]
    total = None
    for taps in itertools.product(range(4), repeat=len(places)):
        at = [low + (tap - 1) for low, tap in zip(lows, taps, strict=True)]
        if padding != _ZEROS:
            at = [_inside(place, size, padding, corners) for place, size in zip(at, sizes, strict=True)]
            at = [torch.floor(place) for place in at]  # towards zero, as a cast does: all are above it
        weight = None
        for shares, tap in zip(weights, taps, strict=True):
            weight = shares[tap] if weight is None else weight * shares[tap]
        part = _picked(rows, at, sizes) * weight.flatten(1).unsqueeze(-1)
        total = part if total is None else total + part
    return total


def _cubic_weights(t: torch.Tensor) -> list[torch.Tensor]:
    """Of the four pixels around a place that is `t` behind the second of them."""
    a = _CUBIC_COEFFICIENT

    def near(x: torch.Tensor) -> torch.Tensor:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: torch.Tensor) -> torch.Tensor:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return [far(t + 1), near(t), near(1 - t), far(2 - t)]
