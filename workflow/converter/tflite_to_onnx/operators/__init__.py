"""How each operator is written as ONNX nodes, one file for each family; importing it registers its functions.

Named one by one, for code_version.py to find.
"""

from converter.tflite_to_onnx.operators import (
    arithmetic,
    control,
    convolution,
    detection,
    elementwise,
    linear,
    pooling,
    quantization,
    recurrent,
    reductions,
    resize,
    shapes,
    slicing,
    spectral,
)

__all__ = [
    "arithmetic",
    "control",
    "convolution",
    "detection",
    "elementwise",
    "linear",
    "pooling",
    "quantization",
    "recurrent",
    "reductions",
    "resize",
    "shapes",
    "slicing",
    "spectral",
]
