"""What a framework tells about its model for the evidence: which weights it has, and what one run of it shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from converter.hub.hub import Run

__all__ = ["SAMPLED", "NoEvidence", "Observation", "Probe", "projection", "sample"]

# Of larger weights every k-th row is looked at: a share of a quarter of a million values is known well enough, and the
# gradients of hundreds of megabytes of weights need not be kept.
SAMPLED = 1 << 18


class NoEvidence(Exception):
    """Why a model's coverage cannot be measured, as a clause that may follow a colon."""


@dataclass
class Observation:
    """What one run showed.

    gradients: weight -> (gradient, values), both as `sample` leaves them: of the sum of the projected outputs. rows: table
    -> the rows that were looked up. sides: branch -> (side that was taken, number of sides). ranges: activation -> (its
    function, smallest, largest value of each channel). work: multiplications of a forward run, roughly; start: what it costs
    whatever its size, in multiplications too.
    """

    gradients: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    rows: dict[str, np.ndarray] = field(default_factory=dict)
    sides: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    ranges: dict[str, tuple[str, np.ndarray, np.ndarray]] = field(default_factory=dict)
    work: float = 0.0
    start: float = 0.0


class Probe(Protocol):
    """A loaded model whose weights can be differentiated by and changed.

    weights: float tensors by name, memory-mapped or views. tables: names and numbers of rows of those that are looked up
    by row and used in no other way, complete after the first `observe`. limits: clauses on what is not seen, for people.
    """

    weights: Mapping[str, np.ndarray]
    tables: dict[str, int]
    limits: list[str]

    def observe(self, run: Run, scales: Sequence[float], seed: int) -> Observation:
        """Run forward and backward from the outputs, each times its scale and a seeded sign for each value."""

    def outputs(self, inputs: Sequence[np.ndarray], changed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The outputs in the hub's order with other values for some weights; the next call has the old ones again."""


def projection(array: np.ndarray, scale: float, seed: int) -> np.ndarray:
    """`scale` with a random sign for each finite value of an output, 0 for the others."""
    signs = np.random.default_rng(seed).integers(0, 2, array.shape, np.int8) * 2 - 1
    finite = np.isfinite(np.asarray(array, np.float32))
    return np.where(finite, signs * np.float32(scale), np.float32(0)).astype(array.dtype)


def sample(shape: Sequence[int]) -> tuple[slice, ...]:
    """An index that keeps at most a quarter of a million values: every k-th entry of the longest axis."""
    count = math.prod(shape)
    if count <= SAMPLED:
        return tuple(slice(None) for _ in shape)
    longest = max(range(len(shape)), key=lambda axis: shape[axis])
    entries = max(1, SAMPLED * shape[longest] // count)
    step = -(-shape[longest] // entries)
    return tuple(slice(None, None, step if axis == longest else None) for axis in range(len(shape)))
