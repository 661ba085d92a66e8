"""Which tensors of a source and of a converted file are equal on one sample, found by their values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from converter.divergence.computation import Computation, Operator, on_data
from converter.divergence.sketch import Arrangement, Sketch, arranged, is_finite, tolerance

__all__ = ["Comparison", "Pair", "Side"]

_MEMORY = 256 << 20  # bytes of intermediate values of one side that are held at once


@dataclass(frozen=True)
class Pair:
    """A tensor of the source and its counterpart in the file, and how they meet."""

    source: str
    target: str
    arrangement: Arrangement


class Side:
    """One of the two computations on the sample: its operators on data, and a sketch of each tensor."""

    def __init__(self, computation: Computation, arrays: Sequence[np.ndarray]) -> None:
        """`arrays`: the sample's inputs in the hub's order and layout."""
        self.computation, self._arrays = computation, list(arrays)
        self.inputs, self.outputs = computation.inputs, computation.outputs
        self.operators: list[Operator] = _needed(on_data(computation), self.outputs)
        self.names = [*self.inputs, *(name for operator in self.operators for name in operator.outputs)]
        self.names = list(dict.fromkeys(self.names))
        self.maker = {name: operator for operator in self.operators for name in operator.outputs}
        self.sketches = {name: Sketch(array) for name, array in self.values(self.names)}
        self.sketches = {name: self.sketches[name] for name in self.names if name in self.sketches}

    def values(self, names: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
        """The tensors of these names on the current sample, as `Computation.values` gives them."""
        return self.computation.values(self._arrays, names)

    def operator_of(self, name: str) -> str | None:
        """The kind of the operator that makes this tensor, such as "Conv2D"; None for inputs and weights."""
        return self.maker[name].kind if name in self.maker else None


def _needed(operators: Sequence[Operator], outputs: Sequence[str]) -> list[Operator]:
    """The operators that the outputs depend on, with those of their results alone that are used.

    Loops hand out what they carry along, weights too.
    """
    needed, kept = set(outputs), []
    for operator in reversed(operators):
        used = tuple(name for name in operator.outputs if name in needed)
        if used:
            needed |= set(operator.inputs)
            kept.append(replace(operator, outputs=used))
    return kept[::-1]


class Comparison:
    """`equal`: the pairs that agree within rounding, by the name of the source's tensor."""

    def __init__(self, source: Side, target: Side, atol: float) -> None:
        self.source, self.target, self._atol = source, target, atol
        self._by_size: dict[int, list[str]] = {}
        for name, sketch in target.sketches.items():
            self._by_size.setdefault(sketch.size, []).append(name)
        candidates = {name: self._candidates(name) for name in source.sketches}
        self.equal: dict[str, Pair] = {}
        # Where the likeliest candidate fails on all values, the next one is tried.
        while candidates := {name: pairs for name, pairs in candidates.items() if pairs}:
            tried = {name: pairs[0] for name, pairs in candidates.items()}
            figures = self.figures(list(tried.values()))
            for name, pair in tried.items():
                allowed = tolerance(source.sketches[name], target.sketches[pair.target], atol)
                if figures[name]["max_abs_diff"] <= allowed:
                    self.equal[name] = pair
            candidates = {name: pairs[1:] for name, pairs in candidates.items() if name not in self.equal}

    def _candidates(self, name: str) -> list[Pair]:
        """Those whose sketches agree, the same name and the same order of axes first."""
        sketch = self.source.sketches[name]
        found = []
        for place, other in enumerate(self._by_size.get(sketch.size, [])):
            counterpart = self.target.sketches[other]
            if not sketch.may_equal(counterpart, self._atol):
                continue
            difference, arrangement = sketch.nearest(counterpart)
            if difference <= tolerance(sketch, counterpart, self._atol):
                found.append(
                    (not same_name(name, other), not arrangement.is_plain, place, Pair(name, other, arrangement))
                )
        return [entry[-1] for entry in sorted(found, key=lambda entry: entry[:-1])][:8]

    def figures(self, pairs: Sequence[Pair]) -> dict[str, dict]:
        """max_abs_diff, max_abs_reference and cosine of each pair, over all values, by the name of the source's tensor.

        Both sides run as often as it takes to hold no more than 256 MB of each at once.
        """
        found = {}
        for chunk in self._chunks(pairs):
            ours = dict(self.source.values(list(dict.fromkeys(pair.source for pair in chunk))))
            theirs = dict(self.target.values(list(dict.fromkeys(pair.target for pair in chunk))))
            for pair in chunk:
                expected = arranged(ours[pair.source], pair.arrangement, "source")
                actual = arranged(theirs[pair.target], pair.arrangement, "target")
                found[pair.source] = _figures(expected, actual)
        return found

    def _chunks(self, pairs: Sequence[Pair]) -> Iterator[list[Pair]]:
        chunk: list[Pair] = []
        size = 0
        for pair in pairs:
            more = self.source.sketches[pair.source].nbytes
            if chunk and size + more > _MEMORY:
                yield chunk
                chunk, size = [], 0
            chunk.append(pair)
            size += more
        if chunk:
            yield chunk

    def counterpart(self, names: Sequence[str], others: Sequence[str], least: float) -> Pair | None:
        """The pair of one of the source's tensors and one of the file's that stand for each other though they differ.

        Those of the same name, else the most similar ones if their cosine is at least `least`; the first of similar ones.
        """
        found: list[tuple[float, Pair]] = []
        for name in names:
            sketch = self.source.sketches[name]
            for other in others:
                counterpart = self.target.sketches[other]
                if sketch.size == counterpart.size:
                    similarity, arrangement = sketch.similarity(counterpart)
                    found.append((similarity, Pair(name, other, arrangement)))
        named = [pair for _, pair in found if same_name(pair.source, pair.target)]
        if named:
            return named[-1]  # of operators that became one the last
        best = max((similarity for similarity, _ in found), default=-1.0)
        near = 1.0 - 1.5 * (1.0 - best) - 1e-9
        return next((pair for similarity, pair in found if similarity >= near), None) if best >= least else None


def same_name(source: str, target: str) -> bool:
    """Whether the exporter kept the name; TensorFlow Lite joins the names of what it fused by ";"."""
    return source.removesuffix(":0") in target.partition("#")[0].removesuffix(":0").split(";")


def _figures(expected: np.ndarray, actual: np.ndarray) -> dict:
    numbers = is_finite(expected) & is_finite(actual)
    difference = np.abs(expected - actual)
    product = float(np.linalg.norm(expected[numbers]) * np.linalg.norm(actual[numbers]))
    same = 1.0 if not difference.any() else 0.0
    largest = float(difference.max(initial=0.0))
    return {
        # Where one side alone has NaN or an infinity, or the other one of them, no number tells the difference.
        "max_abs_diff": largest if largest == 0.0 or not difference[~numbers].any() else float("inf"),
        "max_abs_reference": float(np.abs(expected[is_finite(expected)]).max(initial=0.0)),
        "cosine": min(1.0, float(expected[numbers] @ actual[numbers]) / product) if product else same,
    }
