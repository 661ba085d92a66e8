"""Recurrent layers over a whole sequence."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from converter.errors import SourceError
from converter.tflite.flatbuffer import schema
from converter.tflite_to_onnx.core.cleaning import cleaned
from converter.tflite_to_onnx.core.graph import Graph
from converter.tflite_to_onnx.core.registry import Call, operator

# Inputs of UNIDIRECTIONAL_SEQUENCE_LSTM (tensorflow/lite/kernels/lstm_shared.h); gates: input, forget, cell, output.
_INPUT_WEIGHTS, _RECURRENT_WEIGHTS, _PEEPHOLES, _BIASES = range(1, 5), range(5, 9), (9, 10, 11), range(12, 16)
_PROJECTION, _NORMALIZATION = (16, 17), range(20, 24)
_ACTIVATIONS = {schema.ActivationFunctionType.TANH: "Tanh", schema.ActivationFunctionType.RELU: "Relu"}
_ONNX_ORDER = (0, 3, 1, 2)  # input, output, forget, cell


@operator("UNIDIRECTIONAL_SEQUENCE_RNN")
def _rnn(call: Call) -> str:
    options, graph = call.options(schema.SequenceRNNOptionsT), call.graph
    units = call.shape(1)[0] if call.rank(1) == 2 else None
    if call.rank() != 3 or units is None:
        raise SourceError(f"its operator {call.name} has an input of {call.rank()} axes")
    if options.fusedActivationFunction not in _ACTIVATIONS:
        raise call.refusal(f"has the activation {options.fusedActivationFunction}, not tanh or relu")
    x = call.real() if options.timeMajor else graph.transpose(call.real(), (1, 0, 2))
    bias = call.node("Concat", call.real(3), graph.constant(np.zeros(units), np.float32), axis=0)
    weights = [graph.unsqueeze(name, [0]) for name in (call.real(1), call.real(2), bias)]
    state = _initial(call, 4)
    starts = [] if state is None else ["", graph.unsqueeze(state, [0])]
    activations = [_ACTIVATIONS[options.fusedActivationFunction]]
    y = graph.squeeze(call.node("RNN", x, *weights, *starts, hidden_size=units, activations=activations), [1])
    return y if options.timeMajor else graph.transpose(y, (1, 0, 2))


@operator("UNIDIRECTIONAL_SEQUENCE_LSTM")
def _lstm(call: Call) -> str:
    options = call.options(schema.UnidirectionalSequenceLSTMOptionsT)
    if call.rank() != 3:
        raise SourceError(f"its operator {call.name} has an input of {call.rank()} axes, not 3")
    if any(call.has(position) for position in (*_PROJECTION, *_NORMALIZATION)) or options.diagonalRecurrentTensors:
        raise call.refusal("has a projection, a normalization or diagonal weights, which ONNX's LSTM does not")
    if options.fusedActivationFunction not in _ACTIVATIONS:
        raise call.refusal(f"has the activation {options.fusedActivationFunction}, not tanh or relu")
    activation = _ACTIVATIONS[options.fusedActivationFunction]
    x = call.real() if options.timeMajor else call.graph.transpose(call.real(), (1, 0, 2))
    steps = call.shape()[0 if options.timeMajor else 1]
    weights, recurrent = _gates(call, _INPUT_WEIGHTS), _gates(call, _RECURRENT_WEIGHTS)
    biases, peepholes = _gates(call, _BIASES), _peepholes(call)
    units = call.shape(_RECURRENT_WEIGHTS[1])[-1]
    if units is None or None in (weights, recurrent):
        raise call.refusal("has weights of a free size, or none")
    # The cell grows by less than 1 each step where tanh bounds what is added to it.
    clips = options.cellClip > 0 and not (activation == "Tanh" and steps is not None and steps <= options.cellClip)
    if clips:
        y = _scanned(call, x, (weights, recurrent, biases, peepholes), units, activation, options.cellClip)
    else:
        y = _whole(call, x, (weights, recurrent, biases, peepholes), units, activation)
    return y if options.timeMajor else call.graph.transpose(y, (1, 0, 2))


def _gates(call: Call, positions: range) -> str | None:
    """The parts of the four gates in one, in ONNX's order: input, output, forget, cell."""
    places = [positions[gate] for gate in _ONNX_ORDER]
    if not any(call.has(place) for place in places):
        return None
    parts = []
    for place in places:
        if call.has(place):
            parts.append(call.real(place))
        elif place == positions[0] and call.has(positions[1]):
            # The input gate is 1 less the forget gate: sigmoid(-x) = 1 - sigmoid(x).
            parts.append(call.node("Neg", call.real(positions[1])))
        else:
            raise SourceError(f"its operator {call.name} has no input {place}")
    return call.node("Concat", *parts, axis=0)


