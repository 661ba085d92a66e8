"""Operators on quantized tensors.

Those of onnxruntime compute what the float operator computes of the dequantized tensors. Products of matrices and convolutions
are computed of whole numbers held in floats and scaled after that: onnxruntime's int32 sums become float32 there too. Where
the sums themselves are the result, they are exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F  # noqa: N812

from converter.onnx_to_torch.core.registry import Call, find, operator
from converter.onnx_to_torch.core.values import Value
from converter.onnx_to_torch.operators.casts import as_dtype, as_scalar
from converter.onnx_to_torch.operators.quantization import dequantized, dynamically_quantized, quantized, shifted

__all__: list[str] = []

_MICROSOFT = "com.microsoft"
# float32 has all whole numbers up to here, whatever the order they are summed in.
_EXACT = 2**24
_LARGEST = 255


def _float(call: Call, position: int) -> torch.Tensor:
    """The tensor there, its scale and its zero point behind it, dequantized."""
    scale, zero = call.tensor(position + 1), call.optional(position + 2)
    return dequantized(call.tensor(position), as_scalar(scale), None if zero is None else as_scalar(zero))


def _result(call: Call, x: torch.Tensor, position: int, like: int = 0) -> torch.Tensor:
    """Quantized by the scale and the zero point from there on; of another input's type where there is no zero point."""
    zero = call.optional(position + 1)
    zero = call.tensor(like).new_zeros(()) if zero is None else as_scalar(zero)
    number = onnx.TensorProto.INT8 if zero.dtype == torch.int8 else onnx.TensorProto.UINT8
    return quantized(x, as_scalar(call.tensor(position)), zero, number)


def _run(call: Call, name: str, inputs: list[Value], opset: int) -> Any:
    """What the standard operator computes with this node's attributes."""
    handler = find("", name)
    assert handler is not None
    return handler(Call(call.frame, call.node, inputs, opset))


@operator("QLinearAdd", domain=_MICROSOFT)
def _add(call: Call) -> torch.Tensor:
    """onnxruntime rounds the sum with the zero point in it: halves come out otherwise than without."""
    (a, b), out, zero = (
        (as_dtype(call.tensor(position), torch.float32) for position in (0, 3)),
        call.tensor(6),
        call.optional(7),
    )
    ratios = [as_scalar(call.tensor(position)) / as_scalar(out) for position in (1, 4)]
    shift = torch.zeros(()) if zero is None else as_scalar(zero).to(torch.float32)
    for ratio, position in zip(ratios, (2, 5), strict=True):
        if call.has(position):
            shift = shift - ratio * as_scalar(call.tensor(position))
    dtype = call.tensor(0).dtype
    steps = torch.round(a * ratios[0] + (b * ratios[1] + shift))
    return steps.clamp(torch.iinfo(dtype).min, torch.iinfo(dtype).max).to(dtype)


@operator("QLinearMul", domain=_MICROSOFT)
def _mul(call: Call) -> torch.Tensor:
    return _result(call, _float(call, 0) * _float(call, 3), 6)


@operator("QLinearSigmoid", domain=_MICROSOFT)
def _sigmoid(call: Call) -> torch.Tensor:
    return _result(call, torch.sigmoid(_float(call, 0)), 3)


@operator("QLinearLeakyRelu", domain=_MICROSOFT)
def _leaky_relu(call: Call) -> torch.Tensor:
    return _result(call, F.leaky_relu(_float(call, 0), call.attribute("alpha", 0.01)), 3)


@operator("QLinearSoftmax", domain=_MICROSOFT)
def _softmax(call: Call) -> torch.Tensor:
    return _result(call, _run(call, "Softmax", [_float(call, 0)], call.attribute("opset", 13)), 3)


@operator("QLinearWhere", domain=_MICROSOFT)
def _where(call: Call) -> torch.Tensor:
    return _result(call, torch.where(call.tensor(0), _float(call, 1), _float(call, 4)), 7, like=1)


@operator("QLinearReduceMean", domain=_MICROSOFT)
def _reduce_mean(call: Call) -> torch.Tensor:
    return _result(call, _run(call, "ReduceMean", [_float(call, 0)], 13), 3)


@operator("QLinearConcat", domain=_MICROSOFT)
def _concat(call: Call) -> torch.Tensor:
    parts = [_float(call, position) for position in range(2, len(call), 3)]
    return _result(call, torch.cat(parts, call.attribute("axis", 0)), 0, like=2)


@operator("QLinearGlobalAveragePool", domain=_MICROSOFT)
def _global_average_pool(call: Call) -> torch.Tensor:
    x = _float(call, 0)
    axes = list(range(1, x.dim() - 1) if call.attribute("channels_last", 0) else range(2, x.dim()))
    return _result(call, x.mean(axes, keepdim=True), 3)


