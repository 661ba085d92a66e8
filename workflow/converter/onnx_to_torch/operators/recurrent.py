"""LSTM, GRU and RNN: as torch's own layers where these compute the same, and else step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from converter.onnx_to_torch.core.registry import Call, operator
from converter.onnx_to_torch.core.values import Known
from converter.onnx_to_torch.operators.recurrent_cells import Activation, activations, step

__all__: list[str] = []

# Where each gate of torch's stands among those of ONNX: input, forget, cell, output; reset, update, new.
_ORDERS = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
_DEFAULTS = {"LSTM": ["sigmoid", "tanh", "tanh"], "GRU": ["sigmoid", "tanh"], "RNN": ["tanh"]}
_FUNCTIONS: dict[tuple[str, str], Callable] = {
    ("LSTM", "tanh"): torch._VF.lstm,
    ("GRU", "tanh"): torch._VF.gru,
    ("RNN", "tanh"): torch._VF.rnn_tanh,
    ("RNN", "relu"): torch._VF.rnn_relu,
}


@operator("LSTM", "GRU", "RNN")
def _recurrent(call: Call) -> tuple[torch.Tensor, ...]:
    """All states (T, directions, N, H), and the last ones (directions, N, H): hidden, and of LSTM the cell's."""
    kind, batch_first = call.node.op_type, bool(call.attribute("layout", 0))
    x = call.tensor(0).transpose(0, 1) if batch_first else call.tensor(0)
    direction = call.attribute("direction", "forward")
    directions = 2 if direction == "bidirectional" else 1
    names = [name.lower() for name in call.attribute("activations") or _DEFAULTS[kind] * directions]
    states = [_initial(call, position, x, directions, batch_first) for position in ((5, 6) if kind == "LSTM" else (5,))]
    lengths = _lengths(call, x)
    backwards = [direction == "reverse"] if directions == 1 else [False, True]
    if not _is_torchs(call, kind, names, directions) or (lengths is not None and call.wants(2)):
        outputs = _step_by_step(call, kind, x, states, lengths, backwards)
    elif directions == 2 and lengths is None:
        weights = [w for index in range(2) for w in _weights(call, kind, index)]
        y, *finals = _run(call, kind, names[-1], x, states, weights, both=True)
        outputs = y.reshape(*y.shape[:2], 2, -1).permute(0, 2, 1, 3), finals
    else:
        each = [
            _one_direction(call, kind, names[-1], x, [s[d : d + 1] for s in states], lengths, d, backward)
            for d, backward in enumerate(backwards)
        ]
        outputs = _joined(each)
    y, finals = outputs
    if batch_first:
        return y.permute(2, 0, 1, 3), *(final.transpose(0, 1) for final in finals)
    return y, *finals


