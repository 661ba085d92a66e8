"""Quantized tensors: integers of few bits that stand for `(q - zero point) * scale`.

Quantizing is arithmetic here: to the nearest whole number of steps (halves to even), within the integers' range. A tensor that is
quantized and dequantized again at once is written as the pair of operators that other quantized programs have: exporters
know it.
"""

from __future__ import annotations

from typing import Any

import onnx
import torch
from torch.utils.weak import WeakTensorKeyDictionary

from converter.onnx_to_torch.core.registry import Call, operator
from converter.onnx_to_torch.core.values import TORCH_DTYPES
from converter.onnx_to_torch.operators.casts import FEW_BITS, FLOAT8, as_dtype, as_scalar, converted, element_type

__all__ = ["dequantized", "quantized"]

_MICROSOFT = "com.microsoft"
# What was quantized, by the result: the tensor, and the scale, zero point and type.
_ORIGINS = WeakTensorKeyDictionary()
_PAIRED = (torch.int8, torch.uint8)


def dequantized(x: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor | None) -> torch.Tensor:
    """(x - zero) * scale in float32; scale and zero point are numbers, or fit to the tensor by broadcasting."""
    return shifted(x, zero) * as_dtype(scale, torch.float32)


def shifted(x: torch.Tensor, zero: torch.Tensor | None) -> torch.Tensor:
    """x - zero, as float32. Differences of up to 16 bits are exact there."""
    if zero is None:
        return as_dtype(x, torch.float32)
    if x.dtype in (torch.int32, torch.int64):
        return (x - zero).to(torch.float32)
    return as_dtype(x, torch.float32) - as_dtype(zero, torch.float32)


def quantized(
    x: torch.Tensor, scale: torch.Tensor | None, zero: torch.Tensor | None, number: int = onnx.TensorProto.UINT8
) -> torch.Tensor:
    """x / scale, rounded, in the range of the zero point's type (of ONNX's number, where there is no zero point)."""
    dtype = zero.dtype if zero is not None and number not in FEW_BITS else TORCH_DTYPES[number]
    steps = x if scale is None else x / scale
    steps = torch.round(steps)
    if zero is not None:
        steps = steps + as_dtype(zero, steps.dtype)
    return steps.clamp(*_range(number, dtype)).to(dtype)


def _range(number: int, dtype: torch.dtype) -> tuple[int, int]:
    if number in FEW_BITS:
        bits, signed = FEW_BITS[number]
        return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    return torch.iinfo(dtype).min, torch.iinfo(dtype).max


def _fitted(call: Call, x: torch.Tensor, part: torch.Tensor | None) -> torch.Tensor | None:
    """Scales or zero points as they broadcast: one for all, one for each index of the axis, or for each block there."""
    if part is None:
        return None
    axis, size = call.attribute("axis", 1), call.attribute("block_size", 0)
    if size and part.dim() == x.dim():
        axis %= x.dim()
        return part.repeat_interleave(size, axis).narrow(axis, 0, x.shape[axis])
    if part.numel() == 1:
        return as_scalar(part)
    axis %= x.dim()
    return part.reshape([-1 if place == axis else 1 for place in range(x.dim())])


def _computable(x: torch.Tensor) -> torch.Tensor:
    """float8 has no arithmetic."""
    return as_dtype(x, torch.float32) if x.dtype in (*FLOAT8, torch.float8_e8m0fnu) else x


@operator("QuantizeLinear")
@operator("QuantizeLinear", domain=_MICROSOFT)
def _quantize_linear(call: Call) -> torch.Tensor:
    x, scale = call.tensor(0), call.tensor(1)
    number = call.attribute("output_dtype", 0)
    if not number:
        number = element_type(call, 2) if call.has(2) else onnx.TensorProto.UINT8
    precision = TORCH_DTYPES.get(call.attribute("precision", 0), scale.dtype)
    precise = torch.float64 if precision == torch.float64 else torch.float32
    # float16 and bfloat16 are divided as float32, as onnxruntime does.
    wide, steps = as_dtype(x, precise), _fitted(call, x, as_dtype(_computable(scale), precise))
    assert steps is not None
    if TORCH_DTYPES.get(number) in FLOAT8:
        return converted(call, wide / steps, number)
    if number not in FEW_BITS and (number not in TORCH_DTYPES or TORCH_DTYPES[number].is_floating_point):
        raise call.refusal(f"quantizes to {onnx.TensorProto.DataType.Name(number)}, which torch has no tensors of")
    result = quantized(wide, steps, _fitted(call, x, call.optional(2)), number)
    known_scale, zero = _one(call, 1), _one(call, 2) if call.has(2) else 0
    if known_scale is not None and zero is not None and number not in FEW_BITS and x.dtype == torch.float32:
        _ORIGINS[result] = (x, float(known_scale), int(zero))
    return result


@operator("DequantizeLinear")
@operator("DequantizeLinear", domain=_MICROSOFT)
def _dequantize_linear(call: Call) -> torch.Tensor:
    x, scale = call.tensor(0), call.tensor(1)
    dtype = TORCH_DTYPES[call.attribute("output_dtype", 0) or element_type(call, 1)]
    origin = _ORIGINS.get(x) if x.dtype in _PAIRED and dtype == torch.float32 else None
    if origin is not None:
        source, of_source, zero_of_source = origin
        known_scale, zero = _one(call, 1), _one(call, 2) if call.has(2) else 0
        if known_scale is not None and float(known_scale) == of_source and zero == zero_of_source:
            return _by_pair(source, of_source, zero_of_source, x.dtype)
    zero_points = call.optional(2)
    steps = _fitted(call, x, as_dtype(_computable(scale), torch.float32))
    assert steps is not None
    zeros = None if zero_points is None else _fitted(call, x, _computable(zero_points))
    return as_dtype(dequantized(_computable(x), steps, zeros), dtype)


def _one(call: Call, position: int) -> Any:
    """The number there, if it is one and known before the model runs."""
    found = call.known(position)
    return found.reshape(()).item() if found is not None and found.size == 1 and found.dtype != object else None


def _by_pair(x: torch.Tensor, scale: float, zero: int, dtype: torch.dtype) -> torch.Tensor:
    from converter.torch.exact.quantized_program import define_quantized_operators

    define_quantized_operators()
    library, (low, high) = torch.ops.quantized_decomposed, _range(0, dtype)
    steps = library.quantize_per_tensor(x, scale, zero, low, high, dtype)
    return library.dequantize_per_tensor(steps, scale, zero, low, high, dtype)


@operator("DynamicQuantizeLinear")
def _dynamic_quantize_linear(call: Call) -> tuple[torch.Tensor, ...]:
    return dynamically_quantized(call.tensor(0))


def dynamically_quantized(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """As uint8 between the least and the greatest element (or 0), with the scale and the zero point."""
    low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = torch.round((-low / scale).clamp(0, 255)).to(torch.uint8)
    return quantized(x, scale, zero), scale, zero
