"""Which operators LiteRT computes in int8, and since which version of each; what they ask of the scales.

Versions: tensorflow/compiler/mlir/lite/tools/versioning/op_version.cc of TensorFlow 2.21.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from converter.tflite.integers.scales import Grid

__all__ = ["AVERAGING", "BINARY", "FIXED", "JOINING", "LAYERS", "MOVING", "UNARY", "Layer"]

# Values are moved or chosen, on the grid that they are on: the place of the data among the inputs, and the version.
MOVING: dict[str, tuple[int, int]] = {
    "RESHAPE": (0, 1),
    "SQUEEZE": (0, 1),
    "EXPAND_DIMS": (0, 1),
    "TRANSPOSE": (0, 2),
    "SLICE": (0, 2),
    "STRIDED_SLICE": (0, 2),
    "SPLIT": (1, 2),
    "SPLIT_V": (0, 2),
    "GATHER": (0, 2),
    "UNPACK": (0, 2),
    "PAD": (0, 2),
    "MIRROR_PAD": (0, 2),
    "TILE": (0, 2),
    "BROADCAST_TO": (0, 3),
    "SPACE_TO_DEPTH": (0, 2),
    "DEPTH_TO_SPACE": (0, 2),
    "SPACE_TO_BATCH_ND": (0, 2),
    "BATCH_TO_SPACE_ND": (0, 2),
    "MAX_POOL_2D": (0, 2),
    "REDUCE_MAX": (0, 2),
    "REDUCE_MIN": (0, 2),
    "RESIZE_NEAREST_NEIGHBOR": (0, 2),
    "RELU": (0, 2),
}
# Values of several inputs are moved or chosen: all have to be on one grid.
JOINING: dict[str, int] = {"CONCATENATION": 2, "PACK": 2, "MAXIMUM": 2, "MINIMUM": 2}
# Means of values, rounded to the grid that they are on.
AVERAGING: dict[str, int] = {"AVERAGE_POOL_2D": 2, "RESIZE_BILINEAR": 2}
# From any grid to any other.
UNARY: dict[str, int] = {
    "RELU6": 2,
    "RELU_N1_TO_1": 2,
    "LEAKY_RELU": 2,
    "HARD_SWISH": 1,
    "ELU": 1,
    "GELU": 1,
    "MEAN": 2,
    "SUM": 2,
}
BINARY: dict[str, int] = {"ADD": 2, "SUB": 2, "MUL": 2, "SQUARED_DIFFERENCE": 2}


def _grid(scale: float, zero: int) -> Grid:
    return Grid(np.array([scale], np.float32), np.array([zero], np.int64), "int8")


# The kernel knows one grid for its result: the version, and that grid.
FIXED: dict[str, tuple[int, Grid]] = {
    "SOFTMAX": (2, _grid(1 / 256, -128)),
    "LOGISTIC": (2, _grid(1 / 256, -128)),
    "TANH": (2, _grid(1 / 128, 0)),
}


@dataclass(frozen=True)
class Layer:
    """Places of the data, the weights and the bias among the inputs; axis: of the weights' channels of results."""

    data: int
    weights: int
    bias: int
    axis: int
    version: int
    per_channel_version: int


LAYERS: dict[str, Layer] = {
    "CONV_2D": Layer(0, 1, 2, 0, 3, 3),
    "DEPTHWISE_CONV_2D": Layer(0, 1, 2, 3, 3, 3),
    "FULLY_CONNECTED": Layer(0, 1, 2, 0, 4, 12),
    "TRANSPOSE_CONV": Layer(2, 1, 3, 0, 2, 2),
}
