"""What a fault is, and how a seeded part of all possible ones is drawn."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["KINDS", "Fault", "draw", "large_value_changes", "last_number_changes", "relaid", "weight_changes"]

# In the order of the table.
KINDS = (
    "weights: all of a tensor by 1 %",
    "weights: one channel by 1 %",
    "weights: one value by its own size",
    "weights: rounded to bfloat16",
    "weights: transposed layout",
    "constant",
    "epsilon",
    "mask value",
    "inputs swapped",
    "axis",
    "padding",
    "stride, dilation, window",
    "slice off by one",
    "activation",
    "operator replaced",
    "operator missing",
    "comparison",
    "condition negated",
    "rounding, cast",
    "resize mode",
    "recurrence",
    "state",
    "outputs and inputs",
)


@dataclass(frozen=True)
class Fault:
    """`apply` changes a fresh copy of the model in place; words: what is changed and where."""

    kind: str
    words: str
    apply: Callable[[object], None]


def draw(faults: Sequence[Fault], count: int, seed: str) -> list[Fault]:
    """`count` of them, kinds by turns, so that rare kinds are among them; 0: all."""
    generator = random.Random(seed)
    groups = {kind: [fault for fault in faults if fault.kind == kind] for kind in KINDS}
    for group in groups.values():
        generator.shuffle(group)
    order = list(groups.values())
    generator.shuffle(order)
    turns = [fault for row in itertools.zip_longest(*order) for fault in row if fault is not None]
    return turns[:count] if count else turns


def weight_changes(value: np.ndarray, rng: np.random.Generator) -> list[tuple[str, str, np.ndarray]]:
    """(kind, words, changed value) of a float tensor of more than one value."""
    changes = [("weights: all of a tensor by 1 %", "all x 1.01", (value * 1.01).astype(value.dtype))]
    axis = int(rng.choice([axis for axis, size in enumerate(value.shape) if size > 1]))
    channel = int(rng.integers(value.shape[axis]))
    changed, where = value.copy(), [slice(None)] * value.ndim
    where[axis] = channel
    changed[tuple(where)] *= 1.01
    changes.append(("weights: one channel by 1 %", f"channel {channel} of axis {axis} x 1.01", changed))
    flat = np.flatnonzero(value)
    if flat.size:
        for factor in (0, 2):
            position = int(rng.choice(flat))
            changed = value.copy()
            changed.reshape(-1)[position] *= factor
            words = f"value {position} ({value.reshape(-1)[position]:.3g}) x {factor}"
            changes.append(("weights: one value by its own size", words, changed))
    if value.dtype == np.float32:
        rounded = (value.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
        changes.append(("weights: rounded to bfloat16", "cut to bfloat16", rounded))
    changes += [("weights: transposed layout", words, changed) for words, changed in relaid(value)]
    return changes


def relaid(value: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """The values in another order, in the same shape."""
    wide = [axis for axis, size in enumerate(value.shape) if size > 1]
    if len(wide) < 2:
        return [("reversed", value[::-1].copy())] if len(wide) == 1 and wide[0] == 0 else []
    found = [("columns first", value.T.reshape(value.shape))]
    for a, b in itertools.combinations(wide, 2):
        if value.shape[a] == value.shape[b]:
            found.append((f"axes {a} and {b} exchanged", np.swapaxes(value, a, b).copy()))
    return found


def large_value_changes(value: np.ndarray) -> Iterator[tuple[str, str, np.ndarray]] | None:
    """Changes of what masks with large values, and of epsilons; None where the largest value is of another size."""
    largest = float(np.abs(value).max())
    if largest > 9e3:
        others = (-1e4, 0.0) if largest > 1e5 else (-np.inf, 0.0)
        first = value.reshape(-1)[0]
        return (
            ("mask value", f"{first:.3g} -> {other}", np.where(np.abs(value) > 9e3, other, value)) for other in others
        )
    if 0 < largest <= 2e-3:
        return (("epsilon", f"{largest:.3g} x {factor}", value * factor) for factor in (10, 0))
    return None


def last_number_changes(value: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Whole numbers with the last of them one more and one less, and the words for it."""
    for step in (1, -1):
        changed = value.copy()
        changed.reshape(-1)[-1] += np.array(step).astype(value.dtype)
        yield f"{value.reshape(-1)[-1]} {step:+d}", changed
