"""ONNX models in float16: what must stay float32, in graphs within graphs too."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import info, model_of, random
from onnx_quantized import convert, held, hub_of, runs

from converter.quantization.onnx.float16 import to_float16
from converter.quantization.onnx.graph import add_types, save

node = helper.make_node


def halved(model: onnx.ModelProto, path, **options) -> onnx.ModelProto:
    add_types(model)
    to_float16(model, **options)
    save(model, path)
    onnx.checker.check_model(model, full_check=True)
    return model


def kinds(model: onnx.ModelProto) -> dict[str, int]:
    return {tensor.name: tensor.data_type for tensor in model.graph.initializer}


def test_weights_beyond_the_range_stay_float32_and_are_named(tmp_path):
    big = random(40, 40)
    big[3, 3] = 1e5
    nodes = [node("MatMul", ["x", "big"], ["h"], "first"), node("Tanh", ["h"], ["t"], "tanh")]
    nodes += [node("MatMul", ["t", "w"], ["y"], "second")]
    model = model_of(nodes, [info("x", ["n", 40])], [info("y", ["n", 30])], [("big", big), ("w", random(40, 30))])
    result = convert(hub_of(model, tmp_path), tmp_path / "x.onnx", "float16")
    assert result.verification.passed and held(tmp_path / "x.onnx") == {"float": 1600, "float16": 1200}
    notes = " ".join(result.notes)
    assert "weights that stay float32" in notes and "big" in notes and "for their values' range: first" in notes


def test_values_beyond_the_range_stay_float32(tmp_path):
    """The product overflows, the weights do not: only the samples tell."""
    nodes = [node("MatMul", ["x", "a"], ["h"], "grow"), node("Mul", ["h", "small"], ["s"], "shrink")]
    nodes += [node("MatMul", ["s", "w"], ["y"], "second")]
    weights = [("a", random(40, 40) * 60000), ("small", np.array([1e-4], np.float32)), ("w", random(40, 30))]
    model = model_of(nodes, [info("x", ["n", 40])], [info("y", ["n", 30])], weights)
    result = convert(hub_of(model, tmp_path), tmp_path / "x.onnx", "float16")
    assert result.verification.passed, result.verification.message
    assert held(tmp_path / "x.onnx") == {"float": 1600, "float16": 1200}
    assert any("for their values' range: grow, shrink" in note for note in result.notes)


def test_a_weight_that_both_kinds_of_operators_read_is_stored_once(tmp_path):
    nodes = [node("MatMul", ["x", "w"], ["h"], "half"), node("Pow", ["w", "two"], ["p"], "wide")]
    nodes += [node("MatMul", ["h", "p"], ["y"], "last")]
    weights = [("w", random(8, 8)), ("two", np.array(2, np.float32))]
    model = model_of(nodes, [info("x", ["n", 8])], [info("y", ["n", 8])], weights)
    onnx.save(model, tmp_path / "float.onnx")
    made = halved(model, tmp_path / "x.onnx")
    assert kinds(made) == {"w": TensorProto.FLOAT, "two": TensorProto.FLOAT}
    x = random(3, 8, scale=1.0)
    np.testing.assert_allclose(
        runs(tmp_path / "x.onnx", x)[0], runs(tmp_path / "float.onnx", x)[0], rtol=0.01, atol=0.01
    )


def test_types_that_an_operator_fixes(tmp_path):
    """Scales of Resize, a threshold of NonMaxSuppression, a tiny epsilon, a cast, the indices of TopK."""
    nodes = [
        node("Conv", ["x", "w"], ["c"], "conv"),
        node("Resize", ["c", "", "scales"], ["r"], "resize", mode="linear"),
        node("Cast", ["r"], ["i"], "whole", to=TensorProto.INT32),
        node("Cast", ["i"], ["back"], "back", to=TensorProto.FLOAT),
        node("Add", ["r", "back"], ["s"], "sum"),
        node("Add", ["s", "eps"], ["e"], "epsilon"),
        node("TopK", ["e", "k"], ["top", "places"], "top", axis=-1),
        node("Sigmoid", ["top"], ["y"], "sigmoid"),
    ]
    weights = [
        ("w", random(4, 3, 1, 1)),
        ("scales", np.array([1, 1, 2, 2], np.float32)),
        ("eps", np.array(1e-12, np.float32)),
    ]
    outputs = [info("y", [None] * 4), info("places", [None] * 4, "int64")]
    model = model_of(nodes, [info("x", ["n", 3, 4, 4])], outputs, [*weights, ("k", np.array([2]))])
    onnx.save(model, tmp_path / "float.onnx")
    made = halved(model, tmp_path / "x.onnx")
    assert kinds(made)["w"] == TensorProto.FLOAT16 and kinds(made)["scales"] == kinds(made)["eps"] == TensorProto.FLOAT
    x = random(2, 3, 4, 4, scale=1.0)
    after, before = runs(tmp_path / "x.onnx", x), runs(tmp_path / "float.onnx", x)
    np.testing.assert_allclose(after[0], before[0], atol=0.01)
    assert after[1].dtype == np.int64


def branches() -> onnx.ModelProto:
    """A branch that reads a value and a weight from around it, a loop whose body has a weight of its own."""
    then = helper.make_graph(
        [node("MatMul", ["h", "w"], ["t"], "then/product")], "then", [], [info("t", [None] * 2)], []
    )
    otherwise = helper.make_graph([node("Neg", ["h"], ["o"], "else/negative")], "else", [], [info("o", [None] * 2)])
    body = helper.make_graph(
        [
            node("MatMul", ["state", "inner"], ["p"], "body/product"),
            node("Tanh", ["p"], ["next"], "body/tanh"),
            node("Identity", ["next"], ["seen"], "body/seen"),
            node("Identity", ["go"], ["on"], "body/on"),
        ],
        "body",
        [info("i", [], "int64"), info("go", [], "bool"), info("state", [None] * 2)],
        [info("on", [], "bool"), info("next", [None] * 2), info("seen", [None] * 2)],
        [numpy_helper.from_array(random(8, 8, seed=5), "inner")],
    )
    nodes = [
        node("MatMul", ["x", "w"], ["h"], "first"),
        node("ReduceMax", ["x"], ["largest"], "largest", keepdims=0),
        node("Greater", ["largest", "limit"], ["which"], "which"),
        node("If", ["which"], ["b"], "choose", then_branch=then, else_branch=otherwise),
        node("Loop", ["three", "", "b"], ["last", "all"], "loop", body=body),
        node("Relu", ["last"], ["y"], "relu"),
    ]
    weights = [("w", random(8, 8)), ("limit", np.array(1.5, np.float32)), ("three", np.array(3))]
    return model_of(nodes, [info("x", ["n", 8])], [info("y", [None] * 2), info("all", [None] * 3)], weights)


@pytest.mark.parametrize("size", [0.2, 3.0])
def test_branches_and_bodies(tmp_path, size):
    model = branches()
    onnx.save(model, tmp_path / "float.onnx")
    made = halved(model, tmp_path / "x.onnx")
    body = next(n for n in made.graph.node if n.op_type == "Loop").attribute[0].g
    assert kinds(made)["w"] == TensorProto.FLOAT16 and body.initializer[0].data_type == TensorProto.FLOAT16
    x = random(3, 8, scale=size)
    for after, before in zip(runs(tmp_path / "x.onnx", x), runs(tmp_path / "float.onnx", x), strict=True):
        assert after.dtype == np.float32 and before.std() > 0
        np.testing.assert_allclose(after, before, atol=0.01)


def test_an_output_that_is_read_within_and_an_input_that_is_an_output(tmp_path):
    nodes = [
        node("MatMul", ["x", "w"], ["h"], "first"),
        node("Relu", ["h"], ["y"], "relu"),
        node("Add", ["y", "h"], ["z"], "sum"),
    ]
    model = model_of(
        nodes, [info("x", ["n", 8])], [info(name, [None] * 2) for name in ("h", "y", "z")], [("w", random(8, 8))]
    )
    onnx.save(model, tmp_path / "float.onnx")
    halved(model, tmp_path / "x.onnx", keep_float=["relu"])
    x = random(3, 8, scale=1.0)
    after = runs(tmp_path / "x.onnx", x)
    assert [array.dtype for array in after] == [np.float32] * 3
    for one, other in zip(after, runs(tmp_path / "float.onnx", x), strict=True):
        np.testing.assert_allclose(one, other, atol=0.01)
