"""Many inputs within a model's range, of other seeds and sizes than the reference's: what tells a mutant from its file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from converter.hub.hub import Hub, Run, TensorSpec
from converter.hub.weights import as_dtype

__all__ = ["many_inputs"]

_TYPICAL, _SPECIAL = 176, 16  # rows of each; together 256
_CALLS = 4  # of which each call has a part, where the batch is fixed


def many_inputs(hub: Hub, ranges: Mapping[str, tuple[int, int]], batch: int | None, seed: int) -> list[Run]:
    """Runs without outputs, their kinds named. batch: of the file, None where it is free.

    Sizes of dimensions that the source leaves open are the reference's, and one more than those.
    """
    reference = hub.reference()
    bounds = {}
    for position, spec in enumerate(hub.inputs):
        arrays = [run.inputs[position] for run in reference]
        if arrays[0].dtype.kind in "iu":
            seen = min(array.min(initial=0) for array in arrays), max(array.max(initial=0) for array in arrays)
            bounds[spec.name] = ranges.get(spec.name, (0, 255) if spec.dtype == "uint8" else seen)
    rng = np.random.default_rng([seed, len(hub.inputs)])
    runs = []
    for shapes in _shapes(hub, reference):
        for kind, draw in _DRAWS.items():
            rows = _TYPICAL if kind == "typical" else _SPECIAL
            for count in _counts(hub, batch, rows):
                sized = [shape if count is None else (count, *shape[1:]) for shape in shapes]
                pairs = zip(hub.inputs, sized, strict=True)
                runs.append(Run([_array(rng, spec, shape, draw, bounds) for spec, shape in pairs], [], kind))
    return runs


def _counts(hub: Hub, batch: int | None, rows: int) -> list[int | None]:
    """The rows of each call; None: the source says how many."""
    if not hub.batch_dynamic:
        return [None] * (rows // _CALLS)
    return [rows] if batch is None else [batch] * (rows // batch)


def _shapes(hub: Hub, reference: list[Run]) -> Iterator[list[tuple[int, ...]]]:
    first = 1 if hub.batch_dynamic else 0
    known = []
    for run in [reference[0], reference[-1]]:
        shapes = [array.shape for array in run.inputs]
        larger = [_larger(spec, shape, first) for spec, shape in zip(hub.inputs, shapes, strict=True)]
        for made in (shapes, larger):
            sizes = [shape[first:] for shape in made]
            if sizes not in known:
                known.append(sizes)
                yield made


def _larger(spec: TensorSpec, shape: tuple[int, ...], first: int) -> tuple[int, ...]:
    if spec.shape is None:
        return shape
    return tuple(
        size + 1 if axis >= first and dim is None else size
        for axis, (size, dim) in enumerate(zip(shape, spec.shape, strict=True))
    )


def _array(rng: np.random.Generator, spec: TensorSpec, shape: tuple, draw: tuple, bounds: dict) -> np.ndarray:
    floats, whole, flags = draw
    dtype = as_dtype(spec.dtype)
    if dtype.kind == "b":
        return flags(rng, shape)
    if dtype.kind in "iu":
        return whole(rng, shape, *bounds[spec.name]).astype(dtype)
    return floats(rng, shape).astype(dtype)


_Draw = Callable[..., np.ndarray]


def _flags(share: float) -> _Draw:
    return lambda rng, shape: rng.random(shape) < share


def _between(rng: np.random.Generator, shape: tuple, low: int, high: int) -> np.ndarray:
    return rng.integers(low, high + 1, shape)


def _ends(rng: np.random.Generator, shape: tuple, low: int, high: int) -> np.ndarray:
    return np.where(rng.random(shape) < 0.5, low, high)


def _ties(rng: np.random.Generator, shape: tuple, low: int, high: int) -> np.ndarray:
    return np.clip(rng.integers(0, 2, shape), low, high)


# Floats, whole numbers and flags of each kind.
_DRAWS: dict[str, tuple[_Draw, _Draw, _Draw]] = {
    "typical": (lambda rng, shape: rng.standard_normal(shape), _between, _flags(0.5)),
    "zeros": (
        lambda rng, shape: np.zeros(shape),
        lambda rng, shape, low, high: np.full(shape, np.clip(0, low, high)),
        _flags(0.0),
    ),
    "negative": (
        lambda rng, shape: -np.abs(rng.standard_normal(shape)),
        lambda rng, shape, low, high: rng.integers(low, max(low, min(high, -1)) + 1, shape),
        _flags(0.2),
    ),
    "large": (lambda rng, shape: 100 * rng.standard_normal(shape), _ends, _flags(0.8)),
    "ties": (lambda rng, shape: np.round(2 * rng.standard_normal(shape)) / 2, _ties, _flags(0.5)),
    "ends of the range": (
        lambda rng, shape: rng.random(shape),
        lambda rng, shape, low, high: np.full(shape, high),
        _flags(1.0),
    ),
}
