"""Scales and zero points, and the integers that stand for an array on such a grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from converter.tflite.flatbuffer import schema

__all__ = ["Grid"]

_OFFSETS = {"int8": 0, "uint8": 128}


@dataclass(frozen=True, eq=False)
class Grid:
    """The numbers `(q - zero) * scale`: scale float32 and zero int64 of shape (1,), or (n,) with one for each channel.

    dtype: int8 or uint8, what the source holds q in. Files hold int8 always: 128 less of uint8.
    """

    scale: np.ndarray
    zero: np.ndarray
    dtype: str

    @property
    def signed_zero(self) -> np.ndarray:
        """The zero point of the integers as int8."""
        return self.zero - _OFFSETS[self.dtype]

    def equals(self, other: Grid) -> bool:
        """Whether the same numbers lie on both, in the same order."""
        return np.array_equal(self.scale, other.scale) and np.array_equal(self.signed_zero, other.signed_zero)

    def parameters(self, dtype: str = "int8") -> schema.QuantizationParametersT:
        """As a tensor of a file of that type has them; of one scale."""
        found = schema.QuantizationParametersT()
        found.scale = self.scale.astype(np.float32)
        found.zeroPoint = self.signed_zero + _OFFSETS[dtype]
        return found

    def nearest(self, values: np.ndarray) -> np.ndarray:
        """int8: what QUANTIZE of one scale makes of floats."""
        steps = np.rint(values.astype(np.float64) / self.scale[0]) + self.signed_zero[0]
        return np.clip(steps, -128, 127).astype(np.int8)

    def integers(self, values: np.ndarray, axis: int, lowest: int, highest: int, *, shifted: bool) -> np.ndarray | None:
        """int8: exactly those that stand for these float32 numbers; None where they are not on the grid or out of range.

        axis: of the channels. shifted: with the zero point, else without.
        """
        if self.scale.size not in (1, values.shape[axis] if values.ndim else 1):
            return None
        shape = [-1 if place == axis % values.ndim else 1 for place in range(values.ndim)]
        scale, zero = (
            part.reshape(shape if part.size > 1 else [1] * values.ndim) for part in (self.scale, self.signed_zero)
        )
        steps = np.rint(values / scale)
        if not np.array_equal((steps * scale).astype(np.float32), values):
            return None
        steps = steps + zero if shifted else steps
        if steps.size and not (lowest <= steps.min() and steps.max() <= highest):
            return None
        return steps.astype(np.int8)
