"""What names of an ONNX graph stand for while it is run in torch.

A tensor is a torch.Tensor. What is known before the model runs is a `Known`: initializers, attributes, and the sizes of
tensors, which are torch.SymInt where a dimension may vary. Operators that ask for shapes, axes or repetitions get plain
numbers from there, so that the arithmetic of sizes never becomes part of the program. Sequences are lists, and None is an
optional without a value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import torch

from converter.errors import UnsupportedError

__all__ = ["TORCH_DTYPES", "Known", "Value", "to_numpy", "to_torch", "torch_dtype"]

# By ONNX's numbers. Integers of four and two bits are held in eight; their range is kept by the casts.
TORCH_DTYPES: dict[int, torch.dtype] = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.DOUBLE: torch.float64,
    onnx.TensorProto.FLOAT16: torch.float16,
    onnx.TensorProto.BFLOAT16: torch.bfloat16,
    onnx.TensorProto.INT8: torch.int8,
    onnx.TensorProto.INT16: torch.int16,
    onnx.TensorProto.INT32: torch.int32,
    onnx.TensorProto.INT64: torch.int64,
    onnx.TensorProto.UINT8: torch.uint8,
    onnx.TensorProto.UINT16: torch.uint16,
    onnx.TensorProto.UINT32: torch.uint32,
    onnx.TensorProto.UINT64: torch.uint64,
    onnx.TensorProto.BOOL: torch.bool,
    onnx.TensorProto.INT4: torch.int8,
    onnx.TensorProto.UINT4: torch.uint8,
    onnx.TensorProto.INT2: torch.int8,
    onnx.TensorProto.UINT2: torch.uint8,
    onnx.TensorProto.FLOAT8E4M3FN: torch.float8_e4m3fn,
    onnx.TensorProto.FLOAT8E4M3FNUZ: torch.float8_e4m3fnuz,
    onnx.TensorProto.FLOAT8E5M2: torch.float8_e5m2,
    onnx.TensorProto.FLOAT8E5M2FNUZ: torch.float8_e5m2fnuz,
    onnx.TensorProto.FLOAT8E8M0: torch.float8_e8m0fnu,
    onnx.TensorProto.COMPLEX64: torch.complex64,
    onnx.TensorProto.COMPLEX128: torch.complex128,
}
# numpy has these by way of ml_dtypes, and torch by another name.
_NARROW = {
    ml_dtypes.bfloat16: (np.int16, torch.bfloat16),
    ml_dtypes.float8_e4m3fn: (np.int8, torch.float8_e4m3fn),
    ml_dtypes.float8_e4m3fnuz: (np.int8, torch.float8_e4m3fnuz),
    ml_dtypes.float8_e5m2: (np.int8, torch.float8_e5m2),
    ml_dtypes.float8_e5m2fnuz: (np.int8, torch.float8_e5m2fnuz),
    ml_dtypes.float8_e8m0fnu: (np.int8, torch.float8_e8m0fnu),
}
_WIDE = {dtype: (bits, scalar) for scalar, (bits, dtype) in _NARROW.items()}
_FEW_BITS = {
    np.dtype(ml_dtypes.int4): np.int8,
    np.dtype(ml_dtypes.uint4): np.uint8,
    np.dtype(ml_dtypes.int2): np.int8,
    np.dtype(ml_dtypes.uint2): np.uint8,
}


@dataclass(frozen=True, eq=False)
class Known:
    """An array that is known before the model runs.

    array: of an ordinary dtype, or of objects: int and torch.SymInt (float, bool and their like on the way to them).
    dtype: of the ONNX tensor. constant: it is the same for all inputs; sizes are not, even where they are fixed while this
    input is looked at. name: of the tensor in the file, after which the module's parameter is called that holds it.
    """

    array: np.ndarray
    dtype: np.dtype
    constant: bool
    name: str = ""

    @property
    def symbolic(self) -> bool:
        """Whether some of it is a size that may vary."""
        return self.array.dtype == object


Value = torch.Tensor | Known | list[Any] | None


def torch_dtype(number: int) -> torch.dtype | None:
    """The dtype of an ONNX element type; None where torch has none."""
    return TORCH_DTYPES.get(number)


def to_torch(array: np.ndarray) -> torch.Tensor:
    """A tensor of the array's values, sharing its memory where that can be written.

    Raises UnsupportedError for texts and other types that torch has no tensors of.
    """
    array = np.ascontiguousarray(array) if array.ndim else array
    if array.dtype in _FEW_BITS:
        array = array.astype(_FEW_BITS[array.dtype])
    narrow = _NARROW.get(array.dtype.type)
    if narrow is not None:
        return torch.from_numpy(array.view(narrow[0]).copy()).view(narrow[1])
    try:
        return torch.from_numpy(array if array.flags.writeable else array.copy())
    except TypeError as error:
        kind = "texts" if array.dtype.kind in "OSU" else array.dtype.name
        raise UnsupportedError(f"the ONNX model computes with {kind}, which torch has no tensors of") from error


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """The tensor's values; bfloat16 and float8 as ml_dtypes has them."""
    if tensor.dtype in _WIDE:
        bits, scalar = _WIDE[tensor.dtype]
        return tensor.contiguous().view(torch.int16 if bits is np.int16 else torch.int8).numpy().view(scalar)
    return tensor.detach().cpu().numpy()