def _joined(each: Sequence[tuple[torch.Tensor, list[torch.Tensor]]]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Of all directions, (T, N, H) and (1, N, H) each."""
    y = each[0][0][:, None] if len(each) == 1 else torch.stack([y for y, _ in each], 1)
    finals = [parts[0] if len(parts) == 1 else torch.cat(parts) for parts in zip(*(f for _, f in each), strict=True)]
    return y, finals


def _is_torchs(call: Call, kind: str, names: list[str], directions: int) -> bool:
    """Whether torch's layer computes the same."""
    if call.attribute("clip") is not None or call.attribute("input_forget", 0) or call.has(7):
        return False
    if kind == "GRU" and not call.attribute("linear_before_reset", 0):
        return False
    one = len(names) // directions
    if names != names[:one] * directions or any(call.attribute(f"activation_{x}") for x in ("alpha", "beta")):
        return False
    return (
        names[:-1] == (_DEFAULTS[kind] * directions)[:-1]
        and (kind, names[-1]) in _FUNCTIONS
        or (kind == "RNN" and (kind, names[-1]) in _FUNCTIONS)
    )


def _run(
    call: Call,
    kind: str,
    activation: str,
    x: torch.Tensor,
    states: list[torch.Tensor],
    weights: list[torch.Tensor],
    *,
    both: bool,
) -> tuple[torch.Tensor, ...]:
    state = states if kind == "LSTM" else states[0]
    return _FUNCTIONS[kind, activation](x, state, weights, call.has(3), 1, 0.0, False, both, False)


def _one_direction(
    call: Call,
    kind: str,
    activation: str,
    x: torch.Tensor,
    states: list[torch.Tensor],
    lengths: torch.Tensor | None,
    index: int,
    backward: bool,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    weights = _weights(call, kind, index)
    if lengths is None:
        y, *finals = _run(call, kind, activation, x.flip(0) if backward else x, states, weights, both=False)
        return (y.flip(0) if backward else y), finals
    times = torch.arange(x.shape[0])[:, None]
    present = times < lengths
    # Each sequence is turned round within its own length.
    turned = torch.where(present, lengths - 1 - times, times)[..., None] if backward else None
    y, *_ = _run(call, kind, activation, _taken(x, turned), states, weights, both=False)
    last = _taken(y, (lengths - 1).clamp(min=0)[None, :, None])
    last = torch.where((lengths > 0)[None, :, None], last, 0)
    return torch.where(present[..., None], _taken(y, turned), 0), [last]


def _taken(x: torch.Tensor, index: torch.Tensor | None) -> torch.Tensor:
    return x if index is None else torch.gather(x, 0, index.expand(index.shape[0], *x.shape[1:]))


def _initial(call: Call, position: int, x: torch.Tensor, directions: int, batch_first: bool) -> torch.Tensor:
    """(directions, N, H)."""
    known = call.known(position)
    if not call.has(position) or (known is not None and not known.any()):
        return torch.zeros(directions, x.shape[1], call.tensor(2).shape[-1], dtype=x.dtype)
    state = call.tensor(position)
    return state.transpose(0, 1) if batch_first else state


def _lengths(call: Call, x: torch.Tensor) -> torch.Tensor | None:
    """Of the sequences; None where all are as long as the input."""
    known = call.known(4)
    if not call.has(4) or (known is not None and isinstance(x.shape[0], int) and (known == x.shape[0]).all()):
        return None
    return call.tensor(4).to(torch.int64)


def _weights(call: Call, kind: str, index: int) -> list[torch.Tensor]:
    """Of one direction, in the order of torch."""
    order, suffix = _ORDERS[kind], "_reverse" if index else ""
    # W, R, and the two halves of B.
    parts = [(1, 0, 1, "weight_ih_l0"), (2, 0, 1, "weight_hh_l0")]
    if call.has(3):
        parts += [(3, 0, 2, "bias_ih_l0"), (3, 1, 2, "bias_hh_l0")]
    return [_gates(call, *part[:3], part[3] + suffix, index, order) for part in parts]


def _gates(
    call: Call, position: int, half: int, halves: int, name: str, index: int, order: tuple[int, ...]
) -> torch.Tensor:
    """A part of that input, its gates in another order."""
    places = [half * len(order) + gate for gate in order]
    value = call.inputs[position]
    if isinstance(value, Known) and value.constant and not value.symbolic:
        array = value.array[index]
        return call.derived(
            name, lambda: np.concatenate([np.split(array, halves * len(order))[place] for place in places])
        )
    tensor = call.tensor(position)[index]
    size = tensor.shape[0] // (halves * len(order))
    return torch.cat([tensor[place * size : (place + 1) * size] for place in places])


def _step_by_step(
    call: Call,
    kind: str,
    x: torch.Tensor,
    states: list[torch.Tensor],
    lengths: torch.Tensor | None,
    backwards: list[bool],
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    if not isinstance(x.shape[0], int):
        raise call.refusal("needs a number of steps that does not vary, as torch's own layers do not compute the same")
    functions = activations(call, _DEFAULTS[kind], len(backwards))
    gates = len(_ORDERS[kind])
    each = []
    for index, backward in enumerate(backwards):
        weight, recurrent = call.tensor(1)[index], call.tensor(2)[index]
        bias = call.tensor(3)[index].chunk(2) if call.has(3) else [torch.zeros(weight.shape[0], dtype=x.dtype)] * 2
        peepholes = call.tensor(7)[index].chunk(3) if call.has(7) else None
        count = len(functions) // len(backwards)
        own: list[Activation] = functions[index * count : (index + 1) * count]
        inner: list[Any] = [state[index] for state in states]
        inputs = torch.matmul(x, weight.T) + bias[0]
        outputs: list[torch.Tensor] = [x] * x.shape[0]
        for time in range(x.shape[0] - 1, -1, -1) if backward else range(x.shape[0]):
            new = step(call, kind, inputs[time], inner, recurrent.chunk(gates), bias[1].chunk(gates), own, peepholes)
            if lengths is not None:
                present = (time < lengths)[:, None]
                outputs[time] = torch.where(present, new[0], 0)
                inner = [torch.where(present, after, before) for after, before in zip(new, inner, strict=True)]
            else:
                outputs[time], inner = new[0], new
        each.append((torch.stack(outputs), [state[None] for state in inner]))
    return _joined(each)
