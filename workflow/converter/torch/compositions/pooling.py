"""Maxima over windows that Keras's pooling layers do not have: dilated ones, and with their places."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence

import torch

from converter.torch.compositions.table import composes

aten = torch.ops.aten
_POOLINGS = (aten.max_pool1d.default, aten.max_pool2d.default, aten.max_pool3d.default)
_WITH_PLACES = (
    aten.max_pool1d_with_indices.default,
    aten.max_pool2d_with_indices.default,
    aten.max_pool3d_with_indices.default,
)
_MOST_CELLS = 256  # of an adaptive pooling whose places are asked for: each is a slice of its own


def _reads_places(node: torch.fx.Node) -> bool:
    return any(user.target is operator.getitem and user.args[1] == 1 and user.users for user in node.users)


def _is_dilated(node: torch.fx.Node) -> bool:
    dilation = node.args[4] if len(node.args) > 4 else 1
    return max([dilation] if isinstance(dilation, int) else dilation) > 1  # type: ignore[arg-type]


def _all(numbers: int | Sequence[int], rank: int) -> list[int]:
    numbers = [numbers] if isinstance(numbers, int) else list(numbers)
    return numbers * rank if len(numbers) == 1 else numbers


def _count(size: int, kernel: int, stride: int, pad: int, dilation: int, ceil_mode: bool) -> int:
    """How many windows there are, as torch.nn.MaxPool1d documents it."""
    span = size + 2 * pad - dilation * (kernel - 1) - 1
    count = (-(-span // stride) if ceil_mode else span // stride) + 1
    return count - 1 if ceil_mode and (count - 1) * stride >= size + pad else count


def _pooled(
    x: torch.Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
    rank: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(maxima, places in memory of the plane): the windows' first elements, their second ones and so on, one by one."""
    sizes = list(x.shape[-rank:])
    if not all(isinstance(size, int) for size in sizes) or not x.is_floating_point():
        return NotImplemented
    kernel, padding, dilation = (_all(numbers, rank) for numbers in (kernel, padding, dilation))
    stride = _all(stride, rank) if stride else kernel
    axes = list(zip(sizes, kernel, stride, padding, dilation, strict=True))
    counts = [_count(*axis, ceil_mode) for axis in axes]
    margins = []
    for (size, k, s, p, d), count in zip(reversed(axes), reversed(counts), strict=True):
        margins += [p, max((count - 1) * s + d * (k - 1) + 1 - size - p, 0)]
    wide = torch.nn.functional.pad(x, margins, value=-torch.inf)
    best: torch.Tensor | None = None
    places = torch.zeros(())
    for taps in itertools.product(*(range(k) for k in kernel)):
        part, flat = wide, torch.zeros((), dtype=torch.int64)
        for axis, (tap, (size, _, s, p, d), count) in enumerate(zip(taps, axes, counts, strict=True)):
            start = tap * d
            part = aten.slice.Tensor(part, axis - rank, start, start + (count - 1) * s + 1, s)
            flat = flat.unsqueeze(-1) * size + (torch.arange(count) * s + start - p)
        flat = flat.expand(counts)
        if best is None:
            best, places = part, flat + torch.zeros_like(part, dtype=torch.int64)
            continue
        takes = (part > best) | torch.isnan(part)
        best, places = torch.where(takes, part, best), torch.where(takes, flat, places)
    assert best is not None  # a kernel has taps
    return best, places


@composes(*_WITH_PLACES, when=lambda node: _reads_places(node) or _is_dilated(node))
def max_pool_with_places(
    x: torch.Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest of each window, and where in its plane it lies; of equal ones the first."""
    rank = len(kernel)
    return _pooled(x, kernel, stride, padding, dilation, ceil_mode, rank)


@composes(*_POOLINGS, when=_is_dilated)
def max_pool(
    x: torch.Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> torch.Tensor:
    """The largest of each window, whose elements may lie apart."""
    if max(_all(dilation, 1)) == 1:
        return NotImplemented
    result = _pooled(x, kernel, stride, padding, dilation, ceil_mode, len(kernel))
    return result[0] if isinstance(result, tuple) else result


@composes(
    aten.adaptive_max_pool1d.default,
    aten.adaptive_max_pool2d.default,
    aten.adaptive_max_pool3d.default,
    when=_reads_places,
)
def adaptive_max_pool(x: torch.Tensor, size: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest of windows that cover the input, and where in its plane it lies."""
    rank = len(size)
    lengths = list(x.shape[-rank:])
    known = all(isinstance(n, int) for n in (*lengths, *size))
    if not known or torch.Size(size).numel() > _MOST_CELLS or x.dim() < rank + 1:
        return NotImplemented
    windows = [
        [(i * length // n, -(-(i + 1) * length // n)) for i in range(n)]
        for length, n in zip(lengths, size, strict=True)
    ]
    plane = torch.arange(torch.Size(lengths).numel()).view(lengths)
    values, places = [], []
    for cell in itertools.product(*windows):
        part, numbers = x, plane
        for axis, (start, end) in enumerate(cell):
            part = part.narrow(axis - rank, start, end - start)
            numbers = numbers.narrow(axis - rank, start, end - start)
        value, place = part.flatten(-rank).max(-1)
        values.append(value)
        places.append(numbers.flatten()[place])
    pooled, where = (torch.stack(parts, -1).unflatten(-1, list(size)) for parts in (values, places))
    return pooled, where


@composes(aten.max_unpool2d.default)
def max_unpool(x: torch.Tensor, places: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """The opposite of a pooling: each maximum at its place, and zeros elsewhere."""
    return _unpooled(x, places, size)


@composes(aten.max_unpool3d.default)
def max_unpool_3d(
    x: torch.Tensor, places: torch.Tensor, size: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> torch.Tensor:
    """The same of volumes; the size says all."""
    return _unpooled(x, places, size)


def _unpooled(x: torch.Tensor, places: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    rank = len(size)
    empty = torch.zeros(*x.shape[:-rank], torch.Size(size).numel(), dtype=x.dtype)
    return empty.scatter(-1, places.flatten(-rank), x.flatten(-rank)).unflatten(-1, list(size))
