"""onnxruntime's LSTM with weights of 8 bits (com.microsoft): inputs and states are quantized as they come."""

from __future__ import annotations

import torch

from converter.onnx_to_torch.core.registry import Call, operator
from converter.onnx_to_torch.operators.quantization import dynamically_quantized, shifted
from converter.onnx_to_torch.operators.recurrent_cells import Activation, activations, bounds, lstm_step

__all__: list[str] = []

_GATES = 4
_DEFAULTS = ["sigmoid", "tanh", "tanh"]


@operator("DynamicQuantizeLSTM", domain="com.microsoft")
def _dynamic_quantize_lstm(call: Call) -> tuple[torch.Tensor, ...]:
    """All states (T, directions, N, H), and the last ones (directions, N, H): hidden and the cell's.

    W (directions, I, 4 H), R (directions, H, 4 H); scales and zero points of both are of a direction, or of its columns.
    All of the input is quantized at once, the state anew at each step.
    """
    x = call.tensor(0)
    if not isinstance(x.shape[0], int):
        raise call.refusal("needs a number of steps that does not vary: give it in input_shape")
    if call.has(4) or call.has(7):
        raise call.refusal("has lengths of sequences or peepholes, which are not known here")
    direction = call.attribute("direction", "forward")
    backwards = [False, True] if direction == "bidirectional" else [direction == "reverse"]
    functions = activations(call, _DEFAULTS, len(backwards))
    each = [
        _one_direction(call, x, index, backward, functions[index * 3 : index * 3 + 3])
        for index, backward in enumerate(backwards)
    ]
    y, hidden, cell = (
        torch.stack(parts, 1 if place == 0 else 0) for place, parts in enumerate(zip(*each, strict=True))
    )
    return y, hidden, cell


def _one_direction(
    call: Call, x: torch.Tensor, index: int, backward: bool, functions: list[Activation]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    size = call.tensor(2).shape[1]
    states = [
        call.tensor(place)[index] if call.has(place) else torch.zeros(x.shape[1], size, dtype=x.dtype)
        for place in (5, 6)
    ]
    inputs = _product(call, x, index, 1, 8)
    if call.has(3):
        first, second = call.tensor(3)[index].chunk(2)
        inputs = inputs + (first + second)
    bounded = bounds(call)
    outputs: list[torch.Tensor] = [x] * x.shape[0]
    for time in range(x.shape[0] - 1, -1, -1) if backward else range(x.shape[0]):
        sums = (inputs[time] + _product(call, states[0], index, 2, 10)).chunk(_GATES, -1)
        states = lstm_step(call, sums, states[1], functions, bounded, None)
        outputs[time] = states[0]
    return torch.stack(outputs), states[0], states[1]


def _product(call: Call, x: torch.Tensor, index: int, weights: int, scales: int) -> torch.Tensor:
    """x, quantized by its own range, times a direction's matrix of integers."""
    whole, scale, zero = dynamically_quantized(x)
    zeros = call.tensor(scales + 1)
    matrix = shifted(call.tensor(weights)[index], zeros[index])
    return torch.matmul(shifted(whole, zero), matrix) * (scale * call.tensor(scales)[index])
