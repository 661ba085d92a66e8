"""Other samples made from one: for models that random inputs do not suit (lengths, masks, positions, tables of offsets).

A graph is made from an example, so that an example proves nothing about what was fixed at its values. What is made here
keeps what such inputs usually have to keep: the range of the values, their order, their sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from converter.hub.hub import Run

__all__ = ["candidates", "moved", "other_batches", "unvaried", "vary"]

# Other values of each input that do not come from a distribution, and of each whole sample.
_WANTED = 2


def vary(
    example: Sequence[np.ndarray], call: Callable[[list[np.ndarray]], Sequence[np.ndarray]], seed: int = 0
) -> list[Run]:
    """Runs of the source on samples of the example's shapes, at most two for each whole-number or boolean input.

    call: the source; what it raises for means that it does not take a sample. Deterministic for a seed.
    """

    def accepted(arrays: list[np.ndarray]) -> Run | None:
        try:
            return Run(arrays, [np.asarray(output) for output in call(arrays)])
        except Exception:  # whatever the user's forward raises for values that do not fit each other
            return None

    base, runs = list(example), []
    for position, array in enumerate(example):
        if not _is_discrete(array):
            moved = (_replaced(base, position, other) for other in _other_floats(array, seed, position))
            found = next((run for sample in moved if (run := accepted(sample)) is not None), None)
            base = found.inputs if found is not None else base
            runs = [found] if found is not None else runs  # the last one has moved all that can move
    for position, array in enumerate(example):
        if not _is_discrete(array):
            continue
        tried = 0
        for other in _other_values(array, seed, position):
            run = accepted(_replaced(base, position, other))
            if run is not None:
                runs.append(run)
                tried += 1
            if tried == _WANTED:
                break
    if any(_is_discrete(array) for array in example):
        rows = _other_rows(example, seed)
        run = accepted(rows) if rows is not None else None
        runs += [run] if run is not None else []
    return runs


def candidates(example: Sequence[np.ndarray], seed: int) -> Iterator[list[np.ndarray]]:
    """Samples of the example's shapes, the one that differs most first: all values others, floats only, floats hardly moved."""
    yield moved(example, seed)
    for move in range(3):
        yield [
            array if _is_discrete(array) else list(_other_floats(array, seed, position))[move]
            for position, array in enumerate(example)
        ]


def moved(example: Sequence[np.ndarray], seed: int) -> list[np.ndarray]:
    """A sample in which every input that can has other values, which need not fit each other."""
    return [
        next(_other_values(array, seed, position), array)
        if _is_discrete(array)
        else next(_other_floats(array, seed, position))
        for position, array in enumerate(example)
    ]


