"""Operators written as others: importing this registers them all. Named one by one, for code_version.py to find."""

from converter.torch_to_keras.compositions import (
    bags,
    counting,
    diagonals,
    matrices,
    ranking,
    running,
    sampling,
    special,
    windows,
)
from converter.torch_to_keras.compositions.table import COMPOSITIONS

__all__ = [
    "COMPOSITIONS", "bags", "counting", "diagonals", "matrices", "ranking", "running", "sampling", "special", "windows"
]  # fmt: skip
