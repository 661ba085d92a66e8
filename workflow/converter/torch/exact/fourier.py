"""Discrete Fourier transforms of pairs of reals (complex_pairs.py), as products with matrices of cosines and sines."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from converter.torch.exact.rewriting import Writer

if TYPE_CHECKING:
    from converter.torch.exact.complex_pairs import Pairs

__all__ = ["TRANSFORMS", "has_known_sizes"]

_aten = torch.ops.aten
Node = torch.fx.Node
# The matrices have as many elements as the size squared; what is longer stays as it is.
_LONGEST = 4096


def _given(node: Node) -> dict[str, Any]:
    target: Any = node.target
    schema = target._schema.arguments
    defaults = {argument.name: argument.default_value for argument in schema}
    return defaults | dict(zip(defaults, node.args, strict=False)) | dict(node.kwargs)


def _transformed_axes(node: Node) -> list[int]:
    """Of a discrete Fourier transform, counted from the front."""
    given = _given(node)
    rank = given["self"].meta["val"].dim()
    dims = range(rank) if given["dim"] is None else given["dim"]
    return [axis % rank for axis in (dims if isinstance(dims, Sequence) else [dims])]


def has_known_sizes(node: Node) -> bool:
    """Whether this transform of the table can be written: of sizes that are known, and not changed or too large."""
    given = _given(node)
    if node.target is _aten.stft.default:
        return given["n_fft"] <= _LONGEST and given["return_complex"] is True and not _is_complex(given["self"])
    shape = given["self"].meta["val"].shape
    sizes = [shape[axis] for axis in _transformed_axes(node)]
    if not all(isinstance(size, int) and size <= _LONGEST for size in sizes):
        return False
    if node.target is _aten.fft_irfft.default:
        return given["n"] is None or (isinstance(given["n"], int) and given["n"] // 2 + 1 == sizes[0])
    return given.get("n", given.get("s")) is None


def _is_complex(node: Node) -> bool:
    return node.meta["val"].is_complex()


def _transform(forwards: bool, half: bool = False) -> Callable[[Pairs], Node]:
    """half: of the last axis only the first half, which the rest follows from where the input is real."""

    def rule(pairs: Pairs) -> Node:
        given, axes = _given(pairs.node), _transformed_axes(pairs.node)
        real, imaginary = pairs.parts(given["self"])
        for axis in axes:
            real, imaginary = _along(pairs.write, real, imaginary, axis, forwards, given["norm"])
        pair = pairs.pair(real, imaginary)
        size = given["self"].meta["val"].shape[axes[-1]]
        return pairs.write(_aten.slice.Tensor, pair, axes[-1], 0, size // 2 + 1) if half else pair

    return rule


def _along(
    write: Writer, real: Node, imaginary: Node | None, axis: int, forwards: bool, norm: str | None
) -> tuple[Node, Node]:
    """One axis of either sign."""
    count = real.meta["val"].shape[axis]
    cosine, sine = _turns(write, count, count, count, _scale(count, forwards, norm), real.meta["val"].dtype)

    def product(x: Node, matrix: Node) -> Node:
        moved = write(_aten.transpose.int, x, axis, -1)
        return write(_aten.transpose.int, write(_aten.matmul.default, moved, matrix), axis, -1)

    sign = -1.0 if forwards else 1.0
    second = write(_aten.mul.Tensor, product(real, sine), sign)
    if imaginary is None:
        return product(real, cosine), second
    minus = write(_aten.mul.Tensor, product(imaginary, sine), sign)
    first = write(_aten.sub.Tensor, product(real, cosine), minus)
    return first, write(_aten.add.Tensor, second, product(imaginary, cosine))


def _scale(count: int, forwards: bool, norm: str | None) -> float:
    if norm == "ortho":
        return count**-0.5
    return 1.0 if forwards == ((norm or "backward") == "backward") else 1 / count


def _turns(write: Writer, rows: int, columns: int, count: int, scale: float, dtype: torch.dtype) -> tuple[Node, Node]:
    """Cosines and sines, (rows, columns), of row times column times a turn's `count`-th part. Whole turns are taken off
    while they are whole numbers.
    """
    down, along = (write(_aten.arange.default, size, dtype=torch.int64) for size in (rows, columns))
    turns = write(_aten.mul.Tensor, write(_aten.unsqueeze.default, down, 1), write(_aten.unsqueeze.default, along, 0))
    turns = write(_aten._to_copy.default, write(_aten.remainder.Scalar, turns, count), dtype=dtype)
    angles = write(_aten.mul.Tensor, turns, 2 * math.pi / count)
    cosine, sine = (write(_aten.mul.Tensor, write(f, angles), scale) for f in (_aten.cos.default, _aten.sin.default))
    return cosine, sine


def _real_inverse(pairs: Pairs) -> Node:
    """irfft: the half that is not given mirrors the other, so that all but the first and the middle value count twice."""
    given, (axis,) = _given(pairs.node), _transformed_axes(pairs.node)
    write, (real, imaginary) = pairs.write, pairs.parts(given["self"])
    half = real.meta["val"].shape[axis]
    count = given["n"] or 2 * (half - 1)
    cosine, sine = _turns(write, half, count, count, _scale(count, False, given["norm"]), real.meta["val"].dtype)
    steps = write(_aten.mul.Tensor, write(_aten.arange.default, half, dtype=torch.int64), 2)
    single = write(_aten.eq.Scalar, write(_aten.remainder.Scalar, steps, count), 0)
    weights = write(_aten.rsub.Scalar, write(_aten._to_copy.default, single, dtype=real.meta["val"].dtype), 2.0)
    weights = write(_aten.unsqueeze.default, weights, 1)

    def product(x: Node, matrix: Node) -> Node:
        matrix = write(_aten.mul.Tensor, matrix, weights)
        return write(_aten.matmul.default, write(_aten.transpose.int, x, axis, -1), matrix)

    result = write(_aten.sub.Tensor, product(real, cosine), product(imaginary, sine))
    return write(_aten.transpose.int, result, axis, -1)


def _short_time(pairs: Pairs) -> Node:
    """stft of a signal (N, length) that is padded already: windows of it, (N, count, n_fft), and the transform of each."""
    given, write = _given(pairs.node), pairs.write
    size = given["n_fft"]
    hop, length = given["hop_length"] or size // 4, given["win_length"] or size
    frames = write(_aten.unfold.default, given["self"], -1, size, hop)
    window = given["window"]
    if window is None:
        window = write(_aten.ones.default, [length], dtype=frames.meta["val"].dtype)
    before = (size - length) // 2
    if size != length:
        window = write(_aten.constant_pad_nd.default, window, [before, size - length - before])
    frames = write(_aten.mul.Tensor, frames, window)
    kept = size // 2 + 1 if given["onesided"] is not False else size
    scale = size**-0.5 if given["normalized"] else 1.0
    cosine, sine = _turns(write, size, kept, size, scale, frames.meta["val"].dtype)
    parts = [write(_aten.matmul.default, frames, matrix) for matrix in (cosine, write(_aten.neg.default, sine))]
    return pairs.pair(*(write(_aten.transpose.int, part, -2, -1) for part in parts))


TRANSFORMS: dict[Any, Callable[[Pairs], Node]] = {
    **dict.fromkeys((_aten.fft_fft.default, _aten.fft_fft2.default, _aten.fft_fftn.default), _transform(True)),
    **dict.fromkeys((_aten.fft_ifft.default, _aten.fft_ifft2.default, _aten.fft_ifftn.default), _transform(False)),
    **dict.fromkeys(
        (_aten.fft_rfft.default, _aten.fft_rfft2.default, _aten.fft_rfftn.default), _transform(True, half=True)
    ),
    _aten.fft_irfft.default: _real_inverse,
    _aten.stft.default: _short_time,
}
