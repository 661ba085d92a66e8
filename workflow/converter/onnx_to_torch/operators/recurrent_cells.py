"""One step of the cells of LSTM, GRU and RNN, with every option of ONNX."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

from converter.onnx_to_torch.core.registry import Call

__all__ = ["Activation", "activations", "bounds", "lstm_step", "step"]

Activation = Callable[[torch.Tensor], torch.Tensor]

# With alpha and beta as onnxruntime has them where the operator does not give them; None where there is none.
_ACTIVATIONS: dict[str, tuple[float | None, float | None, Callable[..., torch.Tensor]]] = {
    "sigmoid": (None, None, lambda x, a, b: torch.sigmoid(x)),
    "tanh": (None, None, lambda x, a, b: torch.tanh(x)),
    "relu": (None, None, lambda x, a, b: torch.relu(x)),
    "softsign": (None, None, lambda x, a, b: functional.softsign(x)),
    "softplus": (None, None, lambda x, a, b: functional.softplus(x)),
    "affine": (0.0, 0.0, lambda x, a, b: a * x + b),
    "leakyrelu": (0.01, None, lambda x, a, b: functional.leaky_relu(x, a)),
    "thresholdedrelu": (0.0, None, lambda x, a, b: torch.where(x > a, x, 0)),
    "scaledtanh": (0.0, 0.0, lambda x, a, b: a * torch.tanh(b * x)),
    "hardsigmoid": (0.2, 0.5, lambda x, a, b: (a * x + b).clamp(0, 1)),
    "elu": (1.0, None, lambda x, a, b: functional.elu(x, a)),
}


def activations(call: Call, default: Sequence[str], directions: int) -> list[Activation]:
    """Of all directions. Each takes its parameters from the operator's lists in turn, if it has any."""
    alphas, betas = iter(call.attribute("activation_alpha") or ()), iter(call.attribute("activation_beta") or ())
    found = []
    for name in call.attribute("activations") or list(default) * directions:
        entry = _ACTIVATIONS.get(name.lower())
        if entry is None:
            raise call.refusal(f"has the activation {name}, which is unknown")
        alpha, beta, function = entry
        alpha = alpha if alpha is None else next(alphas, alpha)
        beta = beta if beta is None else next(betas, beta)
        found.append(_bound(function, alpha, beta))
    return found


def _bound(function: Callable[..., torch.Tensor], alpha: float | None, beta: float | None) -> Activation:
    return lambda x: function(x, alpha, beta)


def step(
    call: Call,
    kind: str,
    inputs: torch.Tensor,
    states: list[torch.Tensor],
    recurrent: Sequence[torch.Tensor],
    bias: Sequence[torch.Tensor],
    functions: list[Activation],
    peepholes: Sequence[torch.Tensor] | None,
) -> list[torch.Tensor]:
    """The next states (N, H). inputs: (N, gates * H), with their bias; recurrent, bias: of each gate."""
    bounded = bounds(call)
    parts, hidden = inputs.chunk(len(recurrent), -1), states[0]
    if kind == "GRU":
        return [_gru(call, parts, hidden, recurrent, bias, functions, bounded)]
    sums = [
        part + torch.matmul(hidden, weight.T) + own for part, weight, own in zip(parts, recurrent, bias, strict=True)
    ]
    if kind == "RNN":
        return [functions[0](bounded(sums[0]))]
    return lstm_step(call, sums, states[1], functions, bounded, peepholes)


def bounds(call: Call) -> Activation:
    """What keeps values within the operator's `clip`."""
    clip = call.attribute("clip")
    return (lambda x: x) if clip is None else (lambda x: x.clamp(-clip, clip))


def lstm_step(
    call: Call,
    sums: Sequence[torch.Tensor],
    cell: torch.Tensor,
    functions: list[Activation],
    bounded: Activation,
    peepholes: Sequence[torch.Tensor] | None,
) -> list[torch.Tensor]:
    """Hidden state and cell (N, H) after the step. sums: of inputs, states and bias, of each gate."""
    gate, candidate, output = functions
    inward, outward, forget, new = sums
    if peepholes is not None:
        inward, forget = inward + peepholes[0] * cell, forget + peepholes[2] * cell
    inward = gate(bounded(inward))
    forget = 1 - inward if call.attribute("input_forget", 0) else gate(bounded(forget))
    cell = forget * cell + inward * candidate(bounded(new))
    if peepholes is not None:
        outward = outward + peepholes[1] * cell
    return [gate(bounded(outward)) * output(cell), cell]


def _gru(
    call: Call,
    parts: Sequence[torch.Tensor],
    hidden: torch.Tensor,
    recurrent: Sequence[torch.Tensor],
    bias: Sequence[torch.Tensor],
    functions: list[Activation],
    bounded: Activation,
) -> torch.Tensor:
    gate, candidate = functions
    update, reset = (
        gate(bounded(part + torch.matmul(hidden, weight.T) + own))
        for part, weight, own in zip(parts[:2], recurrent[:2], bias[:2], strict=True)
    )
    if call.attribute("linear_before_reset", 0):
        new = parts[2] + reset * (torch.matmul(hidden, recurrent[2].T) + bias[2])
    else:
        new = parts[2] + torch.matmul(reset * hidden, recurrent[2].T) + bias[2]
    return (1 - update) * candidate(bounded(new)) + update * hidden
