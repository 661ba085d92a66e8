"""Images and volumes sampled at places that a tensor names (grid_sample, affine_grid)."""

from __future__ import annotations

import torch

from converter.torch.compositions.table import composes

aten = torch.ops.aten
_LINEAR, _NEAREST, _CUBIC = 0, 1, 2
_ZEROS, _BORDER, _REFLECTION = 0, 1, 2
_CUBIC_COEFFICIENT = -0.75  # that of PyTorch, and of OpenCV


@composes(aten.grid_sampler.default, aten.grid_sampler_2d.default, aten.grid_sampler_3d.default)
def grid_sampler(x: torch.Tensor, grid: torch.Tensor, mode: int, padding: int, corners: bool) -> torch.Tensor:
    """x (N, C, *sizes) at the places grid (N, *result, axes), which run from -1 to 1, the last axis of `x` first."""
    rank = x.dim() - 2
    held, flat, weight = None, None, None
    for axis, size in enumerate(x.shape[2:]):
        coordinate = grid[..., rank - 1 - axis].flatten(1)
        places, weights = _taps(_place(coordinate, size, corners), size, mode, padding, corners)
        here = (places >= 0) & (places <= size - 1)
        places = torch.where(here, places, 0.0).to(torch.int64)
        # Along one axis of taps for each axis of the image, and the last for the results: (N, taps, taps, P).
        here, places, weights = (_spread(tensor, axis, rank) for tensor in (here, places, weights))
        held = here if held is None else held & here
        flat = places if flat is None else flat * size + places
        weight = weights if weight is None else weight * weights
    assert held is not None and flat is not None and weight is not None  # an image has axes
    count, results = x.shape[0], flat.shape[-1]
    rows = x.flatten(2).transpose(1, 2)
    picked = rows[torch.arange(count).unsqueeze(1), flat.flatten(1)]  # (N, taps P, C)
    # Chosen, not multiplied: the pixel that stands for one beyond the border may be infinite.
    picked = torch.where(held.flatten(1).unsqueeze(-1), picked, 0.0)
    if mode != _NEAREST:
        picked = (picked * weight.flatten(1).unsqueeze(-1)).unflatten(1, (-1, results)).sum(1)
    return picked.transpose(1, 2).reshape(count, x.shape[1], *grid.shape[1:-1])


def _spread(tensor: torch.Tensor, axis: int, rank: int) -> torch.Tensor:
    for place in range(rank):
        tensor = tensor if place == axis else tensor.unsqueeze(place + 1)
    return tensor


def _place(coordinate: torch.Tensor, size: int, corners: bool) -> torch.Tensor:
    """From -1 ... 1 to places in the axis: of the outer pixels' centres, or of their edges."""
    return (coordinate + 1) / 2 * (size - 1) if corners else ((coordinate + 1) * size - 1) / 2


def _taps(place: torch.Tensor, size: int, mode: int, padding: int, corners: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, taps, P): the pixels along one axis that make a result, and their shares in it."""
    if mode == _CUBIC:
        low = torch.floor(place)
        near = low.unsqueeze(1) + torch.arange(-1, 3).view(1, 4, 1)
        if padding != _ZEROS:
            near = torch.floor(_inside(near, size, padding, corners))  # towards zero, as a cast: all are above it
        return near, torch.stack(_cubic_weights(place - low), 1)
    if padding != _ZEROS:
        place = _inside(place, size, padding, corners)
    if mode == _NEAREST:
        return torch.round(place).unsqueeze(1), torch.ones_like(place).unsqueeze(1)
    low = torch.floor(place)
    return torch.stack([low, low + 1], 1), torch.stack([low + 1 - place, place - low], 1)


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
            place = torch.where(odd == 0, extra + low, low - extra + span)
    place = place.clamp(min=0)
    return (
        place.clamp(max=size - 1)
        if isinstance(size, int)
        else torch.minimum(place, torch.ones_like(place) * (size - 1))
    )


def _cubic_weights(t: torch.Tensor) -> list[torch.Tensor]:
    """Of the four pixels around a place that is `t` behind the second of them."""
    a = _CUBIC_COEFFICIENT

    def near(x: torch.Tensor) -> torch.Tensor:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: torch.Tensor) -> torch.Tensor:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return [far(t + 1), near(t), near(1 - t), far(2 - t)]
