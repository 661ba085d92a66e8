"""Operators written as others: importing this registers them all. Named one by one, for code_version.py to find."""

from converter.torch.compositions import (
    bags,
    counting,
    diagonals,
    equations,
    layers,
    matrices,
    pooling,
    ranking,
    running,
    sampling,
    scattering,
    special,
    windows,
)
from converter.torch.compositions.table import COMPOSITIONS, composed_program

__all__ = [
    "COMPOSITIONS",
    "bags",
    "composed_program",
    "counting",
    "diagonals",
    "equations",
    "layers",
    "matrices",
    "pooling",
    "ranking",
    "running",
    "sampling",
    "scattering",
    "special",
    "windows",
]
