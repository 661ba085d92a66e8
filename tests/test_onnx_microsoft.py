"""Operators of onnxruntime's own, and what its optimizer would make of written-out ones: the same numbers in torch."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper
from onnx_models import info, model_of, random

from converter.errors import UnsupportedError
from converter.onnx.written_gelu import gather_gelus
from converter.onnx_to_torch.module import OnnxModule

node = helper.make_node


def by_onnxruntime(model, **inputs):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def by_torch(model, *arrays):
    with torch.no_grad():
        return [y.numpy() for y in OnnxModule(model)(*map(torch.from_numpy, arrays))]


def lstm(direction="forward", kind=np.int8, *, states=False, columns=False, lengths=False, steps=5):
    size, width, directions = 4, 3, 2 if direction == "bidirectional" else 1
    drawn = np.random.default_rng(1)
    low, high = (-127, 128) if kind == np.int8 else (0, 256)
    shape = (directions, 4 * size) if columns else (directions,)
    weights = [
        ("W", drawn.integers(low, high, (directions, width, 4 * size)).astype(kind)),
        ("R", drawn.integers(low, high, (directions, size, 4 * size)).astype(kind)),
        ("B", random(directions, 8 * size)),
        ("ws", drawn.uniform(0.005, 0.01, shape).astype(np.float32)),
        ("rs", drawn.uniform(0.005, 0.01, shape).astype(np.float32)),
        ("wz", np.full(shape, 0 if kind == np.int8 else 120, kind)),
        ("rz", np.full(shape, 0 if kind == np.int8 else 130, kind)),
        ("h0", random(directions, 2, size)),
        ("c0", random(directions, 2, size, seed=1)),
        ("lengths", np.array([5, 3], np.int32)),
    ]
    own = ["h0", "c0"] if states else ["", ""]
    inputs = ["x", "W", "R", "B", "lengths" if lengths else "", *own, "", "ws", "wz", "rs", "rz"]
    made = node(
        "DynamicQuantizeLSTM", inputs, ["y", "h", "c"], domain="com.microsoft", hidden_size=size, direction=direction
    )
    outputs = [info(name, None) for name in ("y", "h", "c")]
    return model_of([made], [info("x", [steps, 2, width])], outputs, weights, domains=["com.microsoft"])


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("kind", [np.int8, np.uint8])
@pytest.mark.parametrize("given", [False, True])
def test_quantized_lstm(direction, kind, given):
    model = lstm(direction, kind, states=given, columns=given and kind == np.int8)
    x = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)
    for expected, actual in zip(by_onnxruntime(model, x=x), by_torch(model, x), strict=True):
        assert expected.shape == actual.shape and np.abs(expected).max() > 0.05
        np.testing.assert_allclose(actual, expected, atol=2e-6)


def test_quantized_lstm_with_lengths_is_refused():
    with pytest.raises(UnsupportedError, match="has lengths of sequences or peepholes"):
        by_torch(lstm(lengths=True), np.zeros((5, 2, 3), np.float32))


def gelu(form, factor=2**0.5, half=0.5, *, inner=False):
    """Behind a product, which is not to be taken for one of the factors."""
    f = np.float32
    erf = [node("Erf", ["d"], ["e"]), node("Add", ["e", "one"], ["a"])]
    forms = {
        "divided": [node("Div", ["g", "root"], ["d"]), *erf, node("Mul", ["g", "a"], ["m"]), node("Mul", ["m", "half"], ["y"])],
        "halved first": [
            *(node("Mul", ["g", "inverse"], ["d"]), *erf, node("Mul", ["half", "g"], ["m"]), node("Mul", ["m", "a"], ["y"])),
        ],
        "halved bracket": [
            *(node("Div", ["g", "root"], ["d"]), *erf, node("Mul", ["a", "half"], ["m"]), node("Mul", ["m", "g"], ["y"])),
        ],
        "tanh": [
            *(node("Pow", ["g", "three"], ["p"]), node("Mul", ["p", "cubic"], ["q"]), node("Add", ["g", "q"], ["s"])),
            *(node("Mul", ["s", "slope"], ["t"]), node("Tanh", ["t"], ["e"]), node("Add", ["one", "e"], ["a"])),
            *(node("Mul", ["g", "half"], ["m"]), node("Mul", ["m", "a"], ["y"])),
        ],
        "tanh by products": [
            *(node("Mul", ["g", "g"], ["g2"]), node("Mul", ["g2", "g"], ["p"]), node("Mul", ["cubic", "p"], ["q"])),
            *(node("Add", ["q", "g"], ["s"]), node("Mul", ["slope", "s"], ["t"]), node("Tanh", ["t"], ["e"])),
            *(node("Add", ["e", "one"], ["a"]), node("Mul", ["half", "a"], ["m"]), node("Mul", ["g", "m"], ["y"])),
        ],
    }  # fmt: skip
    numbers = {"root": factor, "inverse": 1 / factor, "half": half, "one": 1, "three": 3, "cubic": 0.044715}
    numbers["slope"] = math.sqrt(2 / math.pi)
    weights = [*((name, f(number)) for name, number in numbers.items()), ("w", random(8, scale=2))]
    outputs = [info("y", ["n", 8]), *([info("e", ["n", 8])] if inner else [])]
    return model_of([node("Mul", ["x", "w"], ["g"]), *forms[form]], [info("x", ["n", 8])], outputs, weights)


@pytest.mark.parametrize("form", ["divided", "halved first", "halved bracket", "tanh", "tanh by products"])
def test_written_gelus_become_one_operator(form):
    model, x = gelu(form), random(20, 8, scale=3)
    expected = by_onnxruntime(model, x=x)[0]
    assert gather_gelus(model) == 1
    assert [entry.op_type for entry in model.graph.node] == ["Mul", "FastGelu" if "tanh" in form else "Gelu"]
    np.testing.assert_allclose(by_torch(model, x)[0], expected, atol=2e-6)


@pytest.mark.parametrize("changes", [{"factor": 1.4143}, {"half": 0.5001}])
def test_another_function_stays_what_it_is(changes):
    model = gelu("divided", **changes)
    before = model.SerializeToString()
    assert gather_gelus(model) == 0 and model.SerializeToString() == before


def test_what_is_read_besides_stays():
    model, x = gelu("divided", inner=True), random(20, 8)
    expected = by_onnxruntime(model, x=x)
    assert gather_gelus(model) == 1
    assert {"Erf", "Gelu"} <= {entry.op_type for entry in model.graph.node}
    onnx.checker.check_model(model)
    for wanted, actual in zip(expected, by_torch(model, x), strict=True):
        np.testing.assert_allclose(actual, wanted, atol=2e-6)
