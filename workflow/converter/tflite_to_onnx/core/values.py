"""What a tensor of a TensorFlow Lite file stands for while its subgraph is written as ONNX."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

from converter.tflite.flatbuffer import TENSOR_DTYPES, schema

__all__ = ["DTYPES", "Quantization", "Value", "dequantized", "known_shape", "stored_bytes", "unpacked"]

# By the schema's numbers. Narrower integers than eight bits are held in eight.
DTYPES: dict[int, np.dtype] = {
    number: np.dtype(name)
    for number, name in TENSOR_DTYPES.items()
    if name.startswith(("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint", "bool"))
    and name != "uint4"
} | {
    schema.TensorType.BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    schema.TensorType.INT4: np.dtype(np.int8),
    schema.TensorType.INT2: np.dtype(np.int8),
    schema.TensorType.UINT4: np.dtype(np.uint8),
    schema.TensorType.COMPLEX64: np.dtype(np.complex64),
}
_BITS = {schema.TensorType.INT4: 4, schema.TensorType.UINT4: 4, schema.TensorType.INT2: 2}


@dataclass(frozen=True)
class Quantization:
    """real = scale * (stored - zero_point); scales and zero points for each index of `axis`, or one for all."""

    scales: np.ndarray
    zero_points: np.ndarray
    axis: int

    @property
    def per_axis(self) -> bool:
        """Whether there is more than one scale."""
        return self.scales.size > 1

    def same(self, other: Quantization | None) -> bool:
        """Whether equal numbers mean equal values."""
        return (
            other is not None
            and np.array_equal(self.scales, other.scales)
            and np.array_equal(self.zero_points, other.zero_points)
            and (not self.per_axis or self.axis == other.axis)
        )


@dataclass
class Value:
    """A tensor of one run of a subgraph.

    stored: the name in the ONNX graph of the tensor as the file has it; real: of the same in float32, where it is
    quantized. Either may be missing until something asks for it. array: a constant's stored value. variable: it keeps
    its value from one run to the next. shape: as it is known of the nodes; file_shape: as the file has it.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int | None, ...]
    quantization: Quantization | None = None
    array: np.ndarray | None = None
    stored: str | None = None
    real: str | None = None
    variable: bool = False
    file_shape: tuple[int | None, ...] = ()

    def __post_init__(self) -> None:
        self.file_shape = self.shape


def known_shape(value: Value) -> tuple[int | None, ...]:
    """The value's shape, with what the file says of free axes: that need only hold for the file's own sizes of its inputs."""
    if len(value.file_shape) != len(value.shape):
        return value.shape
    return tuple(own if own is not None else said for own, said in zip(value.shape, value.file_shape, strict=True))


def stored_bytes(kind: int, count: int) -> int:
    """How many bytes so many numbers of this type take in a file."""
    bits = _BITS.get(kind)
    return DTYPES[kind].itemsize * count if bits is None else -(-count * bits // 8)


def unpacked(kind: int, data: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A constant's bytes as an array: integers of two and four bits in eight, the lowest bits first."""
    dtype, bits = DTYPES[kind], _BITS.get(kind)
    if bits is None:
        return data.view(dtype).reshape(shape)
    count = int(np.prod(shape, dtype=np.int64))
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    numbers = ((data[:, None] >> shifts) & ((1 << bits) - 1)).reshape(-1)[:count]
    if dtype.kind == "i":
        numbers = (numbers << (8 - bits)).view(np.int8) >> (8 - bits)
    return numbers.astype(dtype).reshape(shape)


def dequantized(array: np.ndarray, quantization: Quantization) -> np.ndarray:
    """A constant's real value in float32."""
    shape = [1] * array.ndim
    if quantization.per_axis:
        shape[quantization.axis] = -1
    else:
        shape = []
    zero_points = quantization.zero_points.reshape(shape).astype(np.float64)
    scales = quantization.scales.reshape(shape).astype(np.float64)
    return ((array.astype(np.float64) - zero_points) * scales).astype(np.float32)
