"""Seeded inputs, and the source framework's own outputs for them: what every converted file is compared with."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from converter.errors import ParameterError
from converter.hub import Run, TensorSpec
from converter.weights import as_dtype

__all__ = ["make_inputs", "make_reference", "plan_batches", "reference_is_weak", "split_rows"]

Model = Callable[[list[np.ndarray]], Sequence[np.ndarray]]

# Pairs of sizes tried for unknown dimensions, the first list for vectors and sequences, the second for images: some
# networks need a multiple of 32, some at least 75 pixels. Neighbouring dimensions take the two in turn, and the next run
# the other way round, so that a size frozen by mistake and a swapped height and width show.
_SIZES = [(7, 12), (32, 64), (64, 96), (96, 128), (224, 256), (320, 299), (512, 640), (16, 24), (4, 8), (2, 3), (1, 1)]
_IMAGE_SIZES = [
    (64, 96),
    (96, 128),
    (224, 256),
    (320, 352),
    (32, 64),
    (7, 12),
    (512, 640),
    (16, 24),
    (4, 8),
    (2, 3),
    (1, 1),
]
# A second of sound, or a stretch of a genome, of which models cut off thousands at the ends.
_RECORDINGS = (16000, 24000)

# Two outputs of a model that works differ by far more than this share of their size; a constant output proves nothing.
_WEAK_VARIATION = 1e-3


def plan_batches(batch_dynamic: bool, samples: int = 4) -> list[int | None]:
    """Batch sizes of the runs, together `samples` rows: one row alone and the rest at once, or, fixed, None for each."""
    if not batch_dynamic:
        return [None] * samples
    return [1, samples - 1] if samples > 1 else [1]


def make_inputs(
    inputs: Sequence[TensorSpec],
    *,
    batch: int | None,
    sizes: tuple[int, int],
    seed: int,
    vocabulary: Mapping[str, int] | None = None,
    keys: Mapping[str, np.ndarray] | None = None,
) -> list[np.ndarray]:
    """One array per input, the same for the same arguments on any machine.

    `batch` stands for an unknown leading dimension (None: that one is like the others), `sizes` for the other unknown
    ones, by turns: axes 1, 3 and axes 2, 4. Floats are standard normal; an input whose name is in `vocabulary` holds
    whole numbers below that bound, whatever its dtype; other integers lie in [0, 10), uint8 in [0, 256); strings are
    short words. An input whose name is in `keys` holds those values (1-D, at least one) in their order, from any on.
    """
    arrays = []
    for position, spec in enumerate(inputs):
        shape = spec.shape if spec.shape is not None else (None,)
        dims = [
            dim if dim is not None else (batch if axis == 0 and batch is not None else sizes[(axis + 1) % 2])
            for axis, dim in enumerate(shape)
        ]
        rng = np.random.default_rng([seed, position, zlib.crc32(spec.name.encode())])
        if keys and spec.name in keys:
            start, count = rng.integers(len(keys[spec.name])), int(np.prod(dims))
            arrays.append(np.resize(np.roll(keys[spec.name], -start), count).reshape(dims))
        else:
            arrays.append(_values(rng, dims, spec.dtype, (vocabulary or {}).get(spec.name)))
    return arrays


def _values(rng: np.random.Generator, dims: list[int], dtype: str, bound: int | None) -> np.ndarray:
    if dtype == "string":
        words = np.array([b"alpha", b"beta", b"gamma", b"delta"], object)
        return words[rng.integers(0, len(words), dims)]
    if dtype == "bool":
        return rng.integers(0, 2, dims).astype(bool)
    if bound is not None:
        return rng.integers(0, max(bound, 1), dims).astype(as_dtype(dtype))
    if dtype == "uint8":
        return rng.integers(0, 256, dims).astype(dtype)
    if dtype.startswith(("int", "uint")):
        return rng.integers(0, 10, dims).astype(dtype)
    if dtype.startswith("complex"):
        return (rng.standard_normal(dims) + 1j * rng.standard_normal(dims)).astype(dtype)
    return rng.standard_normal(dims).astype(as_dtype(dtype))


def _sizes(inputs: Sequence[TensorSpec], batch_dynamic: bool) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """The sizes of even and of odd runs to try: each pair by turns, then, for models that take only squares, alike."""
    if not _unknown_sizes(inputs, batch_dynamic):
        yield (1, 1), (1, 1)
        return
    images = any(spec.shape is not None and len(spec.shape) >= 4 for spec in inputs)
    for a, b in _IMAGE_SIZES if images else _SIZES:
        yield (a, b), (b, a)
        yield (a, a), (b, b)
    if any(spec.shape is not None and len(spec.shape) <= 3 for spec in inputs):
        yield _RECORDINGS, _RECORDINGS[::-1]


def _unknown_sizes(inputs: Sequence[TensorSpec], batch_dynamic: bool) -> bool:
    """Whether a dimension other than the batch is unknown."""
    first = 1 if batch_dynamic else 0
    return any(spec.shape is None or any(dim is None for dim in spec.shape[first:]) for spec in inputs)


def make_reference(
    inputs: Sequence[TensorSpec],
    batch_dynamic: bool,
    run_source: Model,
    *,
    samples: int = 4,
    vocabulary: Mapping[str, int] | None = None,
    keys: Mapping[str, np.ndarray] | None = None,
    user_inputs: Mapping[str, np.ndarray] | None = None,
) -> list[Run]:
    """Runs of the source on seeded inputs, or on the user's (`verify.inputs`: one array per input, leading axis samples).

    Unknown dimensions are tried in several sizes until the source accepts one, and differ from run to run and, where the
    source takes that, from each other. Raises ParameterError when the source accepts none, or when the user's arrays do
    not fit the inputs; for inputs of known shape, what the source raises passes through.
    """
    if user_inputs is not None:
        return [Run(arrays, _outputs(run_source, arrays)) for arrays in _user_runs(inputs, batch_dynamic, user_inputs)]
    failure: Exception | None = None
    empty: list[Run] | None = None  # too small an input may give no windows, no boxes: not wrong, but proof of nothing
    for sizes in _sizes(inputs, batch_dynamic):
        runs = []
        try:
            for index, batch in enumerate(plan_batches(batch_dynamic, samples)):
                pair = sizes[index % 2]
                arrays = make_inputs(inputs, batch=batch, sizes=pair, seed=index, vocabulary=vocabulary, keys=keys)
                runs.append(Run(arrays, _outputs(run_source, arrays)))
        except Exception as error:  # whatever the framework raises for a size it cannot take; re-raised below
            failure = failure or error
            continue
        if all(output.size for run in runs for output in run.outputs):
            return runs
        empty = empty or runs
    if empty is not None:
        return empty
    if not _unknown_sizes(inputs, batch_dynamic):
        raise failure  # type: ignore[misc]
    raise ParameterError(
        f"the model accepts none of the sizes tried for its unknown dimensions ({_shapes_text(inputs)}): "
        f"give input_shape with the sizes it needs ({_first_line(failure)})"
    ) from failure


def _outputs(run_source: Model, arrays: list[np.ndarray]) -> list[np.ndarray]:
    return [np.asarray(output) for output in run_source(arrays)]


def _user_runs(
    inputs: Sequence[TensorSpec], batch_dynamic: bool, user_inputs: Mapping[str, np.ndarray]
) -> list[list[np.ndarray]]:
    missing = [spec.name for spec in inputs if spec.name not in user_inputs]
    if missing:
        found = ", ".join(sorted(user_inputs)) or "nothing"
        raise ParameterError(f"verify.inputs holds no array named {', '.join(missing)}; it holds {found}")
    counts = {len(user_inputs[spec.name]) if user_inputs[spec.name].ndim else 0 for spec in inputs}
    if len(counts) > 1 or 0 in counts:
        raise ParameterError("verify.inputs: the arrays need the same number of samples, at least one, as leading axis")
    (count,) = counts
    arrays = [_fitting(spec, user_inputs[spec.name]) for spec in inputs]
    if not all(
        spec.shape is not None and array.ndim == len(spec.shape) for spec, array in zip(inputs, arrays, strict=True)
    ):
        return [[array[index] for array in arrays] for index in range(count)]  # samples without a batch dimension
    fixed = {spec.shape[0] for spec in inputs if spec.shape[0] is not None}
    if not fixed:
        cuts = [0, 1, count] if batch_dynamic and count > 1 else [0, count]
    elif len(fixed) == 1 and count % (size := fixed.pop()) == 0:
        cuts = list(range(0, count + 1, size))
    else:
        raise ParameterError(
            f"verify.inputs holds {count} samples, which do not make whole batches of {_shapes_text(inputs)}"
        )
    return [[array[start:end] for array in arrays] for start, end in itertools.pairwise(cuts)]


def _shapes_text(inputs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.name} {_shape_text(spec.shape)}" for spec in inputs)


def _fitting(spec: TensorSpec, array: np.ndarray) -> np.ndarray:
    """The user's array in the input's dtype. Raises ParameterError where shape or kind differ."""
    has_batch = spec.shape is not None and len(spec.shape) == array.ndim
    expected = spec.shape[1:] if has_batch else spec.shape
    fits = expected is None or (
        len(expected) == array.ndim - 1
        and all(e is None or e == a for e, a in zip(expected, array.shape[1:], strict=True))
    )
    text = spec.dtype == "string"
    dtype = np.dtype(object) if text else as_dtype(spec.dtype)
    same_kind = array.dtype.kind in "SUO" if text else np.can_cast(array.dtype, dtype, "same_kind")
    if not fits or not same_kind or (not text and array.dtype.kind == "b") != (dtype.kind == "b"):
        raise ParameterError(
            f"verify.inputs: {spec.name} is {array.dtype} {list(array.shape)}, "
            f"expected {spec.dtype} [{', '.join(['samples', *(_shape_text(expected)[1:-1].split(',') if expected else [])])}]"
        )
    if text:  # bytes, as TensorFlow has them
        words = [word if isinstance(word, bytes) else str(word).encode() for word in array.reshape(-1)]
        return np.array(words, object).reshape(array.shape)
    return array.astype(dtype)


def split_rows(runs: Sequence[Run]) -> list[Run]:
    """The runs as runs of one row each, for a target whose batch is fixed at 1.

    A run whose arrays do not share their leading dimension is dropped unless it is of batch 1 already.
    """
    rows = []
    for run in runs:
        sizes = {array.shape[0] if array.ndim else None for array in [*run.inputs, *run.outputs]}
        if len(sizes) == 1 and (count := sizes.pop()) is not None:
            rows += [
                Run([a[i : i + 1] for a in run.inputs], [a[i : i + 1] for a in run.outputs], run.kind)
                for i in range(count)
            ]
        elif all(array.ndim and array.shape[0] == 1 for array in run.inputs):
            rows.append(run)
    return rows


def reference_is_weak(runs: Sequence[Run]) -> bool:
    """Whether the outputs hardly change from sample to sample, so that a wrong model could pass by luck.

    True if for every floating output the spread across rows is below 0.1 % of the largest value.
    """
    if not runs or not runs[0].outputs:
        return True
    for position in range(len(runs[0].outputs)):
        outputs = [run.outputs[position] for run in runs]
        rows = [row for output in outputs for row in (output if output.ndim else [output])]
        if len({np.shape(row) for row in rows}) > 1:
            return False  # shapes differ from run to run, so the outputs do
        if len(rows) < 2:
            continue  # nothing to compare with
        stacked = np.stack([np.asarray(row) for row in rows])
        if stacked.dtype.kind not in "fc":
            if (stacked != stacked[:1]).any():
                return False
            continue
        finite = np.where(np.isfinite(stacked), stacked, 0)
        largest = np.abs(finite).max(initial=0)
        if largest > 0 and np.ptp(finite, axis=0).max(initial=0) > _WEAK_VARIATION * largest:
            return False
    return True


def _shape_text(shape: tuple[int | None, ...] | None) -> str:
    return "[...]" if shape is None else "[" + ",".join("-1" if dim is None else str(dim) for dim in shape) + "]"


def _first_line(error: Exception | None) -> str:
    text = str(error).strip().splitlines()
    return text[0][:200] if text else type(error).__name__
