"""Fourier transforms, windows, and the filters of mel spectrograms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import torch

from converter.onnx_to_torch.core.registry import Call, operator
from converter.onnx_to_torch.core.values import Known, to_torch, torch_dtype

__all__: list[str] = []

# Up to there as a product with a matrix, which every format has.
_LONGEST_MATRIX = 2048


@operator("DFT")
def _dft(call: Call) -> torch.Tensor:
    x = call.tensor(0)
    axis = call.attribute("axis", 1) if call.opset < 20 else call.int(2) if call.has(2) else -2
    if not isinstance(axis, int):
        raise call.refusal("needs an axis that is known before the model runs")
    axis %= x.dim()
    inverse, onesided = bool(call.attribute("inverse", 0)), bool(call.attribute("onesided", 0))
    length = call.int(1)
    if length is None:
        length = 2 * (x.shape[axis] - 1) if inverse and onesided else x.shape[axis]
    if inverse and onesided and isinstance(x.shape[axis], int) and x.shape[axis] > length // 2 + 1:
        # onnxruntime (1.32) does not leave these out.
        raise call.refusal("has more frequencies than a signal of its size has")
    return torch.movedim(_transformed(torch.movedim(x, axis, -2), length, inverse, onesided), -2, axis)


def _transformed(x: torch.Tensor, length: Any, inverse: bool, onesided: bool) -> torch.Tensor:
    """x (..., time, 1 or 2), real or with its imaginary part; with that again, but of inverse and onesided."""
    taken = length // 2 + 1 if inverse and onesided else length
    x = _fitted(x, taken)
    real, imaginary = x[..., 0], x[..., 1] if x.shape[-1] == 2 else None
    if not isinstance(length, int) or length > _LONGEST_MATRIX:
        return _by_fft(real, imaginary, length, inverse, onesided)
    rows = np.arange(taken)[:, None]
    columns = np.arange(length // 2 + 1 if onesided and not inverse else length)
    # Whole turns are left out before the angle loses digits.
    angles = 2 * np.pi / length * (rows * columns % length) * (1 if inverse else -1)
    factors = np.full((taken, 1), 1 / length if inverse else 1.0)
    if inverse and onesided:
        # The half that is left out is the conjugate of the other, but of the ends.
        twice = (rows > 0) & (rows * 2 != length)
        factors = np.where(twice, 2 / length, 1 / length)
    cosines, sines = (
        to_torch(part.astype(np.float64)).to(x.dtype) for part in (np.cos(angles) * factors, np.sin(angles) * factors)
    )
    first, second = torch.matmul(real, cosines), torch.matmul(real, sines)
    if imaginary is not None:
        first = first - torch.matmul(imaginary, sines)
    if inverse and onesided:
        return first[..., None]
    if imaginary is not None:
        second = second + torch.matmul(imaginary, cosines)
    return torch.stack([first, second], -1)


def _by_fft(
    real: torch.Tensor, imaginary: torch.Tensor | None, length: Any, inverse: bool, onesided: bool
) -> torch.Tensor:
    if imaginary is None and onesided and not inverse:
        return torch.view_as_real(torch.fft.rfft(real))
    signal = torch.complex(real, torch.zeros_like(real) if imaginary is None else imaginary)
    if inverse and onesided:
        return torch.fft.irfft(signal, n=length)[..., None]
    result = torch.view_as_real(torch.fft.ifft(signal) if inverse else torch.fft.fft(signal))
    return result[..., : length // 2 + 1, :] if onesided else result


def _fitted(x: torch.Tensor, length: Any) -> torch.Tensor:
    """Of that length along the last axis but one: cut off, or filled with zeros."""
    if isinstance(length, int) and isinstance(x.shape[-2], int) and length == x.shape[-2]:
        return x
    if x.shape[-2] is length:
        return x
    return torch.nn.functional.pad(x, [0, 0, 0, length - x.shape[-2]])


@operator("STFT")
def _stft(call: Call) -> torch.Tensor:
    x, step, window = call.tensor(0), call.int(1), call.optional(2)
    length = call.int(3) if call.has(3) else None
    length = window.shape[0] if length is None and window is not None else length
    if not isinstance(step, int) or not isinstance(length, int):
        raise call.refusal("needs a step and a size of frames that are known before the model runs")
    if x.dim() == 2:
        x = x[..., None]
    frames = x.unfold(1, length, step).movedim(2, 3)
    if window is not None:
        frames = frames * window[:, None]
    return _transformed(frames, length, False, bool(call.attribute("onesided", 1)))


@operator("HannWindow", "HammingWindow", "BlackmanWindow")
def _window(call: Call) -> torch.Tensor:
    size = call.int(0)
    first, second, third = {
        "HannWindow": (0.5, 0.5, 0.0),
        "HammingWindow": (25 / 46, 21 / 46, 0.0),
        "BlackmanWindow": (0.42, 0.5, 0.08),
    }[call.node.op_type]
    steps = size if call.attribute("periodic", 1) else size - 1
    angles = torch.arange(size, dtype=torch.float64) * (2 * math.pi / steps)
    values = first - second * torch.cos(angles) + third * torch.cos(2 * angles)
    return values.to(torch_dtype(call.attribute("output_datatype", 1)))


@operator("MelWeightMatrix")
def _mel_weight_matrix(call: Call) -> Known:
    """(frequencies, mel bands): triangles over the frequencies of each band."""
    given = [call.known(position) for position in range(5)]
    known = [number for number in given if number is not None]
    if len(known) < len(given):
        raise call.refusal("needs inputs that are known before the model runs")
    bands, length, rate = (int(number.reshape(-1)[0]) for number in known[:3])
    low, high = (2595 * np.log10(1 + float(number.reshape(-1)[0]) / 700) for number in known[3:])
    mels = np.arange(bands + 2) * ((high - low) / (bands + 2)) + low
    edges = ((length + 1) * (700 * (10 ** (mels / 2595) - 1)) // rate).astype(int)
    matrix = np.zeros((length // 2 + 1, bands))
    for band, (left, centre, right) in enumerate(zip(edges[:-2], edges[1:-1], edges[2:], strict=True)):
        if left == centre:
            matrix[centre, band] = 1
        else:
            up = np.arange(left, centre + 1)
            matrix[up, band] = (up - left) / (centre - left)
        if right > centre:
            down = np.arange(centre, right)
            matrix[down, band] = (right - down) / (right - centre)
    return call.constant(matrix.astype(onnx.helper.tensor_dtype_to_np_dtype(call.attribute("output_datatype", 1))))
