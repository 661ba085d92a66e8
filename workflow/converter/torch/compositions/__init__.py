"""Operators written as others: importing this registers them all. Named one by one, for code_version.py to find."""

from converter.torch.compositions import (
    bags,
    counting,
    diagonals,
    layers,
    matrices,
    pooling,
    ranking,
    running,
    sampling,
    special,
    windows,
)
from converter.torch.compositions.table import COMPOSITIONS, composed_program

__all__ = [
    "COMPOSITIONS", "composed_program", "bags", "counting", "diagonals", "layers", "matrices", "pooling", "ranking", "running",
    "sampling", "special", "windows",
]  # fmt: skip
