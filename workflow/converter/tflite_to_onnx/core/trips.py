"""How often a loop runs, where that is the same for all inputs: such a loop needs no condition."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

__all__ = ["trip_count", "truth"]

_MOST_TRIPS = 1 << 14
_MOST_NODES = 64
_COMPUTED: dict[str, Callable[..., Any]] = {
    "Add": operator.add,
    "And": np.logical_and,
    "Equal": operator.eq,
    "Greater": operator.gt,
    "GreaterOrEqual": operator.ge,
    "Identity": lambda x: x,
    "Less": operator.lt,
    "LessOrEqual": operator.le,
    "Max": np.maximum,
    "Min": np.minimum,
    "Mul": operator.mul,
    "Not": np.logical_not,
    "Or": np.logical_or,
    "Reshape": lambda x, shape: np.reshape(x, shape.tolist()),
    "Sub": operator.sub,
}


def trip_count(
    nodes: Sequence[onnx.NodeProto],
    condition: str,
    states: Sequence[str],
    results: Sequence[str],
    first: Sequence[np.ndarray | None],
    arrays: Mapping[str, np.ndarray],
) -> int | None:
    """Trips of a loop that runs at least once; None where the data tell it, or it is too long to count.

    nodes: of the body, which make `condition`, whether it goes on, and from `states` the `results`, the next states. first:
    the first states that are the same for all inputs. arrays: constants by name.
    """
    places = {name: place for place, name in enumerate(states)}
    needed, chosen = _sources(nodes, condition, dict(zip(states, results, strict=True)), arrays)
    if chosen is None:
        return None
    own = [name for name in needed if name in places]
    starts = {name: first[places[name]] for name in own}
    if any(array is None or array.size != 1 for array in starts.values()):
        return None
    values: dict[str, Any] = {name: arrays[name] for name in needed if name in arrays} | starts
    for trips in range(1, _MOST_TRIPS):
        _compute(chosen, values)
        if not np.asarray(values[condition]).item():
            return trips
        values.update({name: values[results[places[name]]] for name in own})
    return None


def truth(nodes: Sequence[onnx.NodeProto], name: str, arrays: Mapping[str, np.ndarray]) -> bool | None:
    """A truth value that these nodes make of constants alone; None where it needs data."""
    needed, chosen = _sources(nodes, name, {}, arrays)
    if chosen is None:
        return None
    values: dict[str, Any] = {name: arrays[name] for name in needed if name in arrays}
    _compute(chosen, values)
    return bool(np.asarray(values[name]).item())


def _sources(
    nodes: Sequence[onnx.NodeProto], name: str, following: Mapping[str, str], arrays: Mapping[str, np.ndarray]
) -> tuple[list[str], list[onnx.NodeProto] | None]:
    """What a tensor is made of, and by which nodes; no nodes where these are not simple, or need data.

    following: for each state of a loop what it is in the next trip.
    """
    makers = {output: node for node in nodes for output in node.output}
    needed = [name]
    for source in needed:  # grows
        if source in following:
            needed.extend({following[source]} - set(needed))
        elif source in makers:
            if makers[source].op_type not in _COMPUTED or len(needed) > _MOST_NODES:
                return needed, None
            needed.extend(set(makers[source].input) - set(needed))
        elif source not in arrays or arrays[source].size > _MOST_NODES:
            return needed, None
    return needed, [node for node in nodes if set(node.output) & set(needed)]


def _compute(nodes: Sequence[onnx.NodeProto], values: dict[str, Any]) -> None:
    with np.errstate(over="ignore"):
        for node in nodes:
            values[node.output[0]] = _COMPUTED[node.op_type](*(values[name] for name in node.input))
