"""Seeded inputs, and the source framework's own outputs for them: what every converted file is compared with."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from converter.errors import ParameterError
from converter.hub.hub import Run, TensorSpec
from converter.hub.informative import vacuous_outputs
from converter.hub.samples import draws_for, make_inputs, special_kinds
from converter.hub.weights import as_dtype
from converter.wording import first_line, shape_text

__all__ = ["follows_batch", "make_reference", "plan_batches", "split_rows"]

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
# What is tried first for images of special values.
_SMALL_IMAGES = [
    (32, 64)
]  # smaller ones shrink to nothing on the way, which onnxruntime refuses and TensorFlow does not
# Steps (roundings, comparisons, the largest of several) are crossed by few rows of a special kind: where a row is no larger
# than a small grey image, several of them cost nothing. Kinds of which all rows are alike need one.
_CHEAP_ROW, _CHEAP_ROWS = 1024, 8
_UNIFORM = ("zeros", "all true", "all false")
# Shares of an output's largest value by which it may change with its input's last digits, half of what a target's may
# differ by; and by which it changes at least where the model takes a step.
_WELL_CONDITIONED, _STEP = 5e-5, 1e-2
# A few of a float32's last digits.
_NOISE = 2.0**-21
# A second of sound, or a stretch of a genome, of which models cut off thousands at the ends.
_RECORDINGS: tuple[int, int] = (16000, 24000)


def plan_batches(batch_dynamic: bool, samples: int = 4) -> list[int | None]:
    """Batch sizes of the runs, together `samples` rows: one row alone and the rest at once, or, fixed, None for each."""
    if not batch_dynamic:
        return [None] * samples
    return [1, samples - 1] if samples > 1 else [1]


def _sizes(inputs: Sequence[TensorSpec], batch_dynamic: bool) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """The sizes of even and of odd runs to try: unequal sizes first, exchanged in odd runs, then square ones."""
    if not _unknown_sizes(inputs, batch_dynamic):
        yield (1, 1), (1, 1)
        return
    for a, b in _IMAGE_SIZES if _has_images(inputs) else _SIZES:
        yield (a, b), (b, a)
        yield (a, a), (b, b)
    if any(spec.shape is not None and len(spec.shape) <= 3 for spec in inputs):
        a, b = _RECORDINGS
        yield (a, b), (b, a)


def _has_images(inputs: Sequence[TensorSpec]) -> bool:
    return any(spec.shape is not None and len(spec.shape) >= 4 for spec in inputs)


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
    left_out: dict[str, str] | None = None,
    ranks: Callable[[], bool] = lambda: False,
) -> list[Run]:
    """Runs of the source on seeded inputs, or on the user's (`verify.inputs`: one array per input, leading axis samples).

    Unknown dimensions are tried in several sizes until the source accepts one, and differ from run to run and, where the
    source takes that, from each other; values are drawn in several ways (samples.DRAWS) until the source's answers say
    something, those of inputs in `keys` from there (samples.make_inputs). Runs on special values follow; `left_out` is
    filled with the kinds for which there is none, and the reason. `ranks`: whether operators of the source rank numbers, and
    promise no certain order of equal ones; asked after the source was run.

    Raises ParameterError when the source accepts no size, or when the user's arrays do not fit the inputs; for inputs of
    known shape, what the source raises passes through.
    """
    if user_inputs is not None:
        return [Run(arrays, _outputs(run_source, arrays)) for arrays in _user_runs(inputs, batch_dynamic, user_inputs)]
    vocabulary = vocabulary or {}
    left_out = {} if left_out is None else left_out
    left_out.clear()
    failure: Exception | None = None
    weaker: list[tuple[list[Run], _Drawn, tuple[int, int]]] = []
    for draw in draws_for(inputs, vocabulary):
        drawn = _Drawn(inputs, vocabulary, draw, keys, ranks)
        runs, sizes, raised = _typical_runs(drawn, batch_dynamic, run_source, samples)
        failure = failure or raised
        if runs is None:
            continue
        if vacuous_outputs(runs) != list(range(len(runs[0].outputs))):
            return runs + _special_runs(drawn, batch_dynamic, run_source, sizes, left_out)
        weaker.append((runs, drawn, sizes))
    if weaker:
        # Too small an input may give no windows, no boxes: not wrong, but proof of nothing.
        runs, drawn, sizes = next((found for found in weaker if _is_whole(found[0])), weaker[0])
        return runs + _special_runs(drawn, batch_dynamic, run_source, sizes, left_out)
    if not _unknown_sizes(inputs, batch_dynamic):
        raise failure  # type: ignore[misc]
    raise ParameterError(
        f"the model accepts none of the sizes tried for its unknown dimensions ({_shapes_text(inputs)}): "
        f"give input_shape with the sizes it needs ({first_line(failure)})"
    ) from failure


@dataclass(frozen=True)
class _Drawn:
    """How values of these inputs are drawn (samples.py)."""

    inputs: Sequence[TensorSpec]
    vocabulary: Mapping[str, int]
    draw: str
    keys: Mapping[str, np.ndarray] | None = None
    ranks: Callable[[], bool] = lambda: False

    def arrays(self, batch: int | None, sizes: tuple[int, int], seed: int, kind: str = "typical") -> list[np.ndarray]:
        return make_inputs(
            self.inputs,
            batch=batch,
            sizes=sizes,
            seed=seed,
            vocabulary=self.vocabulary,
            draw=self.draw,
            kind=kind,
            keys=self.keys,
        )


def _typical_runs(
    drawn: _Drawn, batch_dynamic: bool, run_source: Model, samples: int
) -> tuple[list[Run] | None, tuple[int, int], Exception | None]:
    """Runs in the first sizes that the source accepts and that give no empty output, else in the first it accepts.

    Beside them the sizes of even runs, and, where there are no runs, what the source raised first.
    """
    failure: Exception | None = None
    empty: tuple[list[Run], tuple[int, int]] | None = None
    for sizes in _sizes(drawn.inputs, batch_dynamic):
        runs: list[Run] = []
        try:
            for index, batch in enumerate(plan_batches(batch_dynamic, samples)):
                arrays = drawn.arrays(batch, sizes[index % 2], index)
                runs.append(Run(arrays, _outputs(run_source, arrays)))
        except Exception as error:  # whatever the framework raises for a size it cannot take; re-raised by the caller
            failure = failure or error
            continue
        if _is_whole(runs):
            return runs, sizes[0], None
        empty = empty or (runs, sizes[0])
    return (*empty, None) if empty else (None, (1, 1), failure)


def _is_whole(runs: Sequence[Run]) -> bool:
    return all(output.size for run in runs for output in run.outputs)


def _special_runs(
    drawn: _Drawn, batch_dynamic: bool, run_source: Model, sizes: tuple[int, int], left_out: dict[str, str]
) -> list[Run]:
    """One run for each kind of special values; `left_out` gets the kinds that prove nothing here, with the reason.

    Negative and large values: where the source's own answers change by more than a target's may when these change in their
    last digits, another library's rounding does so too. Zeros: equal numbers are all rounded to the same side as they are added
    up, by 1e-4 of a sum of ten thousand (TensorFlow 2.21), which a normalization makes much larger. Then the answer is not
    the mean of those on both sides of it, by a little; after a step (a comparison, a sign) it is, or by far not.
    Very negative values saturate activations, and among numbers that are nearly equal the rounding of a library decides which
    is the largest: not where an answer is a whole number. Where the source ranks, neither these nor large ones count, nor
    what seems to give equal numbers (`_may_tie`).
    """
    runs: list[Run] = []
    sizes = _economical(drawn, batch_dynamic, run_source, sizes)
    for kind in special_kinds(drawn.inputs, drawn.vocabulary, drawn.draw):
        arrays = drawn.arrays(1 if batch_dynamic else None, sizes, 100, kind)
        if batch_dynamic and kind not in _UNIFORM and sum(array.size for array in arrays) <= _CHEAP_ROW:
            arrays = drawn.arrays(_CHEAP_ROWS, sizes, 100, kind)
        try:
            outputs = _outputs(run_source, arrays)
            if (reason := _proves_nothing(drawn, run_source, kind, arrays, outputs)) is not None:
                left_out[kind] = reason
                continue
        except Exception as error:  # whatever the source raises for values it does not take
            left_out[kind] = f"the source does not take them: {first_line(error)}"
            continue
        runs.append(Run(arrays, outputs, kind))
    return runs


def _economical(drawn: _Drawn, batch_dynamic: bool, run_source: Model, sizes: tuple[int, int]) -> tuple[int, int]:
    """Sizes of images for special values: the smallest of some that the source takes as well as the ordinary `sizes`.

    What attends from each pixel to each takes a minute for a few images of 64 by 96, and what a value does not show in a
    small image it does not in a larger one.
    """
    if not _has_images(drawn.inputs) or not _unknown_sizes(drawn.inputs, batch_dynamic):
        return sizes
    for small in _SMALL_IMAGES:
        if math.prod(small) >= math.prod(sizes):
            break
        try:
            arrays = drawn.arrays(1 if batch_dynamic else None, small, 100)
            run = Run(arrays, _outputs(run_source, arrays))
        except Exception:  # whatever the source raises for a size it cannot take
            continue
        if not vacuous_outputs([run]):
            return small
    return sizes


def _proves_nothing(
    drawn: _Drawn, run_source: Model, kind: str, arrays: Sequence[np.ndarray], outputs: Sequence[np.ndarray]
) -> str | None:
    """Why answers to special values of this kind are no evidence; None where they are."""
    if kind in ("zeros", "negative", "large", "very negative") and _shows_rounding(run_source, kind, arrays, outputs):
        return "the source's own rounding errors show on such inputs"
    if kind in ("large", "very negative") and drawn.ranks():
        return (
            "saturated scores are equal without showing it, and the source ranks them in an order that is not defined"
        )
    if kind == "very negative" and any(output.dtype.kind not in "fcV" for output in outputs):
        return "whole numbers may follow from which of several saturated numbers is rounded up"
    if kind in ("zeros", "halves", "negative") and drawn.ranks() and _may_tie(run_source, arrays, outputs):
        return "the source ranks equal numbers on such inputs, in an order that is not defined"
    return None


def _may_tie(run_source: Model, arrays: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> bool:
    """Whether equal numbers seem to be ranked: one stands twice in a row of an answer, or noise changes the order of answers."""
    rows = [row for output in outputs if output.dtype.kind == "f" for row in (output if output.ndim > 1 else [output])]
    for row in rows:
        values = row[np.isfinite(row) & (row != 0)]
        is_class = values.size and values.max() > 1 and (values == np.round(values)).all()
        if not is_class and len(np.unique(values)) < values.size:
            return True
    rng = np.random.default_rng(1)
    noisy = [
        (a + _NOISE * np.maximum(1, np.abs(a)) * rng.choice([-1.0, 1.0], a.shape)).astype(a.dtype)
        if a.dtype.kind in "fc"
        else a
        for a in arrays
    ]
    return _change(outputs, _outputs(run_source, noisy)) > _STEP


def _shows_rounding(run_source: Model, kind: str, arrays: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> bool:
    rng = np.random.default_rng(0)
    nudges = [rng.choice([-1.0, 1.0], array.shape) if array.dtype.kind in "fc" else None for array in arrays]

    def run(moved: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> list[np.ndarray]:
        pairs = zip(arrays, nudges, strict=True)
        return _outputs(run_source, [a if by is None else moved(a, by).astype(a.dtype) for a, by in pairs])

    if kind != "zeros":
        return _change(outputs, run(lambda array, by: array * (1 + by * _NOISE))) > _WELL_CONDITIONED
    if not all(a.dtype.kind in "fc" for a in outputs):
        return False

    def beside(size: float) -> float:
        sides = run(lambda array, by: array + size * by), run(lambda array, by: array - size * by)
        middle = [(a.astype(np.complex128) + b) / 2 for a, b in zip(*sides, strict=True)]
        return _change([a.astype(np.complex128) for a in outputs], middle)

    change = beside(1e-3)
    # What bends at zero, as every rectifier does, bends more further away; a rounding error stays what it is.
    return _WELL_CONDITIONED < change < _STEP and beside(4e-3) < 2 * change


def _change(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> float:
    """The largest difference between answers, as a share of each output's largest value; infinite for another kind."""
    worst = 0.0
    for a, b in zip(first, second, strict=True):
        if a.shape != b.shape or (a.dtype.kind not in "fcV" and (a != b).any()):
            return math.inf
        if a.dtype.kind in "fcV":
            a, b = a.astype(np.complex128), b.astype(np.complex128)
            finite = np.isfinite(a)
            if not np.array_equal(finite, np.isfinite(b)):
                return math.inf
            largest = float(np.abs(a[finite]).max(initial=0.0))
            difference = float(np.abs(a[finite] - b[finite]).max(initial=0.0))
            worst = max(worst, difference / largest if largest else (math.inf if difference else 0.0))
    return worst


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
    shapes = [spec.shape for spec in inputs if spec.shape is not None]
    if len(shapes) < len(inputs) or any(a.ndim != len(shape) for a, shape in zip(arrays, shapes, strict=True)):
        return [[array[index] for array in arrays] for index in range(count)]  # samples without a batch dimension
    fixed = {shape[0] for shape in shapes if shape[0] is not None}
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
    return ", ".join(f"{spec.name} {shape_text(spec.shape)}" for spec in inputs)


def _fitting(spec: TensorSpec, array: np.ndarray) -> np.ndarray:
    """The user's array in the input's dtype. Raises ParameterError where shape or kind differ."""
    expected = spec.shape
    if expected is not None and len(expected) == array.ndim:  # it counts the batch too
        expected = expected[1:]
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
            f"expected {spec.dtype} [{', '.join(['samples', *(shape_text(expected)[1:-1].split(',') if expected else [])])}]"
        )
    if text:  # bytes, as TensorFlow has them
        words = [word if isinstance(word, bytes) else str(word).encode() for word in array.reshape(-1)]
        return np.array(words, object).reshape(array.shape)
    return array.astype(dtype)


def split_rows(runs: Sequence[Run]) -> list[Run]:
    """The runs as runs of one row each, for a target whose batch is fixed at 1.

    A run whose arrays do not share their leading dimension is dropped unless it is of batch 1 already.
    """
    rows: list[Run] = []
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


def follows_batch(runs: Sequence[Run], position: int) -> bool:
    """Whether the output at `position` has as many rows as the inputs in every run."""
    return all(
        run.outputs[position].ndim > 0 and run.outputs[position].shape[0] == run.inputs[0].shape[0] for run in runs
    )
