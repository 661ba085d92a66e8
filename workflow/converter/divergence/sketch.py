"""A tensor in a few thousand numbers: enough to find its equal among many, in whatever layout that is.

Values are compared sorted, which no layout changes, and then at seeded places of the flattened tensor, in every order of
its axes. So two tensors are equal here if one is the other with its axes permuted, reshaped, or both.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass

import numpy as np

__all__ = ["Arrangement", "Sketch", "arranged", "as_numbers", "is_finite", "tolerance"]

_SORTED = 512
_PLACES = 256
_MOST_AXES = 5  # 120 orders; tensors of more axes of a size above 1 are compared in their own order
_NAN, _INFINITE = 1e100, 1e101  # above every float32, and their squares are numbers
# Rounding that adds up over a model, as a share of the largest value (measured on the tests' models: below 4e-6).
_RELATIVE = {"float16": 4e-3, "bfloat16": 3e-2}
_RELATIVE_ELSE = 2e-5


@dataclass(frozen=True)
class Arrangement:
    """How the source's tensor becomes the target's when both are flattened: an order of the axes of one of them.

    Axes are those of a size above 1.
    """

    side: str
    order: tuple[int, ...]

    @property
    def is_plain(self) -> bool:
        """Whether the axes are in their own order, so that nothing was transposed."""
        return self.order == tuple(sorted(self.order))


def as_numbers(array: np.ndarray) -> np.ndarray:
    """In float64 and without axes of size 1; NaN and infinities as numbers that nothing else is equal to."""
    if array.dtype.kind == "c":
        array = np.stack([array.real, array.imag], -1)
    numbers = np.asarray(array, np.float64).reshape([size for size in array.shape if size != 1])
    return np.nan_to_num(numbers, nan=_NAN, posinf=_INFINITE, neginf=-_INFINITE)


def is_finite(numbers: np.ndarray) -> np.ndarray:
    """Which of what `as_numbers` gives are numbers."""
    return np.abs(numbers) < _NAN


def arranged(array: np.ndarray, arrangement: Arrangement, side: str) -> np.ndarray:
    """`array`, of this side ("source" or "target"), flattened such that it meets its counterpart. Shape (size,)."""
    numbers = as_numbers(array)
    return (numbers.transpose(arrangement.order) if arrangement.side == side else numbers).reshape(-1)


def tolerance(first: Sketch, second: Sketch, atol: float) -> float:
    """What rounding may make of equal tensors."""
    if first.is_exact and second.is_exact:
        return 0.0
    share = max(_RELATIVE.get(sketch.dtype, _RELATIVE_ELSE) for sketch in (first, second))
    return max(atol, share * first.largest)


class Sketch:
    """size, largest: number of values, and the largest absolute one that is finite. `dtype`: numpy's name."""

    def __init__(self, array: np.ndarray) -> None:
        numbers = as_numbers(array)
        self.dtype = array.dtype.name
        self.is_exact = array.dtype.kind in "iub"
        self.size = numbers.size
        self.nbytes = array.nbytes
        self.largest = float(np.abs(numbers[is_finite(numbers)]).max(initial=0.0))
        self.sorted = _spread(np.sort(numbers, axis=None), _SORTED)
        places = _places(self.size)
        self.orders = _orders(numbers.ndim)
        self.places = np.stack([_in_order(numbers, order, places) for order in self.orders]).astype(np.float64)
        centred = self.places - self.places.mean(axis=1, keepdims=True) if self.size else self.places
        norms = np.linalg.norm(centred, axis=1, keepdims=True)
        self._directions = centred / np.where(norms, norms, 1.0)

    @property
    def is_telling(self) -> bool:
        """Whether an equal tensor elsewhere can hardly be chance: it holds several different numbers that are no codes."""
        distinct = len(np.unique(self.sorted))
        return not self.is_exact and self.size >= 3 and distinct >= min(self.size, 8)

    def may_equal(self, other: Sketch, atol: float) -> bool:
        """Whether the sorted values agree. This one is the source's."""
        return self.size == other.size and _largest(self.sorted - other.sorted) <= tolerance(self, other, atol)

    def nearest(self, other: Sketch) -> tuple[float, Arrangement]:
        """The smallest of the largest differences at the places, over all orders of axes, and that order. Sizes are equal."""
        as_source = np.abs(self.places - other.places[0]).max(axis=1, initial=0.0)
        as_target = np.abs(other.places - self.places[0]).max(axis=1, initial=0.0)
        if as_source.min() <= as_target.min():
            return float(as_source.min()), Arrangement("source", self.orders[int(as_source.argmin())])
        return float(as_target.min()), Arrangement("target", other.orders[int(as_target.argmin())])

    def similarity(self, other: Sketch) -> tuple[float, Arrangement]:
        """The largest absolute correlation at the places over all orders of axes, and that order. Sizes are equal.

        Centred and without its sign: an activation that became another one, or a swapped difference, is still itself.
        """
        best = -1.0, Arrangement("source", self.orders[0])
        for side, many, one in (("source", self, other), ("target", other, self)):
            correlations = np.abs(many._directions @ one._directions[0])
            if correlations.max() > best[0] + 1e-12:
                best = float(correlations.max()), Arrangement(side, many.orders[int(correlations.argmax())])
        return best


def _largest(difference: np.ndarray) -> float:
    return float(np.abs(difference).max(initial=0.0))


def _spread(values: np.ndarray, count: int) -> np.ndarray:
    return values if values.size <= count else values[np.linspace(0, values.size - 1, count).round().astype(np.int64)]


@functools.lru_cache(maxsize=256)
def _places(size: int) -> np.ndarray:
    """Seeded, so that they are the same for each tensor of a size, and in no step with any axis."""
    return np.arange(size) if size <= _PLACES else np.random.default_rng(size).integers(0, size, _PLACES)


def _orders(rank: int) -> list[tuple[int, ...]]:
    """The plain order first."""
    return list(itertools.permutations(range(rank))) if rank <= _MOST_AXES else [tuple(range(rank))]


def _in_order(numbers: np.ndarray, order: tuple[int, ...], places: np.ndarray) -> np.ndarray:
    """The values at `places` of `numbers.transpose(order).reshape(-1)`, without making that."""
    if not order:
        return numbers.reshape(-1)[places]
    indices = np.unravel_index(places, [numbers.shape[axis] for axis in order])
    return numbers[tuple(indices[order.index(axis)] for axis in range(len(order)))]
