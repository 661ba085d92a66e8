"""Values for a model's inputs, the same on any machine: ordinary ones, and those on which conversions go wrong.

Ordinary values are drawn in several ways, since a model may take only some: see DRAWS. Special values come in kinds, one run
each: zeros, ties of rounding (halves), floats from 0 to 1, negative and large ones, the ends of an integer's range, masks
that hide all or nothing. Where the source itself raises for a kind, that kind is left out.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from converter.hub.hub import TensorSpec
from converter.hub.sequence_lengths import LENGTH_DRAWS, draw_lengths, length_draws, sequences_of
from converter.hub.weights import as_dtype

__all__ = ["DRAWS", "draws_for", "make_inputs", "special_kinds"]

# How ordinary values are drawn, in the order in which they are tried. Integers that index nothing: "signed" around zero,
# "counting" from 0 to 9, "binary" 0 and 1; floats are standard normal, but for "unit" evenly from 0 to 1. Where an input
# holds lengths of another's sequences, those of LENGTH_DRAWS come first: such lengths, and all else as of "signed".
DRAWS = ("signed", "counting", "binary", "unit")

# The bound of whole numbers that hide or show, as the masks of transformers do.
_MASK = 2
# Rounding decides between neighbours at halves; all are exact in every floating dtype.
_HALVES = np.array([-2.5, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.5, 3.5])
# The largest float drawn: beyond it float16 overflows after a few multiplications, and exponentials do in any dtype.
_LARGE = {"float16": 1e2, "bfloat16": 1e3}
_LARGEST = 1e4
_LARGE_INTEGER = 1_000_003  # a prime: no quotient of it is exact by luck
_WORDS = np.array([b"alpha", b"beta", b"gamma", b"delta"], object)
_STRANGE_WORDS = np.array([b"", "größe".encode(), b" beta ", b"Alpha-1"], object)


def make_inputs(
    inputs: Sequence[TensorSpec],
    *,
    batch: int | None,
    sizes: tuple[int, int],
    seed: int,
    vocabulary: Mapping[str, int] | None = None,
    draw: str = "signed",
    kind: str = "typical",
    keys: Mapping[str, np.ndarray] | None = None,
) -> list[np.ndarray]:
    """One array per input, the same for the same arguments on any machine.

    `batch` stands for an unknown leading dimension (None: that one is like the others), `sizes` for the other unknown
    ones, by turns: axes 1, 3 and axes 2, 4. An input whose name is in `vocabulary` holds whole numbers from 0 to below
    that bound, whatever its dtype; uint8 and int8 use their whole range; strings are short words; for all else see DRAWS.
    `kind`: "typical", or one of `special_kinds`, for the inputs that have such values. An input whose name is in `keys`
    holds those values (one axis, at least one) instead of typical ones, in their order, from any of them on.
    """
    arrays: list[np.ndarray] = []
    shapes = [
        [
            dim if dim is not None else (batch if axis == 0 and batch is not None else sizes[(axis + 1) % 2])
            for axis, dim in enumerate(spec.shape if spec.shape is not None else (None,))
        ]
        for spec in inputs
    ]
    timed, draw = draw, "signed" if draw in LENGTH_DRAWS else draw
    for position, (spec, dims) in enumerate(zip(inputs, shapes, strict=True)):
        rng = np.random.default_rng([seed, position, zlib.crc32(spec.name.encode())])
        numbers_rows = spec.name in (vocabulary or {})
        if timed in LENGTH_DRAWS and not numbers_rows and (sequences := sequences_of(inputs, position)) is not None:
            most = shapes[sequences][int(timed.split()[1])]
            arrays.append(draw_lengths(rng, dims[0], most, spec.dtype, timed, kind))
            continue
        bound = (vocabulary or {}).get(spec.name)
        values = _special(rng, dims, spec.dtype, bound, draw, kind) if kind != "typical" else None
        if values is None and keys and spec.name in keys:
            start, count = rng.integers(len(keys[spec.name])), int(np.prod(dims))
            values = np.resize(np.roll(keys[spec.name], -start), count).reshape(dims)
        arrays.append(_typical(rng, dims, spec.dtype, bound, draw) if values is None else values)
    return arrays


def draws_for(inputs: Sequence[TensorSpec], vocabulary: Mapping[str, int]) -> list[str]:
    """The draws that differ for these inputs, in the order in which to try them."""
    free = [spec.dtype for spec in inputs if _is_integer(spec.dtype) and spec.name not in vocabulary]
    draws = ["signed"] if any(dtype.startswith("int") and dtype != "int8" for dtype in free) else ["counting"]
    if draws == ["signed"]:
        draws.append("counting")
    if any(dtype not in ("int8", "uint8") for dtype in free):
        draws.append("binary")
    if any(_is_float(spec.dtype) and spec.name not in vocabulary for spec in inputs):
        draws.append("unit")
    return [*length_draws(inputs, vocabulary), *draws]


def special_kinds(inputs: Sequence[TensorSpec], vocabulary: Mapping[str, int], draw: str) -> list[str]:
    """The kinds of special values that at least one of the inputs has, beside "typical"."""
    free = [spec.dtype for spec in inputs if spec.name not in vocabulary]
    kinds: list[str] = []
    draw = "signed" if draw in LENGTH_DRAWS else draw
    if any(map(_is_float, free)):
        kinds += ["zeros", "halves", "positive", "negative", "large", "very negative"]
    elif any(_is_integer(dtype) for dtype in free):
        kinds += ["zeros"]
    has_masks = "bool" in free or _MASK in vocabulary.values()
    if has_masks or any(map(_is_integer, free)):
        kinds += ["all true", "all false"]
    if has_masks:
        kinds += ["rows hidden"]
    bounded = any(spec.name in vocabulary for spec in inputs)
    if bounded or "string" in free or any(dtype in ("int8", "uint8") for dtype in free) or draw == "signed":
        kinds += ["ends of the range"]
    return kinds


def _typical(rng: np.random.Generator, dims: list[int], dtype: str, bound: int | None, draw: str) -> np.ndarray:
    if dtype == "string":
        return _WORDS[rng.integers(0, len(_WORDS), dims)]
    if dtype == "bool":
        return rng.integers(0, 2, dims).astype(bool)
    if bound is not None:
        return rng.integers(0, max(bound, 1), dims).astype(as_dtype(dtype))
    if dtype in ("uint8", "int8"):
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max + 1, dims).astype(dtype)
    if _is_integer(dtype):
        if draw == "binary":
            return rng.integers(0, 2, dims).astype(dtype)
        if draw == "signed" and dtype.startswith("int"):
            # Half of them 0 or 1, which masks and flags are.
            return np.where(rng.random(dims) < 0.5, rng.integers(0, 2, dims), rng.integers(-12, 13, dims)).astype(dtype)
        return rng.integers(0, 10, dims).astype(dtype)
    if dtype.startswith("complex"):
        return (rng.standard_normal(dims) + 1j * rng.standard_normal(dims)).astype(dtype)
    return (rng.random(dims) if draw == "unit" else rng.standard_normal(dims)).astype(as_dtype(dtype))


def _special(
    rng: np.random.Generator, dims: list[int], dtype: str, bound: int | None, draw: str, kind: str
) -> np.ndarray | None:
    """Values of this kind; None where an input of this dtype has none, and ordinary ones are to be taken."""
    if dtype == "bool":
        return _masks(rng, dims, kind)
    if bound == _MASK and (mask := _masks(rng, dims, kind)) is not None:
        return mask.astype(as_dtype(dtype))
    if bound is not None:
        return rng.choice([0, max(bound, 1) - 1], dims).astype(as_dtype(dtype)) if kind == "ends of the range" else None
    if dtype == "string":
        return _STRANGE_WORDS[rng.integers(0, len(_STRANGE_WORDS), dims)] if kind == "ends of the range" else None
    if _is_integer(dtype):
        return _integers(rng, dims, dtype, draw, kind)
    if kind == "zeros":
        return np.zeros(dims, as_dtype(dtype))
    if kind not in ("halves", "positive", "negative", "large", "very negative") or dtype.startswith("complex"):
        return None
    if kind == "halves":
        return rng.choice(_HALVES, dims).astype(as_dtype(dtype))
    if kind == "positive":
        return rng.random(dims).astype(as_dtype(dtype))
    if kind in ("negative", "very negative"):
        # The first are not so low that activations saturate, the second are (reference.py says where these prove nothing).
        factor = -2 if kind == "negative" else -10
        return (factor * np.abs(rng.standard_normal(dims))).astype(as_dtype(dtype))
    largest = _LARGE.get(dtype, _LARGEST)
    return (rng.choice([-1, 1], dims) * largest ** rng.random(dims)).astype(as_dtype(dtype))


def _masks(rng: np.random.Generator, dims: list[int], kind: str) -> np.ndarray | None:
    if kind in ("all true", "all false"):
        return np.full(dims, kind == "all true")
    if kind != "rows hidden" or not dims:
        return None
    # Of each three rows along the last axis one hides all, one nothing, one some.
    rows = rng.integers(0, 2, dims).astype(bool).reshape(-1, dims[-1])
    rows[0::3], rows[1::3] = False, True
    return rows.reshape(dims)


def _integers(rng: np.random.Generator, dims: list[int], dtype: str, draw: str, kind: str) -> np.ndarray | None:
    if kind in ("zeros", "all false"):
        return np.zeros(dims, dtype)
    if kind == "all true":
        return np.ones(dims, dtype)
    if kind != "ends of the range":
        return None
    limits = np.iinfo(dtype)
    if dtype in ("int8", "uint8"):
        return rng.choice([limits.min, limits.max], dims).astype(dtype)
    if draw != "signed" or limits.min == 0:
        return None
    largest = min(_LARGE_INTEGER, limits.max)
    return rng.choice([-largest, -7, -1, 0, 1, 7, largest], dims).astype(dtype)


def _is_integer(dtype: str) -> bool:
    return dtype.startswith(("int", "uint"))


def _is_float(dtype: str) -> bool:
    return dtype.startswith(("float", "bfloat", "complex"))
