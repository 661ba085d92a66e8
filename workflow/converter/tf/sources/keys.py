"""Values that make lookups show what they hold: the keys of tables, the edges of bins, and what lies beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from converter.hub.hub import Run, TensorSpec
from converter.hub.weights import as_dtype
from converter.tf.graph.graph import GraphDef
from converter.tf.sources.vocabulary import inputs_behind

__all__ = ["Keys", "find_keys", "key_runs"]

_ROWS = 256  # of the runs of key_runs together
_CALLS = 8  # where a run has one row, or a fixed number of them


@dataclass(frozen=True)
class Keys:
    """For inputs by name. known: values that a table holds, or any for bins. mixed: these by turns with others."""

    known: dict[str, np.ndarray]
    mixed: dict[str, np.ndarray]


def find_keys(graph_def: GraphDef, inputs: Sequence[TensorSpec], tables: Mapping[str, Sequence[np.ndarray]]) -> Keys:
    """`tables`: the keys of the tables that an input is looked up in; the edges of Bucketize are found in the graph."""
    nodes = {node.name: node for node in graph_def.node}
    edges: dict[str, list[np.ndarray]] = {}
    for node in graph_def.node:
        if node.op == "Bucketize":
            for name in inputs_behind(nodes, node.input[0], inputs):
                edges.setdefault(name, []).append(np.array(node.attr["boundaries"].list.f, np.float64))
    known, mixed = {}, {}
    for spec in inputs:
        if spec.name in tables:
            held = np.unique(np.concatenate(tables[spec.name]))
            known[spec.name] = _representable(held, spec.dtype)
            mixed[spec.name] = _by_turns(known[spec.name], _representable(_beside(held), spec.dtype))
        elif spec.name in edges:
            values = _representable(_around(np.unique(np.concatenate(edges[spec.name]))), spec.dtype)
            known[spec.name] = mixed[spec.name] = values
    present = {name for name, values in known.items() if len(values)}
    return Keys(
        {name: values for name, values in known.items() if name in present},
        {name: values for name, values in mixed.items() if len(values)},
    )


def _beside(keys: np.ndarray) -> np.ndarray:
    """Values that are no keys: numbers between and around them, negative ones, what a cut to fewer bits makes a key of."""
    if keys.dtype.kind == "O":
        others = [b"", b"alpha", *(key + b"x" for key in keys[:64]), *(key[:-1] for key in keys[:64])]
        return np.array(sorted(set(others) - set(keys)), object)
    values = keys.tolist()
    ends = [min(values, default=0) - 1, max(values, default=0) + 1]
    near = [value + step for value in values[:64] for step in (1, -1, 2**24, 2**32)]
    return np.array(_storable({*ends, -1, 0, 10**9, *near} - set(values)), np.int64)


def _storable(values: set[int]) -> list[int]:
    return sorted(value for value in values if -(2**63) <= value < 2**63)


def _around(edges: np.ndarray) -> np.ndarray:
    if not len(edges):
        return edges
    width = max(float(edges[-1] - edges[0]), 1.0)
    return np.concatenate([[edges[0] - width], edges, (edges[1:] + edges[:-1]) / 2, [edges[-1] + width]])


def _representable(values: np.ndarray, dtype: str) -> np.ndarray:
    """Those of the values that the input's dtype holds; fractions are cut off for integers."""
    if dtype == "string" or values.dtype.kind == "O":
        return values if (dtype == "string") == (values.dtype.kind == "O") else values[:0]
    wanted = as_dtype(dtype)
    if np.issubdtype(wanted, np.integer):
        limits = np.iinfo(wanted)
        values = values[(values >= limits.min) & (values <= limits.max)]
    return values.astype(wanted)


def _by_turns(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    if not len(first) or not len(second):
        return first if len(first) else second
    count = max(len(first), len(second))
    turns = np.empty(2 * count, first.dtype)
    turns[0::2] = np.resize(first, count)
    turns[1::2] = np.resize(second, count)
    return turns


def key_runs(inputs: Sequence[TensorSpec], values: Mapping[str, np.ndarray], run: Run, batched: bool) -> list[list]:
    """Inputs like those of `run`, with every one of `values` in them, up to a limit; `batched`: in as many rows as it takes."""
    arrays = [np.asarray(array) for array in run.inputs]
    positions = [position for position, spec in enumerate(inputs) if spec.name in values and arrays[position].size]
    if not positions:
        return []
    sizes = [arrays[p][:1].size if batched else arrays[p].size for p in positions]
    calls = max(-(-len(values[inputs[p].name]) // size) for p, size in zip(positions, sizes, strict=True))
    rows = min(calls, _ROWS)
    if batched:
        arrays = [np.resize(array, (rows, *array.shape[1:])) for array in arrays]
    made = []
    for call in range(1 if batched else min(calls, _CALLS)):
        filled = list(arrays)
        for position in positions:
            shape, choices = arrays[position].shape, values[inputs[position].name]
            count = int(np.prod(shape))
            start = call * count
            chosen = _spread(choices, count) if batched else np.resize(np.roll(choices, -start), count)
            filled[position] = chosen.reshape(shape).astype(arrays[position].dtype)
        made.append(filled)
    return made


def _spread(choices: np.ndarray, count: int) -> np.ndarray:
    """`count` of the values: all of them, repeated, or evenly spread over them."""
    if count >= len(choices):
        return np.resize(choices, count)
    return choices[np.linspace(0, len(choices) - 1, count).round().astype(np.int64)]
