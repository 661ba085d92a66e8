"""Recurrent layers: LSTM, GRU and SimpleRNN, stacked, in both directions, with states in and out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from keras import layers

from converter.torch_to_keras.call import Call
from converter.torch_to_keras.layout import ordered
from converter.torch_to_keras.registry import converts
from converter.torch_to_keras.slicing import select_axis
from converter.torch_to_keras.values import Constant, KerasTensor, Value


@dataclass(frozen=True)
class _Kind:
    layer: type
    states: int
    config: dict

    def weights(self, group: Sequence[Constant], biases: bool) -> list[np.ndarray]:
        """PyTorch: (gates * units, in), (gates * units, units) and two biases; Keras: transposed, and one bias."""
        kernel, recurrent = group[0].numpy.T, group[1].numpy.T
        if not biases:
            return [self._gates(kernel), self._gates(recurrent)]
        first, second = group[2].numpy, group[3].numpy
        if self.layer is layers.GRU:
            bias = np.stack([self._gates(first), self._gates(second)])
        else:
            bias = first + second
        return [self._gates(kernel), self._gates(recurrent), bias]

    def _gates(self, array: np.ndarray) -> np.ndarray:
        """Gates along the last axis: PyTorch's GRU has reset, update, new; Keras's update, reset, new."""
        if self.layer is not layers.GRU:
            return array
        reset, update, new = np.split(array, 3, axis=-1)
        return np.concatenate([update, reset, new], axis=-1)


_LSTM = _Kind(layers.LSTM, 2, {})
# reset_after: the reset gate applies to the product with the state, as in PyTorch.
_GRU = _Kind(layers.GRU, 1, {"reset_after": True})


@converts("lstm.input")
def lstm(
    call: Call,
    value: Value,
    states: Sequence[Value | Constant],
    parameters: Sequence[Constant],
    biases: bool,
    count: int,
    dropout: float,
    training: bool,
    both_ways: bool,
    batch_first: bool,
) -> tuple[Value, Value, Value]:
    """LSTM layers; returns the sequence and the last states, hidden and cell."""
    return _recurrent(call, _LSTM, value, states, parameters, biases, count, dropout, both_ways, batch_first)


@converts("gru.input")
def gru(
    call: Call, value: Value, state: Value | Constant, parameters: Sequence[Constant], *rest: object
) -> tuple[Value, Value]:
    """GRU layers; returns the sequence and the last state."""
    return _one_state(call, _GRU, value, state, parameters, *rest)


@converts("rnn_tanh.input")
def rnn_tanh(
    call: Call, value: Value, state: Value | Constant, parameters: Sequence[Constant], *rest: object
) -> tuple[Value, Value]:
    """Elman layers with tanh; returns the sequence and the last state."""
    return _one_state(call, _Kind(layers.SimpleRNN, 1, {"activation": "tanh"}), value, state, parameters, *rest)


@converts("rnn_relu.input")
def rnn_relu(
    call: Call, value: Value, state: Value | Constant, parameters: Sequence[Constant], *rest: object
) -> tuple[Value, Value]:
    """Elman layers with ReLU; returns the sequence and the last state."""
    return _one_state(call, _Kind(layers.SimpleRNN, 1, {"activation": "relu"}), value, state, parameters, *rest)


def _one_state(
    call: Call,
    kind: _Kind,
    value: Value,
    state: Value | Constant,
    parameters: Sequence[Constant],
    biases: bool,
    count: int,
    dropout: float,
    training: bool,
    both_ways: bool,
    batch_first: bool,
) -> tuple[Value, Value]:
    return _recurrent(call, kind, value, [state], parameters, biases, count, dropout, both_ways, batch_first)


def _recurrent(
    call: Call,
    kind: _Kind,
    value: Value,
    initial: Sequence[Value | Constant],
    parameters: Sequence[Constant],
    biases: bool,
    count: int,
    dropout: float,
    both_ways: bool,
    batch_first: bool,
) -> tuple[Value, ...]:
    """(output, final states): output (N, T, C) or (T, N, C), states (layers * directions, N, C)."""
    directions, per_layer = 1 + both_ways, 4 if biases else 2
    if len(value.shape) != 3:
        raise call.unsupported("its input has no batch")
    if len(parameters) != count * directions * per_layer:
        raise call.unsupported("projections (proj_size) have no Keras layer")
    # Keras runs (N, T, C): PyTorch's order with batch_first, else with the first two axes swapped.
    order = (0, 1, 2) if batch_first else (1, 0, 2)
    tensor = ordered(call, value, order)
    needs_states = any(call.uses(index + 1) for index in range(kind.states))
    finals: list[list[KerasTensor]] = [[] for _ in range(kind.states)]
    for index in range(count):
        groups = [parameters[(index * directions + d) * per_layer :][:per_layer] for d in range(directions)]
        if index and dropout:
            tensor = call.layer(layers.Dropout, tensor, rate=float(dropout), seed=index)
        state = [_initial(call, s, index * directions + d) for d in range(directions) for s in initial]
        outputs = _layer(call, kind, tensor, groups, state, biases, index, needs_states, index == count - 1)
        outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
        tensor = outputs[0]
        for position, final in enumerate(outputs[1:]):
            finals[position % kind.states].append(final)
    result = Value(tensor, call.shape, order)
    return result, *(_stacked(call, finals[s], s + 1) for s in range(kind.states))


def _layer(
    call: Call,
    kind: _Kind,
    tensor: KerasTensor,
    groups: Sequence[Sequence[Constant]],
    state: list[KerasTensor],
    biases: bool,
    index: int,
    needs_states: bool,
    is_last: bool,
) -> KerasTensor:
    units = groups[0][1].array.shape[-1]
    config = {
        **kind.config,
        "use_bias": biases,
        "return_sequences": not is_last or call.uses(0),
        "return_state": needs_states,
    }
    path = (groups[0][0].name or "").rpartition(".")[0]
    name = call.conversion.names.unique(f"{path or kind.layer.__name__.lower()}_{index}" if index else
                                        path or kind.layer.__name__.lower())  # fmt: skip
    initial = {} if any(s is None for s in state) else {"initial_state": state}
    weights = [w for group in groups for w in kind.weights(group, biases)]
    if len(groups) == 1:
        return call.layer(kind.layer, tensor, units=units, weights=weights, name=name, call=initial, **config)
    inner = kind.layer(units, name=f"{name}_rnn", **config)
    return call.layer(layers.Bidirectional, tensor, layer=inner, weights=weights, name=name, call=initial)


def _initial(call: Call, states: Value | Constant, index: int) -> KerasTensor | None:
    """The state (N, C) of one layer and direction; None for zeros, which are Keras's default."""
    if isinstance(states, Constant):
        if states.uniform == 0:
            return None
        raise call.unsupported("its initial state is a constant other than zero")
    return ordered(call, select_axis(call, states, 0, index), (0, 1))


def _stacked(call: Call, finals: list[KerasTensor], result: int) -> Value | None:
    """(layers * directions, N, C), stored as (N, layers * directions, C) so that the batch stays first."""
    if not finals or not call.uses(result):
        return None
    n, units = call.result[result].shape[1:]
    parts = tuple(Value(final, (n, units), (0, 1)) for final in finals)
    rows = [call.layer(layers.Reshape, final, target_shape=(1, int(units))) for final in finals]
    tensor = rows[0] if len(rows) == 1 else call.layer(layers.Concatenate, rows, axis=1)
    return Value(tensor, (len(finals), n, units), (1, 0, 2), parts=parts)
