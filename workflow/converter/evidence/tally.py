"""What was seen over all runs: which weights had influence, which rows and sides were taken, which activations moved."""

from __future__ import annotations

import math

import numpy as np

from converter.evidence.probe import Observation, Probe

__all__ = ["Tally"]

# A weight has influence if a change by the size of its tensor moves the outputs, to first order, by a thousandth of what
# the comparison allows; what is below is rounding.
_NOISE = 1e-3
# A saturated sigmoid or tanh lies this near to its limits at every place of every sample.
_SATURATED = 1e-3
_LIMITS = {"relu": (0.0, math.inf), "relu6": (0.0, 6.0), "sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}


class Tally:
    """The figures of `coverage`, as observations come in."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self.influence: dict[str, np.ndarray] = {}
        self.strength: dict[str, float] = {}
        self._rows: dict[str, np.ndarray] = {}
        self._sides: dict[str, tuple[set[int], int]] = {}
        self._ranges: dict[str, tuple[str, np.ndarray, np.ndarray]] = {}

    def add(self, seen: Observation) -> None:
        """Count what one more run showed."""
        for name, (gradient, values) in seen.gradients.items():
            self._add_gradient(name, gradient.astype(np.float32), np.asarray(values, np.float32))
        for name, rows in seen.rows.items():
            count = self._probe.tables.get(name)
            if count is not None:
                touched = self._rows.setdefault(name, np.zeros(count, bool))
                touched[rows[(rows >= 0) & (rows < count)]] = True
        for name, taken in seen.sides.items():
            for side, count in taken:
                self._sides.setdefault(name, (set(), count))[0].add(side)
        for name, (function, low, high) in seen.ranges.items():
            if name in self._ranges and self._ranges[name][1].shape == low.shape:
                low, high = np.minimum(low, self._ranges[name][1]), np.maximum(high, self._ranges[name][2])
            self._ranges[name] = (function, low, high)

    def _add_gradient(self, name: str, gradient: np.ndarray, values: np.ndarray) -> None:
        if not gradient.size:
            return
        whole = self._probe.weights[name].size / gradient.size
        norm = float(np.linalg.norm((gradient * values).reshape(-1).astype(np.float64))) * math.sqrt(whole)
        if math.isfinite(norm):
            self.strength[name] = max(norm, self.strength.get(name, 0.0))
        if name in self._probe.tables:
            return
        size = float(np.abs(values).max())
        with np.errstate(invalid="ignore"):  # a gradient of NaN says nothing
            influence = np.abs(gradient) * (size if size > 0 and math.isfinite(size) else 1.0) > _NOISE
        self.influence[name] = self.influence[name] | influence if name in self.influence else influence

    def all_of(self, name: str, influence: bool) -> None:
        """A whole tensor that was changed to see whether it matters."""
        self.influence[name] = np.array(influence)

    def share_of(self, name: str) -> float:
        """The share of a weight's values that have influence."""
        return float(self.influence[name].mean())

    def figures(self) -> dict[str, float | None]:
        """weights, rows, branches, stuck: shares over everything of the kind, None where there is none of it."""
        weights = {name: self._probe.weights[name].size for name in self.influence}
        influential = sum(size * self.share_of(name) for name, size in weights.items())
        stuck = [_stuck(*entry) for entry in self._ranges.values()]
        return {
            "weights": _share(influential, sum(weights.values())),
            "rows": _share(sum(int(t.sum()) for t in self._rows.values()), sum(t.size for t in self._rows.values())),
            "branches": _share(
                sum(len(taken) for taken, _ in self._sides.values()), sum(count for _, count in self._sides.values())
            ),
            "stuck": _share(sum(int(s.sum()) for s in stuck), sum(s.size for s in stuck)),
        }

    def without_influence(self, most: int = 5) -> list[dict]:
        """The weights with the most values that have no influence, and the share of these."""
        dead = {name: 1 - self.share_of(name) for name in self.influence}
        ranked = sorted(
            (name for name in dead if dead[name] > 0),
            key=lambda name: (-dead[name] * self._probe.weights[name].size, name),
        )
        return [{"tensor": name, "share": _rounded(dead[name])} for name in ranked[:most]]

    def untouched(self) -> dict[str, np.ndarray]:
        """The rows of each table that no run has looked up."""
        return {name: np.flatnonzero(~touched) for name, touched in self._rows.items() if not touched.all()}


def _stuck(function: str, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Which channels never leave one of their function's limits."""
    bottom, top = _LIMITS[function]
    near = 0.0 if function.startswith("relu") else _SATURATED
    return (high <= bottom + near) | (low >= top - near)


def _share(part: float, whole: int) -> float | None:
    return _rounded(part / whole) if whole else None


def _rounded(share: float) -> float:
    """Four digits, but 1 and 0 only for all and none."""
    rounded = round(share, 4)
    return 0.9999 if rounded == 1 and share < 1 else 0.0001 if rounded == 0 and share > 0 else float(rounded)
