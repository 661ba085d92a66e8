"""A model that assigns to its variables runs from the same values every time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import tensorflow as tf

from converter.tf.sources.freeze import Frozen

__all__ = ["stateless"]


def stateless(
    run: Callable[[list[np.ndarray]], Sequence[np.ndarray]], variables: Iterable[tf.Variable], frozen: Frozen
) -> Callable[[list[np.ndarray]], Sequence[np.ndarray]]:
    """`run`, after which the variables that the graph assigns have their stored values again."""
    kept = [
        (variable, variable.numpy()) for variable in variables if variable.name.partition(":")[0] in frozen.assigned
    ]
    if not kept:
        return run

    def restored(arrays: list[np.ndarray]) -> Sequence[np.ndarray]:
        try:
            return run(arrays)
        finally:
            for variable, value in kept:
                variable.assign(value)

    return restored
