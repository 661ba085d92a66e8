"""Operators over the boundary between two opsets, one file for each family; importing it registers its adapters.

Named one by one, for code_version.py to find.
"""

from converter.onnx.adapters import (
    attributes,
    casts,
    comparisons,
    normalization,
    resize,
    rounding,
    sampling,
    sizes,
    softmax,
)

__all__ = [
    "attributes",
    "casts",
    "comparisons",
    "normalization",
    "resize",
    "rounding",
    "sampling",
    "sizes",
    "softmax",
]
