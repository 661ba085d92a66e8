"""How much of a source its reference exercises: `hub.coverage` and `hub.weakest`, and more samples where that helps.

One backward pass for each run, from the outputs to all weights; what no gradient reaches is changed to see whether an
output moves. What all this may cost follows from the model alone, not from a clock: the same source gives the same report.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from converter.evidence.bounds import below
from converter.evidence.probe import SAMPLED, NoEvidence, Probe
from converter.evidence.samples import draw_of, more_inputs, rows_for_tables
from converter.evidence.tally import Tally
from converter.evidence.weakest import Allowed, perturbed, weakest
from converter.hub.hub import Hub, Run
from converter.run_state import failures
from converter.verification.verify import Tolerance

__all__ = ["assess"]

RunSource = Callable[[list[np.ndarray]], Sequence[np.ndarray]]

# In multiplications, of which an import's own work is worth several times as many (docs/design.md): for any model, for
# each of its weights, which an import reads and writes, and for each of a row's own multiplications.
_FOR_ALL, _FOR_EACH_WEIGHT, _FOR_EACH_OF_A_ROW = 2e9, 40.0, 1.0
# A backward pass is worth two forward ones.
_BACKWARD = 3.0
_MOST_RUNS, _MOST_ROWS, _MOST_TABLE_ROWS = 6, 16, 128
_MOST_BYTES = 1 << 24  # of the outputs that added runs bring to reference.npz
_MOST_CHANGED = 16  # weights that no gradient reaches, each of which costs a run
_LEAST_GROWTH = 5e-3


@dataclass
class _Spent:
    """Multiplications that may still be spent, and what a forward run of one row comes to, and any run beside its rows."""

    left: float
    row: float
    start: float

    def take(self, rows: int, passes: float = 1) -> bool:
        """Whether so many passes over a run of so many rows are still allowed; they are taken off then."""
        cost = passes * (self.start + rows * self.row)
        if self.left < cost:
            return False
        self.left -= cost
        return True

    def rows(self, passes: float) -> int:
        """How many rows one run may have for so many passes."""
        return max(0, int((self.left / passes - self.start) / self.row))


def assess(
    hub: Hub,
    runs: Sequence[Run],
    make_probe: Callable[[], Probe],
    run_source: RunSource,
    *,
    vocabulary: Mapping[str, int],
    may_add: bool,
) -> list[Run]:
    """Fill `hub.coverage` and `hub.weakest`. Returns the runs that were added to the reference.

    vocabulary: bounds of inputs that number rows of tables, as for `make_inputs`. may_add: the samples are seeded ones,
    not the user's. A model that cannot be differentiated or run again is reported with the reason; that its coverage is
    unknown does not make its file worse.
    """
    try:
        probe = make_probe()
        ordered = sorted(runs, key=lambda run: run.kind != "typical")  # sorted() keeps the order within a kind
        coverage, hub.weakest, added = _assess(hub, ordered, probe, run_source, vocabulary if may_add else None)
    except NoEvidence as error:
        hub.coverage, hub.weakest = _unknown(str(error)), []
        return []
    except Exception as error:  # whatever a framework raises for a model that it can run, but not differentiate
        if isinstance(error, MemoryError) or any(words in str(error) for words in failures.NO_MEMORY):
            raise  # another try may have it: what is reported does not depend on the machine
        traceback.print_exc()  # into the log
        lines = str(error).strip().splitlines()
        hub.coverage = _unknown(f"{type(error).__name__}: {lines[0][:300] if lines else ''}")
        hub.weakest = []
        return []
    hub.coverage = {**coverage, "below": below(coverage)}
    return added


def _unknown(reason: str) -> dict:
    shares = dict.fromkeys(("weights", "rows", "branches", "stuck"))
    samples = dict.fromkeys(("samples", "samples_looked_at", "samples_added"), 0)
    return {"method": "none", "reason": reason, **samples, **shares, "without_influence": [], "below": []}


def _assess(
    hub: Hub, runs: list[Run], probe: Probe, run_source: RunSource, vocabulary: Mapping[str, int] | None
) -> tuple[dict, list[dict], list[Run]]:
    tolerances = _tolerances(runs)
    tally = Tally(probe)
    seen = probe.observe(runs[0], _scales(tolerances[runs[0].kind]), 0)
    tally.add(seen)
    row = max(seen.work / _rows(runs[0], hub.batch_dynamic), 1.0)
    allowed = (
        _FOR_ALL + _FOR_EACH_WEIGHT * sum(array.size for array in probe.weights.values()) + _FOR_EACH_OF_A_ROW * row
    )
    spent = _Spent(allowed, row, seen.start)
    looked_at = _rows(runs[0], hub.batch_dynamic)
    samples = sum(_rows(run, hub.batch_dynamic) for run in runs)
    ordinary = sum(run.kind == "typical" for run in runs)
    added: list[Run] = []
    for index, run in enumerate(runs[1:], 1):
        if index == ordinary and vocabulary is not None:  # before the special values, which raise the shares less
            added = _add(hub, runs, probe, run_source, vocabulary, tally, tolerances, spent)
        if not spent.take(_rows(run, hub.batch_dynamic), _BACKWARD):
            break
        tally.add(probe.observe(run, _scales(tolerances[run.kind]), index))
        looked_at += _rows(run, hub.batch_dynamic)
    else:
        if ordinary == len(runs) and vocabulary is not None:
            added = _add(hub, runs, probe, run_source, vocabulary, tally, tolerances, spent)
    changed = _change_what_no_gradient_reaches(hub, runs, probe, tally, tolerances, spent)
    named = weakest(probe, tally, runs, tolerances, Allowed(lambda run: spent.take(_rows(run, hub.batch_dynamic))))
    more = sum(_rows(run, hub.batch_dynamic) for run in added)
    coverage = {
        "method": _method(probe, changed),
        "reason": None,
        "samples": samples + more,
        "samples_looked_at": looked_at + more,
        "samples_added": more,
        **tally.figures(),
        "without_influence": tally.without_influence(),
    }
    return coverage, named, added


def _method(probe: Probe, changed: int) -> str:
    parts = ["gradients of seeded projections of the outputs"]
    if any(array.size > SAMPLED for array in probe.weights.values()):
        parts.append(f"of weights above {SAMPLED} values every k-th row")
    if changed:
        parts.append(f"{changed} weights that no gradient reaches were changed as a whole")
    return "; ".join([*parts, *probe.limits])


def _tolerances(runs: Sequence[Run]) -> dict[str, list[float]]:
    """What the comparison allows for each output, by kind of samples; 0 for outputs that must be equal."""
    found: dict[str, list[float]] = {}
    for run in runs:
        allowed = found.setdefault(run.kind, [0.0] * len(run.outputs))
        for position, output in enumerate(run.outputs):
            if output.dtype.kind in "fcV":
                finite = np.abs(output.astype(np.complex128 if output.dtype.kind == "c" else np.float64))
                largest = float(finite[np.isfinite(finite)].max(initial=0.0))
                allowed[position] = max(allowed[position], Tolerance().of(largest))
    return found


def _scales(tolerances: Sequence[float]) -> list[float]:
    """A projected output of 1 is what the comparison allows."""
    return [1 / allowed if allowed else 0.0 for allowed in tolerances]


def _rows(run: Run, batch_dynamic: bool) -> int:
    return max(1, run.inputs[0].shape[0]) if batch_dynamic and run.inputs and run.inputs[0].ndim else 1


def _add(
    hub: Hub,
    runs: list[Run],
    probe: Probe,
    run_source: RunSource,
    vocabulary: Mapping[str, int],
    tally: Tally,
    tolerances: Mapping[str, list[float]],
    spent: _Spent,
) -> list[Run]:
    """Observe more samples until they show nothing new; what they raised counts in `tally`."""
    like = min(
        (run for run in runs if run.kind == "typical"), key=lambda run: sum(a.size for a in run.inputs), default=None
    )
    if like is None or not like.inputs:
        return []
    draw = draw_of(hub.inputs, [run for run in runs if run.kind == "typical"], vocabulary)
    added: list[Run] = []
    taken = size = 0
    for index in range(_MOST_RUNS):
        before = tally.figures()
        if _complete(before):
            break
        rows = _most_rows(hub, like, tally, vocabulary, spent)
        if rows == 0 or not spent.take(rows, _BACKWARD + 1):
            break
        arrays = more_inputs(hub.inputs, like, rows if hub.batch_dynamic else None, vocabulary, index, taken, draw)
        try:
            run = Run(arrays, [np.asarray(output) for output in run_source(arrays)])
        except Exception:  # values that the source does not take: what is there stands for itself
            break
        size += sum(output.nbytes for output in run.outputs)
        if size > _MOST_BYTES or any(a.ndim != b.ndim for a, b in zip(run.outputs, like.outputs, strict=True)):
            break
        tally.add(probe.observe(run, _scales(tolerances["typical"]), len(runs) + index))
        added.append(run)
        taken += rows
        if not _grew(before, tally.figures()):
            break
    return added


def _most_rows(hub: Hub, like: Run, tally: Tally, vocabulary: Mapping[str, int], spent: _Spent) -> int:
    """Rows of the next run: as many as the allowance holds, up to a limit, and enough for the tables' rows."""
    affordable = spent.rows(_BACKWARD + 1)
    if not hub.batch_dynamic:
        return min(1, affordable)
    wanted = _MOST_ROWS
    if tally.untouched():
        wanted = max(wanted, min(rows_for_tables(hub.inputs, like, vocabulary), _MOST_TABLE_ROWS))
    return min(wanted, affordable)


