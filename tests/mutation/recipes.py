"""What a model of the campaign is made of, and which of them a part of the campaign takes."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

__all__ = ["Recipe", "choose", "seeded", "spread"]


@dataclass(frozen=True)
class Recipe:
    """One small model. format: as the table names it. build: writes the source below a folder and returns its path.

    flags: of the import step. ranges: (lowest, highest) value of an integer input, for the numbers that judge a mutant;
    of other integer inputs they are drawn from what the reference was made of.
    """

    name: str
    format: str
    build: Callable[[Path], Path]
    flags: dict[str, object] = field(default_factory=dict)
    ranges: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def script(self) -> str:
        return {
            "Keras": "import_keras",
            "SavedModel": "import_savedmodel",
            "TF1": "import_checkpoint",
            "frozen": "import_protobuf",
            "PyTorch": "import_pytorch",
        }[self.format.split()[0]]


def seeded(seed: int, *shape: int) -> np.ndarray:
    """Weights (float32) scaled so that signals keep their size."""
    fan_in = int(np.prod(shape[:-1])) if len(shape) > 1 else 4
    return (np.random.default_rng(seed).standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)


def spread(values: Sequence[np.ndarray], names: Sequence[str], seed: int) -> list[np.ndarray]:
    """Values for the weights of these shapes, biases away from 0 and variances from 1, so that none is without effect."""
    rng = np.random.default_rng(seed)
    made = []
    for value, name in zip(values, names, strict=True):
        fan_in = int(np.prod(value.shape[:-1])) if value.ndim > 1 else 4
        drawn = rng.standard_normal(value.shape) / np.sqrt(max(fan_in, 1))
        if "variance" in name or "gamma" in name:
            drawn = np.abs(drawn) + 0.5
        made.append(drawn.astype(value.dtype))
    return made


def choose(recipes: Sequence[Recipe], count: int, seed: int) -> list[Recipe]:
    """`count` of them, formats by turns; 0: all."""
    by_format: dict[str, list[Recipe]] = {}
    for recipe in recipes:
        by_format.setdefault(recipe.format, []).append(recipe)
    generator = random.Random(f"{seed} models")
    groups = list(by_format.values())
    for group in groups:
        generator.shuffle(group)
    generator.shuffle(groups)
    turns = [recipe for row in itertools.zip_longest(*groups) for recipe in row if recipe is not None]
    return turns[:count] if count else turns
