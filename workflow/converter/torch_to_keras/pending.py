"""Views and permutations that are not carried out yet: chains of them often undo each other.

PyTorch's attention merges the batch with the heads, swaps the result with the sequence and takes it apart again. Carried
out one by one these are permutations of data; together they are none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from converter.torch_to_keras.call import Call
from converter.torch_to_keras.layout import permuted, shape_groups, view
from converter.torch_to_keras.values import Dim, Value, magnitude, quotient, same, same_shape, static

__all__ = ["Pending", "carried_out", "lazily_permuted", "lazily_viewed", "on_last_axis"]


@dataclass(frozen=True, eq=False)
class _Factor:
    """A part of an axis: the axis of size 12 split into 3 and 4 has two."""

    size: Dim


@dataclass(frozen=True, eq=False)
class Pending:
    """`source` with each axis split into factors, and those put together anew as the axes of `shape`.

    splits: the factors of each axis of `source`. axes: those of each axis of `shape`; factors of size 1 may be missing.
    """

    source: Value
    splits: tuple[tuple[_Factor, ...], ...]
    axes: tuple[tuple[_Factor, ...], ...]
    shape: tuple[Dim, ...]

    @property
    def merges(self) -> bool:
        """Whether an axis holds several factors that do not follow each other in an axis of the source."""
        return any(len(axis) > 1 for axis in _coalesced(self).axes)


def _pending(value: Value | Pending) -> Pending:
    if isinstance(value, Pending):
        return value
    axes = tuple((_Factor(dim),) for dim in value.shape)
    return Pending(value, axes, axes, value.shape)


def _settled(pending: Pending) -> Value | Pending:
    """A plain Value where axes only changed places."""
    if len(pending.splits) != len(pending.axes) or any(len(f) != 1 for f in (*pending.splits, *pending.axes)):
        return pending
    axes = [factors[0] for factors in pending.splits]
    return permuted(pending.source, [axes.index(factors[0]) for factors in pending.axes])


def lazily_permuted(value: Value | Pending, dims: Sequence[int]) -> Value | Pending:
    """PyTorch's permute."""
    pending = _pending(value)
    dims = [dim % len(pending.shape) for dim in dims]
    axes, shape = tuple(pending.axes[dim] for dim in dims), tuple(pending.shape[dim] for dim in dims)
    return _settled(Pending(pending.source, pending.splits, axes, shape))


def lazily_viewed(call: Call, value: Value | Pending, shape: Sequence[Dim]) -> Value | Pending:
    """PyTorch's view; carried out at once where an axis would be cut unevenly."""
    shape = tuple(shape)
    if same_shape(value.shape, shape):
        return value
    pending = _pending(value)
    axes: list[tuple[_Factor, ...]] = [()] * len(shape)
    pieces: dict[_Factor, tuple[_Factor, ...]] = {}
    for olds, news in shape_groups(pending.shape, shape):
        runs = _runs([factor for axis in olds for factor in pending.axes[axis]], [shape[axis] for axis in news], pieces)
        if runs is None:
            return view(call, carried_out(call, value), shape)
        for axis, run in zip(news, runs, strict=True):
            axes[axis] = run
    splits = tuple(tuple(p for f in split for p in _pieces(f, pieces)) for split in pending.splits)
    return _settled(Pending(pending.source, splits, tuple(axes), shape))


def _pieces(factor: _Factor, pieces: dict[_Factor, tuple[_Factor, ...]]) -> list[_Factor]:
    """What a factor was split into, in the end."""
    if factor not in pieces:
        return [factor]
    return [last for piece in pieces[factor] for last in _pieces(piece, pieces)]


def _runs(
    factors: list[_Factor], sizes: Sequence[Dim], pieces: dict[_Factor, tuple[_Factor, ...]]
) -> list[tuple[_Factor, ...]] | None:
    """The factors as one run for each size, split where need be (noted in `pieces`); None if that is uneven."""
    queue = [factor for factor in factors if static(factor.size) != 1]
    runs = []
    for size in sizes:
        run: list[_Factor] = []
        product: Dim = 1
        while not same(product, size):
            if not queue:
                return None
            factor = queue.pop(0)
            if magnitude(product * factor.size) > magnitude(size):
                halves = _halves(factor, size, product)
                if halves is None:
                    return None
                pieces[factor] = halves
                factor, rest = halves
                queue.insert(0, rest)
            run.append(factor)
            product = product * factor.size
        runs.append(tuple(run))
    return None if queue else runs


def _halves(factor: _Factor, size: Dim, product: Dim) -> tuple[_Factor, _Factor] | None:
    """A factor cut so that `product` times its first part is `size`; None where that is uneven."""
    whole, first = static(factor.size), quotient(size, product)
    if whole is None or first is None or whole % first:
        return None
    return _Factor(first), _Factor(whole // first)


def _coalesced(pending: Pending) -> Pending:
    """The same with factors that follow each other both in the source and in the result made one again."""
    following = {(a, b) for split in pending.splits for a, b in zip(split, split[1:], strict=False)}
    joined: dict[_Factor, _Factor] = {}
    axes = []
    for axis in pending.axes:
        merged: list[tuple[_Factor, ...]] = []
        for factor in axis:
            if merged and (merged[-1][-1], factor) in following:
                merged[-1] = (*merged[-1], factor)
            else:
                merged.append((factor,))
        wholes = []
        for run in merged:
            whole = run[0] if len(run) == 1 else _Factor(math.prod(f.size for f in run))
            joined |= dict.fromkeys(run, whole)
            wholes.append(whole)
        axes.append(tuple(wholes))
    splits = tuple(tuple(dict.fromkeys(joined.get(f, f) for f in split)) for split in pending.splits)
    return Pending(pending.source, splits, tuple(axes), pending.shape)


def _as_factors(call: Call, pending: Pending) -> tuple[Value, list[_Factor]]:
    """The source with an axis for each factor, those of the result in its order, left out ones of size 1 behind."""
    factors = [factor for split in pending.splits for factor in split]
    value = view(call, pending.source, [factor.size for factor in factors])
    used = [factor for axis in pending.axes for factor in axis]
    wanted = [*used, *(factor for factor in factors if factor not in used)]
    return permuted(value, [factors.index(factor) for factor in wanted]), used


def carried_out(call: Call, value: Value | Pending) -> Value:
    """The value as a tensor of its own; done once for all that use it."""
    if not isinstance(value, Pending):
        return value
    done = call.conversion.carried_out
    if value not in done:
        done[value] = view(call, _as_factors(call, _coalesced(value))[0], value.shape)
    return done[value]


def on_last_axis(call: Call, pending: Pending, function: Callable) -> Pending | None:
    """A function of a Value's last axis applied without carrying out how the other axes are merged.

    None where the last axis has no factors, because its size is 1.
    """
    coalesced = _coalesced(pending)
    *others, last = coalesced.axes
    if not last:
        return None
    value, used = _as_factors(call, coalesced)
    kept = used[: -len(last)]
    # Parts that lie beside each other, as attention's heads do, are put together without moving data.
    value = view(call, value, (*(factor.size for factor in kept), math.prod(factor.size for factor in last)))
    result = function(value)
    factors = tuple(_Factor(dim) for dim in result.shape)
    renewed = dict(zip(kept, factors, strict=False))
    axes = (*(tuple(renewed[factor] for factor in axis) for axis in others), factors[-1:])
    return Pending(result, tuple((factor,) for factor in factors), axes, (*pending.shape[:-1], result.shape[-1]))
