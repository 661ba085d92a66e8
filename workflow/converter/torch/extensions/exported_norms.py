"""Batch normalization of a number of samples that is known when the model runs, as detectors have of their regions."""

from __future__ import annotations

import contextlib

import torch
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

from converter.library_patches.replacing import replaced
from converter.library_patches.torch import BATCH_NORM

__all__ = ["followable_batch_norm", "scale_and_shift"]

_original = torch.nn.functional.batch_norm


def followable_batch_norm() -> contextlib.AbstractContextManager[None]:
    """Inside, torch.export follows it: torch.batch_norm (2.13) asks whether there is any sample at all, and raises there."""
    return replaced((BATCH_NORM, _batch_norm))


def _batch_norm(
    input: torch.Tensor,  # noqa: A002 (as torch names it)
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    if training or running_mean is None or running_var is None or not free_unbacked_symbols(input):
        return _original(input, running_mean, running_var, weight, bias, training, momentum, eps)
    # Arithmetic: torch's operator for this has no gradient by the statistics, of which the proof asks what they matter.
    scale, shift = scale_and_shift(running_mean, running_var, weight, bias, eps)
    shape = (1, -1, *[1] * (input.dim() - 2))
    return input * scale.reshape(shape) + shift.reshape(shape)


def scale_and_shift(
    mean: torch.Tensor, variance: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, epsilon: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """What an inference normalization multiplies each channel with, and what it adds then."""
    scale = torch.rsqrt(variance + epsilon)
    if weight is not None:
        scale = weight * scale
    return scale, -mean * scale if bias is None else bias - mean * scale
