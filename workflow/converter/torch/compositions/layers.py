"""Layers in forms that Keras's own do not have."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from converter.torch.compositions.table import composes

aten = torch.ops.aten


@composes(aten.rms_norm.default, when=lambda node: len(node.args[1]) != 1)  # pyright: ignore[reportArgumentType]
def rms_norm(
    x: torch.Tensor, shape: Sequence[int], weight: torch.Tensor | None = None, eps: float | None = None
) -> torch.Tensor:
    """Over several axes, by the mean of squares."""
    if len(shape) == 1:
        return NotImplemented
    squares = (x * x).mean(list(range(-len(shape), 0)), keepdim=True)
    result = x * torch.rsqrt(squares + (torch.finfo(x.dtype).eps if eps is None else eps))
    return result if weight is None else result * weight


def _is_projected(node: torch.fx.Node) -> bool:
    hidden, cell = (state.meta["val"].shape[-1] for state in node.args[1])  # type: ignore[union-attr]
    return hidden != cell


@composes(aten.lstm.input, when=_is_projected)
def projected_lstm(
    x: torch.Tensor,
    states: Sequence[torch.Tensor],
    parameters: Sequence[torch.Tensor],
    biases: bool,
    count: int,
    dropout: float,
    train: bool,
    both_ways: bool,
    batch_first: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """An LSTM whose hidden state is projected (proj_size), step by step: the number of steps must be known."""
    steps = x.shape[1 if batch_first else 0]
    if states[0].shape[-1] == states[1].shape[-1] or x.dim() != 3 or not isinstance(steps, int):
        return NotImplemented
    sequence = list((x.transpose(0, 1) if batch_first else x).unbind(0))
    each = 5 if biases else 3
    groups = [parameters[at : at + each] for at in range(0, len(parameters), each)]
    finals = []
    for layer in range(count):
        results = []
        for direction in range(1 + both_ways):
            index = layer * (1 + both_ways) + direction
            ahead = sequence if direction == 0 else sequence[::-1]
            outputs, hidden, cell = _steps(ahead, states[0][index], states[1][index], groups[index], biases)
            results.append(outputs if direction == 0 else outputs[::-1])
            finals.append((hidden, cell))
        sequence = [torch.cat(parts, -1) for parts in zip(*results, strict=True)]
    output = torch.stack(sequence, 1 if batch_first else 0)
    return output, torch.stack([hidden for hidden, _ in finals]), torch.stack([cell for _, cell in finals])


def _steps(
    sequence: list[torch.Tensor], hidden: torch.Tensor, cell: torch.Tensor, group: Sequence[torch.Tensor], biases: bool
) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """As torch.nn.LSTM documents it; the gates follow each other as input, forget, cell, output."""
    of_input, of_hidden, *bias, projection = group
    bias_input, bias_hidden = bias if biases else (None, None)
    outputs = []
    for step in sequence:
        gates = torch.nn.functional.linear(step, of_input, bias_input) + torch.nn.functional.linear(
            hidden, of_hidden, bias_hidden
        )
        enter, forget, new, leave = gates.chunk(4, -1)
        cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
        hidden = torch.nn.functional.linear(leave.sigmoid() * cell.tanh(), projection)
        outputs.append(hidden)
    return outputs, hidden, cell


@composes(aten.var_mean.correction)
def var_mean(
    x: torch.Tensor, dim: Sequence[int] | None = None, *, correction: float | None = None, keepdim: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Variance and mean."""
    dims = list(range(x.dim())) if dim is None else list(dim)
    return torch.var(x, dims, correction=1 if correction is None else correction, keepdim=keepdim), x.mean(
        dims, keepdim
    )


@composes(aten.addmv.default)
def addmv(
    x: torch.Tensor, matrix: torch.Tensor, vector: torch.Tensor, *, beta: float = 1, alpha: float = 1
) -> torch.Tensor:
    """beta x + alpha matrix vector."""
    product = (matrix * vector).sum(-1) * alpha
    return product if beta == 0 else x * beta + product


@composes(aten.addbmm.default)
def addbmm(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *, beta: float = 1, alpha: float = 1) -> torch.Tensor:
    """beta x + alpha times the sum over the batch of a b."""
    product = (a @ b).sum(0) * alpha
    return product if beta == 0 else x * beta + product
