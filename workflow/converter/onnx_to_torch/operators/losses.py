"""Losses."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812

from converter.onnx_to_torch.core.registry import Call, operator

__all__: list[str] = []


@operator("NegativeLogLikelihoodLoss")
def _negative_log_likelihood_loss(call: Call) -> torch.Tensor:
    return _loss(call, call.tensor(0))


@operator("SoftmaxCrossEntropyLoss")
def _softmax_cross_entropy_loss(call: Call) -> tuple[torch.Tensor, torch.Tensor]:
    logarithms = F.log_softmax(call.tensor(0), 1)
    return _loss(call, logarithms), logarithms


def _loss(call: Call, logarithms: torch.Tensor) -> torch.Tensor:
    """(N, C, ...) of logarithms, classes (N, ...), and a weight for each class."""
    return F.nll_loss(
        logarithms,
        call.tensor(1).to(torch.int64),
        weight=call.optional(2),
        ignore_index=call.attribute("ignore_index", -100),
        reduction=call.attribute("reduction", "mean"),
    )
