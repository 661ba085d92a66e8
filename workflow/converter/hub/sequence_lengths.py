"""Inputs that say how long the sequences of another input are: known by their names, and drawn so that models take them."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence

import numpy as np

from converter.hub.hub import TensorSpec

__all__ = ["LENGTH_DRAWS", "draw_lengths", "length_draw_of", "length_draws", "sequences_of"]

_NAME = re.compile(r"(.*[_.])?len(gth)?s?", re.IGNORECASE)
# The axis of time, and what models ask of lengths: any from 1 on, that one is as long as the axis, or that they also fall.
LENGTH_DRAWS = tuple(f"lengths {axis} {rule}" for axis in (1, -1) for rule in ("any", "full", "falling"))


def sequences_of(inputs: Sequence[TensorSpec], position: int) -> int | None:
    """The input whose lengths that at `position` holds: the nearest before it, else behind it; None where it holds none.

    Lengths are whole numbers, one for each row, in an input that is called so (lengths, lens, x_length).
    """
    if not _is_named(inputs[position]):
        return None
    others = [*range(position - 1, -1, -1), *range(position + 1, len(inputs))]
    for other in others:
        shape = inputs[other].shape
        if shape is not None and len(shape) >= 2 and not _is_named(inputs[other]):
            return other
    return None


def length_draws(inputs: Sequence[TensorSpec], numbered: Container[str] = ()) -> list[str]:
    """The draws to try for these inputs: none where no input holds lengths; an axis of one step is not that of time.

    numbered: names of inputs that number rows of a table, whatever they are called.
    """
    places = [position for position, spec in enumerate(inputs) if spec.name not in numbered]
    held = [found for position in places if (found := sequences_of(inputs, position)) is not None]
    shapes = [shape for place in held if (shape := inputs[place].shape) is not None]
    return [draw for draw in LENGTH_DRAWS if shapes and all(shape[int(draw.split()[1])] != 1 for shape in shapes)]


def draw_lengths(rng: np.random.Generator, rows: int, most: int, dtype: str, draw: str, kind: str) -> np.ndarray:
    """Lengths (rows,) from 1 to `most`; of the kind "ends of the range" one of the two. draw: of LENGTH_DRAWS.

    Where any will do, "all false" hides all, as of a mask: 0. A source that takes no such length raises.
    """
    if draw.endswith("any") and kind == "all false":
        lengths = np.zeros(rows, np.int64)
    elif kind == "ends of the range":
        lengths = rng.choice([1, most], rows)
    else:
        lengths = rng.integers(1, most + 1, rows)
    if not draw.endswith("any") and rows:
        lengths[rng.integers(rows)] = most
    return (np.sort(lengths)[::-1] if draw.endswith("falling") else lengths).astype(dtype)


def length_draw_of(inputs: Sequence[TensorSpec], samples: Sequence[Sequence[np.ndarray]]) -> str | None:
    """The narrowest draw that these samples may come from; None where no input holds lengths, or theirs are none."""
    fitting = [draw for draw in length_draws(inputs) if all(_fits(inputs, arrays, draw) for arrays in samples)]
    axis = fitting[0].split()[1] if fitting else ""
    return next((draw for draw in reversed(fitting) if draw.split()[1] == axis), None)


def _fits(inputs: Sequence[TensorSpec], arrays: Sequence[np.ndarray], draw: str) -> bool:
    _, axis, rule = draw.split()
    for position, lengths in enumerate(arrays):
        place = sequences_of(inputs, position)
        if place is None or not lengths.size:
            continue
        most = arrays[place].shape[int(axis)]
        if lengths.min() < 1 or lengths.max() > most or (rule != "any" and lengths.max() < most):
            return False
        if rule == "falling" and (np.diff(lengths) > 0).any():
            return False
    return True


def _is_named(spec: TensorSpec) -> bool:
    is_row = spec.shape is not None and len(spec.shape) == 1
    return is_row and spec.dtype in ("int32", "int64") and _NAME.fullmatch(spec.name) is not None
