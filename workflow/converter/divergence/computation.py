"""A model as operators and the values of their tensors: what a source and a converted file are compared by."""

from __future__ import annotations

import abc
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

__all__ = ["Computation", "Operator", "on_data"]


@dataclass(frozen=True)
class Operator:
    """One operator. `inputs`, `outputs`: names of tensors, weights left out.

    layer: the path of the layer that it belongs to; source_line: "net.py:12: x = self.conv(x)"; None where unknown.
    sizes_only: its results depend on the sizes of its inputs, not on their values.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    layer: str | None = None
    source_line: str | None = None
    sizes_only: bool = False

    def described(self) -> dict:
        """The keys of a report's `first_divergence` that say where: operator, layer, source_line."""
        return {"operator": self.kind, "layer": self.layer, "source_line": self.source_line}


class Computation(abc.ABC):
    """`operators` in order of execution; `inputs`, `outputs`: names of tensors in the order of the hub's."""

    operators: list[Operator]
    inputs: list[str]
    outputs: list[str]

    @abc.abstractmethod
    def values(self, arrays: Sequence[np.ndarray], names: Collection[str]) -> Iterator[tuple[str, np.ndarray]]:
        """The values of these tensors on inputs in the hub's order and layout, in any order.

        What has no value of numbers (a string, a list, a branch not taken) is left out.
        """


def on_data(computation: Computation) -> list[Operator]:
    """The operators whose results depend on the values of the model's inputs, with those of their tensors alone.

    What is computed from weights and from sizes is left out: files hold the finished constants.
    """
    on_values = set(computation.inputs)
    kept = []
    for operator in computation.operators:
        inputs = tuple(dict.fromkeys(name for name in operator.inputs if name in on_values))
        if inputs and not operator.sizes_only:
            on_values |= set(operator.outputs)
            kept.append(replace(operator, inputs=inputs))
    return kept