def _complete(figures: Mapping[str, float | None]) -> bool:
    """Whether more samples cannot raise anything."""
    return figures["stuck"] in (None, 0.0) and all(
        figures[name] is None or figures[name] >= 1 - _LEAST_GROWTH for name in ("weights", "rows", "branches")
    )


def _grew(before: Mapping[str, float | None], after: Mapping[str, float | None]) -> bool:
    return any(
        before[name] is None or abs(after[name] - before[name]) > _LEAST_GROWTH
        for name in after
        if after[name] is not None
    )


def _change_what_no_gradient_reaches(
    hub: Hub, runs: Sequence[Run], probe: Probe, tally: Tally, tolerances: Mapping[str, list[float]], spent: _Spent
) -> int:
    """Change weights without any influence by a hundredth, and see whether an output moves. Returns how many were changed.

    Gradients end at rounding, comparisons, integers and whatever the framework cannot differentiate.
    """
    silent = [
        name
        for name in probe.weights
        if name not in probe.tables and (name not in tally.influence or not tally.influence[name].any())
    ]
    silent.sort(key=lambda name: (-probe.weights[name].size, name))
    changed = 0
    run = runs[0]
    for name in silent[:_MOST_CHANGED]:
        if not spent.take(_rows(run, hub.batch_dynamic)):
            break
        outputs = probe.outputs(run.inputs, {name: perturbed(probe.weights[name], 1e-2, name)})
        tally.all_of(name, _moved(run.outputs, outputs, tolerances[run.kind]))
        changed += 1
    return changed


def _moved(before: Sequence[np.ndarray], after: Sequence[np.ndarray], tolerances: Sequence[float]) -> bool:
    """Whether an output differs by more than rounding."""
    for old, new, allowed in zip(before, after, tolerances, strict=True):
        if old.shape != new.shape or not math.isfinite(allowed):
            return True
        if old.dtype.kind not in "fcV":
            if not np.array_equal(old, new):
                return True
        elif not np.allclose(old, new, rtol=0, atol=max(0.1 * allowed, 1e-12), equal_nan=True):
            return True
    return False