def other_batches(example: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
    """The first row alone, and all rows followed by the first, of arrays that share their leading dimension."""
    alone = [[array[:1] for array in example]] if len(example[0]) > 1 else []
    return [*alone, [np.concatenate([array, array[:1]]) for array in example]]


def unvaried(runs: Sequence[Run]) -> list[int]:
    """Positions of the inputs that have the same values in all runs, compared where their sizes overlap."""
    return [
        position
        for position, first in enumerate(runs[0].inputs)
        if first.size and all(_equal_where_both_are(first, run.inputs[position]) for run in runs[1:])
    ]


def _equal_where_both_are(a: np.ndarray, b: np.ndarray) -> bool:
    common = tuple(slice(0, min(sizes)) for sizes in zip(a.shape, b.shape, strict=True))
    return np.array_equal(a[common], b[common], equal_nan=a.dtype.kind in "fc")


def _is_discrete(array: np.ndarray) -> bool:
    return array.dtype.kind in "biu"


def _replaced(arrays: Sequence[np.ndarray], position: int, array: np.ndarray) -> list[np.ndarray]:
    return [array if index == position else given for index, given in enumerate(arrays)]


def _rng(seed: int, position: int, move: int) -> np.random.Generator:
    return np.random.default_rng([seed, position, move])


def _other_floats(array: np.ndarray, seed: int, position: int) -> Iterator[np.ndarray]:
    """Of the same mean and spread; then within the example's own values; then hardly moved."""
    wide = array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
    finite = wide[np.isfinite(wide)]
    spread = float(finite.std()) if finite.size else 0.0
    mean = finite.mean() if finite.size else 0.0
    step = spread or 0.1 * abs(mean) or 1.0
    noise = _rng(seed, position, 0).standard_normal(array.shape)
    yield np.where(np.isfinite(wide), mean + step * noise, wide).astype(array.dtype)
    yield _rng(seed, position, 1).permutation(array.reshape(-1)).reshape(array.shape)
    yield (wide + 1e-3 * step * noise).astype(array.dtype)


def _other_values(array: np.ndarray, seed: int, position: int) -> Iterator[np.ndarray]:
    """Values that differ from the example's, the likeliest to be accepted first."""
    shape, flat = array.shape, array.reshape(-1)
    moves: list[np.ndarray] = []
    if array.dtype.kind == "b":
        moves += [_rng(seed, position, move).permutation(flat) for move in range(3)]
        moves += [_rng(seed, position, 3).integers(0, 2, flat.shape).astype(bool), ~flat]
    elif flat.size:
        low, high = int(flat.min()), int(flat.max())
        ordered = _ordered(array)
        if ordered:
            moves += [_redrawn_in_order(array, _rng(seed, position, move)).reshape(-1) for move in range(3)]
        moves += [_rng(seed, position, move).permutation(flat) for move in range(3, 6)]
        moves += [_transferred(flat, _rng(seed, position, move), 1 + (move == 7)) for move in (6, 7)]
        moves.append(_rng(seed, position, 8).integers(low, high + 1, flat.shape).astype(array.dtype))
        limits = np.iinfo(array.dtype)
        moves += [(flat + 1).astype(array.dtype)] if high < limits.max else []
        moves += [(flat - 1).astype(array.dtype)] if low > max(limits.min, 0) else []
    seen = {flat.tobytes()}
    for move in moves:
        if move.tobytes() not in seen:
            seen.add(move.tobytes())
            yield np.ascontiguousarray(move).reshape(shape)


def _ordered(array: np.ndarray) -> bool:
    """Whether the last axis rises or falls all along, as offsets, positions and lengths of packed sequences do."""
    if array.ndim == 0 or array.shape[-1] < 3:
        return False
    steps = np.diff(array.astype(np.int64), axis=-1)
    return bool((steps >= 0).all() or (steps <= 0).all()) and bool(steps.any())


def _redrawn_in_order(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Other values between the first and the last of each row, in the same order."""
    rows = array.reshape(-1, array.shape[-1]).copy()
    for row in rows:
        low, high = min(row[0], row[-1]), max(row[0], row[-1])
        if len(set(row.tolist())) == len(row):  # all different, and so they stay
            inner = rng.choice(np.arange(low + 1, high, dtype=row.dtype), len(row) - 2, replace=False)
        else:
            inner = rng.integers(low, high + 1, len(row) - 2)
        inner.sort()
        row[1:-1] = inner if row[0] <= row[-1] else inner[::-1]
    return rows.reshape(array.shape)


def _transferred(flat: np.ndarray, rng: np.random.Generator, times: int) -> np.ndarray:
    """Some units moved from one value to another: the same sum, and no value below the least of the example, or 1."""
    values = flat.copy()
    floor = min(int(flat.min()), 1)
    for _ in range(times):
        donors = np.flatnonzero(values > floor)
        if donors.size == 0 or values.size < 2:
            break
        giver = rng.choice(donors)
        taker = rng.choice(np.delete(np.arange(values.size), giver))
        values[giver] -= 1
        values[taker] += 1
    return values


def _other_rows(example: Sequence[np.ndarray], seed: int) -> list[np.ndarray] | None:
    """All inputs with the rows in another order, the same for all; None where they do not share their leading dimension."""
    sizes = {array.shape[0] if array.ndim else None for array in example}
    if len(sizes) != 1 or (count := sizes.pop()) is None or count < 2:
        return None
    order = np.roll(np.arange(count), 1 + seed % (count - 1))
    rolled = [array[order] for array in example]
    return None if all(map(np.array_equal, rolled, example)) else rolled
