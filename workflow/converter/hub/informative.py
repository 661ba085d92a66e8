"""Whether the source's own answers say anything: a file that agrees with answers that never change proves nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from converter.hub.hub import Hub, Run

__all__ = ["reference_is_weak", "typical", "vacuous_outputs", "why_unproven", "write_evidence"]

# Two outputs of a model that works differ by far more than this share of their size; a constant output proves nothing.
_WEAK_VARIATION = 1e-3


def write_evidence(hub: Hub, runs: Sequence[Run], left_out: Mapping[str, str]) -> None:
    """Write the reference into the hub, and what its samples are made of.

    Where every output is vacuous the hub is `unproven`; where some are, a decision names them.
    """
    hub.write_reference(list(runs))
    vacuous = _vacuous(hub, runs)
    hub.evidence = {
        "kinds": list(dict.fromkeys(run.kind for run in runs)),
        "left_out": dict(left_out),
        "range": [_range(spec.name, [run.inputs[i] for run in runs]) for i, spec in enumerate(hub.inputs)],
        "vacuous_outputs": vacuous,
    }
    hub.unproven = hub.unproven or why_unproven(hub, runs)
    if len(vacuous) < len(hub.outputs):
        lines = [f"output {name} is {text} in the source too" for name, text in vacuous.items()]
        hub.decisions += [line for line in lines if line not in hub.decisions]


def why_unproven(hub: Hub, runs: Sequence[Run]) -> str | None:
    """The sentence for a reference in which every output is vacuous; None for one that can prove something.

    An export asks again: it does not take the word of the process that loaded the source.
    """
    vacuous = _vacuous(hub, runs)
    if len(vacuous) < len(hub.outputs):
        return None
    what = "; ".join(f"output {name} is {text}" for name, text in vacuous.items())
    return (
        f"nothing could be compared, since on these inputs {what}: give verify.inputs, an .npz file with inputs for "
        "which that is not so"
    )


def _vacuous(hub: Hub, runs: Sequence[Run]) -> dict[str, str]:
    """By name, what the outputs are that prove nothing."""
    texts = ((spec.name, _vacuous_text(runs, i)) for i, spec in enumerate(hub.outputs))
    return {name: text for name, text in texts if text is not None}


def typical(runs: Sequence[Run]) -> list[Run]:
    """The runs on ordinary values."""
    return [run for run in runs if run.kind == "typical"]


def vacuous_outputs(runs: Sequence[Run]) -> list[int]:
    """Positions of outputs that prove nothing: empty, NaN or infinite, or the same number throughout all ordinary runs."""
    return [i for i in range(len(runs[0].outputs)) if _vacuous_text(runs, i) is not None]


def _vacuous_text(runs: Sequence[Run], position: int) -> str | None:
    """What such an output is, as in "output mask is ..."; None for an output that says something."""
    arrays = [np.asarray(run.outputs[position]).reshape(-1) for run in typical(runs)]
    values = np.concatenate(arrays) if arrays else np.empty(0)
    if not values.size:
        return "empty"
    if values.dtype.kind == "V":  # bfloat16
        values = values.astype(np.float32)
    if values.dtype.kind in "fc":
        values = values[np.isfinite(values)]
        if not values.size:
            return "NaN or infinite everywhere"
    return f"{values[0]} everywhere" if values.size > 1 and (values == values[0]).all() else None


def _range(name: str, arrays: Sequence[np.ndarray]) -> dict[str, Any]:
    """The smallest and largest number that was fed to an input; null for strings."""
    values = [array for array in arrays if array.size and array.dtype.kind in "biufV"]
    if not values:
        return {"input": name, "smallest": None, "largest": None}
    numbers = [array.astype(np.float64) for array in values]
    return {
        "input": name,
        "smallest": min(float(array.min()) for array in numbers),
        "largest": max(float(array.max()) for array in numbers),
    }


def reference_is_weak(runs: Sequence[Run]) -> bool:
    """Whether the outputs hardly change from sample to sample, so that a wrong model could pass by luck.

    True if for every floating output the spread across rows is below 0.1 % of the largest value.
    """
    runs = typical(runs)
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