@operator("QLinearAveragePool", domain=_MICROSOFT)
def _average_pool(call: Call) -> torch.Tensor:
    last = call.attribute("channels_last", 0)
    x = _float(call, 0)
    pooled = _run(call, "AveragePool", [x.movedim(-1, 1) if last else x], 11)
    return _result(call, pooled.movedim(1, -1) if last else pooled, 3)


@operator("QLinearConv")
@operator("QLinearConv", domain=_MICROSOFT)
def _conv(call: Call) -> torch.Tensor:
    x = shifted(call.tensor(0), as_scalar(call.tensor(2)))
    last = call.attribute("channels_last", 0)
    x = x.movedim(-1, 1) if last else x
    bias = call.optional(8)
    filters = shifted(call.tensor(3), _of_outputs(call.tensor(5), call.tensor(3)))
    sums = _run(call, "Conv", [x, filters, None if bias is None else as_dtype(bias, torch.float32)], 11)
    scales = call.tensor(4).reshape(-1) * as_scalar(call.tensor(1)) / as_scalar(call.tensor(6))
    scales = scales.reshape([1, -1, *[1] * (x.dim() - 2)]) if call.tensor(4).numel() > 1 else as_scalar(scales)
    result = _requantized(call, sums * scales, call.tensor(7))
    return result.movedim(1, -1) if last else result


def _of_outputs(part: torch.Tensor, filters: torch.Tensor) -> torch.Tensor:
    """One number for all filters, or one for each."""
    return as_scalar(part) if part.numel() == 1 else part.reshape([-1, *[1] * (filters.dim() - 1)])


def _requantized(call: Call, steps: torch.Tensor, zero: torch.Tensor) -> torch.Tensor:
    number = onnx.TensorProto.INT8 if zero.dtype == torch.int8 else onnx.TensorProto.UINT8
    return quantized(steps, None, as_scalar(zero) if zero.numel() == 1 else zero, number)


@operator("QLinearMatMul")
def _qlinear_matmul(call: Call) -> torch.Tensor:
    a = shifted(call.tensor(0), _of_rows(call.tensor(2)))
    b = shifted(call.tensor(3), _of_columns(call.tensor(5)))
    scales = _of_rows(as_dtype(call.tensor(1), torch.float32)) * _of_columns(as_dtype(call.tensor(4), torch.float32))
    scales = scales / _of_rows(as_dtype(call.tensor(6), torch.float32))
    return _requantized(call, torch.matmul(a, b) * scales, _of_rows(call.tensor(7)))


@operator("QGemm", domain=_MICROSOFT)
def _qgemm(call: Call) -> torch.Tensor:
    """y_scale may be left out: then the result is float32. Where B's scales are many, they are for its columns."""
    a, b = shifted(call.tensor(0), as_scalar(call.tensor(2))), call.tensor(3)
    b = b.t() if call.attribute("transB", 0) else b
    b = shifted(b, _of_columns(call.tensor(5)))
    sums = (a.t() if call.attribute("transA", 0) else a).matmul(b)
    bias = call.optional(6)
    if bias is not None:
        sums = sums + as_dtype(bias, torch.float32)
    scales = _of_columns(call.tensor(4)) * as_scalar(call.tensor(1)) * call.attribute("alpha", 1.0)
    if not call.has(7):
        return sums * scales
    return _requantized(call, sums * (scales / as_scalar(call.tensor(7))), call.tensor(8))


def _of_rows(part: torch.Tensor) -> torch.Tensor:
    """A zero point or scale of the first matrix: one for all or one for each row."""
    if part.dim() > 1:
        return part
    return as_scalar(part) if part.numel() == 1 else part.unsqueeze(-1)


def _of_columns(part: torch.Tensor) -> torch.Tensor:
    return as_scalar(part) if part.dim() < 2 and part.numel() == 1 else part


@operator("MatMulInteger")
def _matmul_integer(call: Call) -> torch.Tensor:
    return _exact_product(call, 0, 1, call.optional(2), call.optional(3))


def _exact_product(
    call: Call, first: int, second: int, zero: torch.Tensor | None, zeros: torch.Tensor | None
) -> torch.Tensor:
    """The product as int32, in as many pieces as float32 has all the sums of; by integers where B is not known."""
    a = shifted(call.tensor(first), None if zero is None else _of_rows(zero))
    b = shifted(call.tensor(second), None if zeros is None else _of_columns(zeros))
    known, known_zero = call.known(second), call.known(3)
    if known is None or known.ndim != 2 or (zeros is not None and known_zero is None):
        return torch.matmul(a.to(torch.int32), b.to(torch.int32))
    sizes = np.abs(known.astype(np.int64) - (0 if zeros is None or known_zero is None else known_zero.astype(np.int64)))
    starts, total = [0], np.zeros(sizes.shape[1], np.int64)
    for row, line in enumerate(sizes):
        total = total + line * _LARGEST
        if total.max(initial=0) > _EXACT:
            starts.append(row)
            total = line * _LARGEST
    ends = [*starts[1:], sizes.shape[0]]
    pieces = [
        torch.matmul(a[..., start:end] if len(starts) > 1 else a, b[start:end] if len(starts) > 1 else b).to(
            torch.int32
        )
        for start, end in zip(starts, ends, strict=True)
    ]
    return pieces[0] if len(pieces) == 1 else sum(pieces[1:], pieces[0])


