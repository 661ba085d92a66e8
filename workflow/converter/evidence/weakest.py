"""The weights whose changes the comparison would notice last, found by gradients and measured by changing them."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from converter.evidence.probe import Probe
from converter.evidence.tally import Tally
from converter.hub.hub import Run

__all__ = ["Allowed", "perturbed", "weakest"]

_NAMED = 3
_PASSES = 5
# Near the tolerance the effect is linear: what just exceeds it is the smallest change that does.
_NEAR_ENOUGH = 1.2
METHOD = "every value changed by this share of itself, up or down by a seeded sign"


@dataclass
class Allowed:
    """Asks whether one more forward run is still within the allowance."""

    take: Callable[[Run], bool]


def perturbed(array: np.ndarray, share: float, name: str) -> np.ndarray:
    """Every value larger or smaller by `share` of itself, by signs that the name seeds; for zeros, `share` itself."""
    values = np.asarray(array)
    wide = values.astype(np.float32) if values.dtype.itemsize < 4 else values
    signs = np.random.default_rng(zlib.crc32(name.encode())).integers(0, 2, array.shape, np.int8)
    changed = np.asarray(signs, wide.dtype)
    changed *= 2 * share
    changed -= share
    if wide.any():
        changed += 1
        changed *= wide
        changed[~np.isfinite(wide)] = wide[~np.isfinite(wide)]
    return changed.astype(values.dtype, copy=False)


def weakest(
    probe: Probe,
    tally: Tally,
    runs: Sequence[Run],
    tolerances: Mapping[str, list[float]],
    allowed: Allowed,
) -> list[dict]:
    """The three weights with the largest smallest change that is noticed, each measured as far as the allowance goes.

    Weights of zeros cannot change by a share of themselves, and those without influence stand elsewhere.
    """
    screened = [
        (strength, name) for name, strength in tally.strength.items() if strength > 0 and probe.weights[name].any()
    ]
    candidates = sorted(screened)[:_NAMED]
    if not candidates:
        return []
    outputs = sum(output.size for output in runs[0].outputs if output.dtype.kind in "fcV")
    found = []
    for strength, name in candidates:
        # The strength is the root of the sum of squares over all outputs, the comparison looks at the largest.
        guess = min(1.0, max(1e-12, max(outputs, 1) ** 0.25 / strength))
        change, measured = _measure(probe, name, guess, runs, tolerances, allowed)
        method = f"{METHOD}; measured" if measured else f"{METHOD}; estimated from the gradient"
        found.append({"tensor": name, "smallest_change_noticed": change, "method": method})
    found.sort(key=lambda entry: (-(entry["smallest_change_noticed"] or math.inf), entry["tensor"]))
    return found


def _measure(
    probe: Probe,
    name: str,
    guess: float,
    runs: Sequence[Run],
    tolerances: Mapping[str, list[float]],
    allowed: Allowed,
) -> tuple[float | None, bool]:
    """The smallest change that was seen to be noticed, None if none up to all of the weight was; and whether it was seen."""
    unnoticed, noticed = 0.0, math.inf
    share = guess
    for _ in range(_PASSES):
        used = 0.0
        changed = {name: perturbed(probe.weights[name], share, name)}
        for run in runs:
            if run.kind != "typical" and run is not runs[0]:
                continue
            if not allowed.take(run):
                # By the gradient even a change of all of the weight would pass.
                unknown = None if guess >= 1 else _digits(guess)
                return (unknown, False) if noticed == math.inf else (_digits(noticed), True)
            used = max(used, _used(run.outputs, probe.outputs(run.inputs, changed), tolerances[run.kind]))
            if used > 1:
                break
        if used > 1:
            noticed = min(noticed, share)
        else:
            unnoticed = max(unnoticed, share)
        if unnoticed >= 1.0:
            return None, True
        if 1 < used <= _NEAR_ENOUGH or noticed / max(unnoticed, 1e-30) <= _NEAR_ENOUGH:
            break
        share = _next(share, used, unnoticed, noticed)
    return (_digits(noticed), True) if noticed < math.inf else (None, True)


def _next(share: float, used: float, unnoticed: float, noticed: float) -> float:
    """Where the effect, which is nearly linear, would be what is allowed; within what is known already."""
    if 0 < used < math.inf:
        share = share / used * 1.08
    else:
        share = share * 10 if used == 0 else share / 10
    share = min(share, 1.0)
    if unnoticed < share < noticed:
        return share
    return math.sqrt(max(unnoticed, noticed * 1e-3) * noticed) if noticed < math.inf else min(1.0, unnoticed * 4)


def _used(before: Sequence[np.ndarray], after: Sequence[np.ndarray], tolerances: Sequence[float]) -> float:
    """The largest difference over what is allowed; infinite for what must be equal and is not."""
    worst = 0.0
    for old, new, tolerance in zip(before, after, tolerances, strict=True):
        if old.shape != new.shape:
            return math.inf
        if old.dtype.kind not in "fcV":
            worst = max(worst, 0.0 if np.array_equal(old, new) else math.inf)
            continue
        wide = np.complex128 if old.dtype.kind == "c" else np.float64
        old, new = old.astype(wide), new.astype(wide)
        both = np.isfinite(old) & np.isfinite(new)
        if not np.array_equal(np.isfinite(old), np.isfinite(new)):
            return math.inf
        worst = max(worst, float(np.abs(old[both] - new[both]).max(initial=0.0)) / tolerance)
    return worst


def _digits(share: float) -> float:
    """Two digits, rounded up: what is named is noticed."""
    scale = 10.0 ** (1 - math.floor(math.log10(share)))
    return float(f"{math.ceil(share * scale - 1e-9) / scale:.3g}")
