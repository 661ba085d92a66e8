"""More samples of the kind the reference has: the same sizes, other values, and the rows of tables in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from converter.hub.hub import Run, TensorSpec
from converter.hub.samples import make_inputs
from converter.hub.sequence_lengths import length_draw_of

__all__ = ["draw_of", "more_inputs", "rows_for_tables"]

# Seeds of the reference's own runs count from 0.
_SEED = 1000


def more_inputs(
    inputs: Sequence[TensorSpec],
    like: Run,
    rows: int | None,
    vocabulary: Mapping[str, int],
    index: int,
    start: int,
    draw: str = "signed",
) -> list[np.ndarray]:
    """The inputs of the `index`-th added run, of the sizes of `like`; `rows` instead of its leading dimension if given.

    An input with a vocabulary takes its numbers in turn, in a seeded order, behind those of `start` earlier rows: random
    draws would need several times as many to meet them all. Every other run, the first too, has no negative numbers, as
    images have none: that moves activations which signed noise leaves at rest. draw: as in converter.hub.samples.
    """
    specs = [replace(spec, shape=array.shape) for spec, array in zip(inputs, like.inputs, strict=True)]
    if rows is not None:
        specs = [replace(spec, shape=(rows, *spec.shape[1:])) for spec in specs]
    arrays = make_inputs(specs, batch=None, sizes=(1, 1), seed=_SEED + index, vocabulary=vocabulary, draw=draw)
    for position, spec in enumerate(specs):
        bound = vocabulary.get(spec.name, 0)
        if bound > 0:
            order = np.random.default_rng([_SEED, position]).permutation(bound)
            array = arrays[position]
            first = start * (array.size // max(1, array.shape[0] if array.ndim else 1))
            arrays[position] = order[(first + np.arange(array.size)) % bound].reshape(array.shape).astype(array.dtype)
        elif index % 2 == 0 and arrays[position].dtype.kind == "f":
            arrays[position] = np.abs(arrays[position])
    return arrays


def draw_of(inputs: Sequence[TensorSpec], runs: Sequence[Run], vocabulary: Mapping[str, int]) -> str:
    """How the ordinary values of a reference were drawn (converter.hub.samples), by what they are."""
    if (lengths := length_draw_of(inputs, [run.inputs for run in runs])) is not None:
        return lengths
    floats, integers = [], []
    for position, spec in enumerate(inputs):
        values = [run.inputs[position] for run in runs if run.inputs[position].size]
        if spec.name not in vocabulary and spec.dtype.startswith(("float", "bfloat")):
            floats += values
        elif (
            spec.name not in vocabulary
            and spec.dtype.startswith(("int", "uint"))
            and spec.dtype not in ("int8", "uint8")
        ):
            integers += values
    if floats and all((array >= 0).all() and (array <= 1).all() for array in floats):
        return "unit"
    if any((array < 0).any() for array in integers):
        return "signed"
    if integers:
        return "binary" if all((array <= 1).all() for array in integers) else "counting"
    return "signed"


def rows_for_tables(inputs: Sequence[TensorSpec], like: Run, vocabulary: Mapping[str, int]) -> int:
    """How many rows of the sizes of `like` take every number of every vocabulary once; 0 without one."""
    needed = 0
    for spec, array in zip(inputs, like.inputs, strict=True):
        if vocabulary.get(spec.name, 0) > 0 and array.ndim and array.size:
            needed = max(needed, -(-vocabulary[spec.name] * array.shape[0] // array.size))
    return needed