@operator("ConvInteger")
def _conv_integer(call: Call) -> torch.Tensor:
    """In float32 where its sums are exact there, else in float64."""
    zero, zeros = call.optional(2), call.optional(3)
    x = shifted(call.tensor(0), None if zero is None else as_scalar(zero))
    filters = shifted(call.tensor(1), None if zeros is None else _of_outputs(zeros, call.tensor(1)))
    known = call.known(1)
    if known is not None and (not call.has(3) or call.known(3) is not None):
        shift = np.zeros(1, np.int64) if not call.has(3) else call.known(3).astype(np.int64).reshape(-1)  # type: ignore[union-attr]
        sizes = np.abs(known.astype(np.int64).reshape(known.shape[0], -1) - shift[:, None]).sum(1)
        bound = sizes.max(initial=0) * _LARGEST
    else:
        shape = call.tensor(1).shape
        bound = np.prod([int(size) for size in shape[1:]]) * _LARGEST**2
    if bound > _EXACT:
        x, filters = x.to(torch.float64), filters.to(torch.float64)
    return torch.round(_run(call, "Conv", [x, filters, None], 11)).to(torch.int32)


@operator("MatMulIntegerToFloat", domain=_MICROSOFT)
def _matmul_integer_to_float(call: Call) -> torch.Tensor:
    """A, B, their scales, their zero points, a bias."""
    zero, zeros, bias = call.optional(4), call.optional(5), call.optional(6)
    a = shifted(call.tensor(0), None if zero is None else _of_rows(zero))
    b = shifted(call.tensor(1), None if zeros is None else _of_columns(zeros))
    result = torch.matmul(a, b) * (_of_rows(call.tensor(2)) * _of_columns(call.tensor(3)))
    return result if bias is None else result + bias


@operator("DynamicQuantizeMatMul", domain=_MICROSOFT)
def _dynamic_quantize_matmul(call: Call) -> torch.Tensor:
    """A is float and quantized first. B, its scale, its zero point, a bias."""
    a, scale, zero = dynamically_quantized(call.tensor(0))
    zeros, bias = call.optional(3), call.optional(4)
    b = shifted(call.tensor(1), None if zeros is None else _of_columns(zeros))
    result = torch.matmul(shifted(a, zero), b) * (scale * _of_columns(call.tensor(2)))
    return result if bias is None else result + bias


@operator("MatMulNBits", domain=_MICROSOFT)
def _matmul_nbits(call: Call) -> torch.Tensor:
    """A times the transpose of B (N, K), of which each block along K has a scale and a zero point, packed into bytes."""
    packed, scales, zeros = call.known(1), call.known(2), call.known(3)
    if packed is None or scales is None or (call.has(3) and zeros is None):
        raise call.refusal("needs weights that are constants, which these are not")
    n, k, bits, block = (
        call.attribute("N"),
        call.attribute("K"),
        call.attribute("bits", 4),
        call.attribute("block_size"),
    )
    if call.has(4):
        raise call.refusal("has weights in groups of its own order (g_idx), which is not done")
    blocks = -(-k // block)

    def unpacked() -> np.ndarray:
        values = _unpacked(packed.reshape(n, blocks, -1), bits)[..., :block].astype(np.float32)
        shift: Any = float(1 << (bits - 1))
        if zeros is not None and zeros.dtype == np.uint8:
            shift = _unpacked(zeros.reshape(n, -1), bits)[:, :blocks, None].astype(np.float32)
        elif zeros is not None:
            shift = zeros.reshape(n, blocks, 1).astype(np.float32)
        weight = (values - shift) * scales.reshape(n, blocks, 1).astype(np.float32)
        return weight.reshape(n, blocks * block)[:, :k].astype(scales.dtype)

    return F.linear(call.tensor(0), call.derived("weight", unpacked), call.optional(5))


def _unpacked(packed: np.ndarray, bits: int) -> np.ndarray:
    """Along the last axis, the lowest bits first."""
    every = np.unpackbits(packed.astype(np.uint8), axis=-1, bitorder="little")
    every = every[..., : every.shape[-1] // bits * bits].reshape(*packed.shape[:-1], -1, bits)
    return (every << np.arange(bits, dtype=np.uint8)).sum(-1).astype(np.uint8)