def _peepholes(call: Call) -> str | None:
    """Weights of the cell in the gates input, output and forget."""
    if not any(call.has(place) for place in _PEEPHOLES):
        return None
    entry, forget, output = _PEEPHOLES
    own = call.real(entry) if call.has(entry) else call.node("Neg", call.real(forget))
    return call.node("Concat", own, call.real(output), call.real(forget), axis=0)


def _initial(call: Call, position: int) -> str | None:
    """The state before the first step; None for zero, which variables hold where nothing has run yet."""
    return None if not call.has(position) or call.input(position).variable else call.real(position)


def _whole(call: Call, x: str, parts: tuple[str | None, ...], units: int, activation: str) -> str:
    graph = call.graph
    weights, recurrent, biases, peepholes = (None if part is None else graph.unsqueeze(part, [0]) for part in parts)
    bias = ""
    if biases is not None:
        bias = call.node("Concat", biases, graph.constant(np.zeros((1, 4 * units)), np.float32), axis=1)
    states = [_initial(call, position) for position in (18, 19)]
    starts = ["" if state is None else graph.unsqueeze(state, [0]) for state in states]
    names = [x, weights or "", recurrent or "", bias, "", *starts, peepholes or ""]
    while not names[-1]:
        names.pop()
    activations = None if activation == "Tanh" else ["Sigmoid", activation, activation]
    y = call.node("LSTM", *names, hidden_size=units, activations=activations)
    return graph.squeeze(y, [1])


def _scanned(call: Call, x: str, parts: tuple[str | None, ...], units: int, activation: str, clip: float) -> str:
    """Step by step: ONNX's LSTM clips what goes into its gates, this one the cell."""
    weights, recurrent, biases, peepholes = parts
    assert weights is not None and recurrent is not None
    graph = call.graph
    projected = call.node("MatMul", x, graph.transpose(weights, (1, 0)))  # (T, N, 4 H)
    projected = projected if biases is None else call.node("Add", projected, biases)
    turned = graph.transpose(recurrent, (1, 0))
    batch = graph.size(x, 1)
    zeros = call.node("Expand", graph.constant(0, np.float32), graph.vector([batch, units]))
    starts = [zeros if (state := _initial(call, position)) is None else state for position in (18, 19)]
    body = Graph(graph.constants)
    hidden, cell, step = (body.constants.name(name) for name in ("hidden", "cell", "step"))
    for name, size in ((hidden, units), (cell, units), (step, 4 * units)):
        graph.constants.declare(name, np.float32, (None, size))
    gates = body.node("Add", step, body.node("MatMul", hidden, turned))
    entry, output, forget, new = body.node("Split", gates, body.constant([units] * 4), outputs=4, axis=1)
    if peepholes is not None:
        own = body.node("Split", peepholes, body.constant([units] * 3), outputs=3, axis=0)
        entry = body.node("Add", entry, body.node("Mul", cell, own[0]))
        forget = body.node("Add", forget, body.node("Mul", cell, own[2]))
    kept = body.node("Mul", body.node("Sigmoid", forget), cell)
    added = body.node("Mul", body.node("Sigmoid", entry), body.node(activation, new))
    bounds = [body.constant(bound, np.float32) for bound in (-clip, clip)]
    after = body.node("Clip", body.node("Add", kept, added), *bounds)
    if peepholes is not None:
        output = body.node("Add", output, body.node("Mul", after, own[1]))
    shown = body.node("Mul", body.node("Sigmoid", output), body.node(activation, after))
    results = [shown, after, body.node("Identity", shown)]
    nodes = cleaned(body.nodes, results, [hidden, cell, step], body.constants)
    inner = onnx.helper.make_graph(nodes, "step", _floats([hidden, cell, step]), _floats(results))
    _, _, y = call.node("Scan", *starts, projected, outputs=3, body=inner, num_scan_inputs=1)
    shape = graph.shape(x) or (None, None)
    return graph.constants.declare(y, np.float32, (*shape[:2], units))


def _floats(names: list[str]) -> list[Any]:
    return [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names]
