"""What a case of an operator is: a function of tensors, inputs for it, and the targets that cannot hold it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Case", "bools", "case", "floats", "ints"]


@dataclass(frozen=True)
class Case:
    """function: takes a tensor for each input, gives a tensor or a tuple of them. inputs: the first axis is the batch.

    refused: by target ("onnx", "tflite", "keras"), what the sentence says with which it is refused.
    """

    function: Callable
    inputs: tuple[np.ndarray, ...]
    refused: Mapping[str, str] = field(default_factory=dict)


def case(function: Callable, *inputs: np.ndarray, **refused: str) -> Case:
    """A Case; `refused` by target."""
    return Case(function, inputs, refused)


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    """Standard normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def ints(low: int, high: int, *shape: int, seed: int = 0) -> np.ndarray:
    """Whole numbers from `low` to below `high`."""
    return np.random.default_rng(seed).integers(low, high, shape)


def bools(*shape: int, seed: int = 0) -> np.ndarray:
    """Truth values."""
    return np.random.default_rng(seed).random(shape) > 0.5
