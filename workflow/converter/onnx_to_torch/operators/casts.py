"""Casts, and the same bits as another type."""

from __future__ import annotations

import onnx
import torch

from converter.onnx_to_torch.core.registry import Call, operator
from converter.onnx_to_torch.core.values import Known, torch_dtype

__all__ = ["FEW_BITS", "FLOAT8", "as_dtype", "as_scalar", "converted", "element_type"]

# Bits, and whether they are signed.
FEW_BITS: dict[int, tuple[int, bool]] = {
    onnx.TensorProto.INT4: (4, True),
    onnx.TensorProto.UINT4: (4, False),
    onnx.TensorProto.INT2: (2, True),
    onnx.TensorProto.UINT2: (2, False),
}
FLOAT8 = (torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz)
_NARROW = (*FLOAT8, torch.float8_e8m0fnu)


def element_type(call: Call, position: int) -> int:
    """ONNX's number of that input's element type; integers of few bits count as such in constants and in the model's inputs."""
    value = call.inputs[position]
    if isinstance(value, Known):
        return onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
    declared = call.frame.declared_type(call.node.input[position])
    if declared:
        return declared
    dtype = call.tensor(position).dtype
    return next(number for number in onnx.TensorProto.DataType.values() if torch_dtype(number) == dtype)


def as_dtype(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """x.to(dtype), which torch.export writes down even where it changes nothing."""
    return x if x.dtype == dtype else x.to(dtype)


def as_scalar(x: torch.Tensor) -> torch.Tensor:
    """A tensor of one element, without axes."""
    return x.reshape(()) if x.dim() else x


@operator("Cast")
def _cast(call: Call) -> torch.Tensor:
    return converted(call, call.tensor(0), call.attribute("to"))


@operator("CastLike")
def _cast_like(call: Call) -> torch.Tensor:
    return converted(call, call.tensor(0), element_type(call, 1))


@operator("BitCast")
def _bit_cast(call: Call) -> torch.Tensor:
    to, x = call.attribute("to"), call.tensor(0)
    dtype = torch_dtype(to)
    if dtype is None or to in FEW_BITS:
        raise call.refusal("gives a type that torch has no tensors of")
    # torch (2.13) takes no tensor without axes there where a size could change, and no truth values.
    if dtype == torch.bool:
        return x.view(torch.uint8) != 0
    return (x.to(torch.uint8) if x.dtype == torch.bool else x).view(dtype)


def converted(call: Call, x: torch.Tensor, to: int) -> torch.Tensor:
    """The tensor as the type of ONNX's number."""
    dtype = torch_dtype(to)
    if dtype is None:
        raise call.refusal(f"casts to {onnx.TensorProto.DataType.Name(to)}, which torch has no tensors of")
    if to in FEW_BITS:
        return _as_few_bits(x, *FEW_BITS[to]).to(dtype)
    if dtype == torch.float8_e8m0fnu:
        return _as_exponents(x, call)
    if dtype in FLOAT8:
        return _as_float8(x, dtype, bool(call.attribute("saturate", 1)))
    return x if x.dtype == dtype else (x.to(torch.float32) if x.dtype in _NARROW else x).to(dtype)


def _as_few_bits(x: torch.Tensor, bits: int, signed: bool) -> torch.Tensor:
    """The last bits, as onnxruntime takes them; floats are rounded first, halves away from zero."""
    if x.is_floating_point():
        x = x.to(torch.float32)
        whole = torch.trunc(x)
        x = whole + torch.where((x - whole).abs() >= 0.5, torch.sign(x), torch.zeros_like(x))
    x = x.to(torch.int32)
    half = 1 << (bits - 1) if signed else 0
    return torch.bitwise_and(x + half, (1 << bits) - 1) - half


def _as_float8(x: torch.Tensor, dtype: torch.dtype, saturate: bool) -> torch.Tensor:
    """Saturating, infinities become the largest number; otherwise what is out of range is an infinity, or NaN."""
    if saturate:
        largest = torch.finfo(dtype).max
        x = (x if x.dtype in (torch.float32, torch.float64) else x.to(torch.float32)).clamp(-largest, largest)
    elif dtype == torch.float8_e4m3fn:
        # torch (2.13) saturates here. Up to the middle between 448 and the next number, 448 is the nearest.
        x = x.to(torch.float32)
        x = torch.where(x.abs() > 464, torch.full_like(x, torch.nan), x)
    return x.to(torch.float32).to(dtype)


def _as_exponents(x: torch.Tensor, call: Call) -> torch.Tensor:
    """Powers of two: the exponent's bits of float32, rounded as `round_mode` says; negative numbers and 0 are the least."""
    mode = call.attribute("round_mode", "up")
    x = x.to(torch.float32)
    bits = x.view(torch.int32)
    exponent, rest = torch.bitwise_right_shift(bits, 23), torch.bitwise_and(bits, 0x7FFFFF)
    if mode == "up":
        exponent = exponent + (rest > 0).to(torch.int32)
    elif mode == "nearest":
        exponent = exponent + (rest >= 0x400000).to(torch.int32)
    highest = 254 if call.attribute("saturate", 1) else 255
    exponent = torch.where(x > 0, exponent.clamp(0, highest), torch.zeros_like(exponent))
    exponent = torch.where(torch.isnan(x), torch.full_like(exponent, 255), exponent)
    return exponent.to(torch.uint8).view(torch.float8_e8m0fnu)
