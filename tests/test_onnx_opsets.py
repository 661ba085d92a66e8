"""ONNX to ONNX: other opsets, whose files compute the same."""

from __future__ import annotations

import functools
import importlib
import warnings

import numpy as np
import onnx
import onnx.backend.test.case.node
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnx_graphs import FLOAT, INT64, copied, make, operators, run, same

from converter.errors import UnsupportedError
from converter.onnx.opset import HIGHEST_OPSET, LOWEST_OPSET, convert_opset
from converter.onnx.simplify import simplify


def at(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    converted = convert_opset(copied(model), opset)
    onnx.checker.check_model(converted, full_check=True)
    return converted


# Operators of every family, by the modules that ONNX keeps their cases in: to make those of all takes ten times as long.
_MODULES = (
    "argmax",
    "attention",
    "averagepool",
    "batch_normalization",
    "cast",
    "castlike",
    "clip",
    "dequantizelinear",
    "dropout",
    "equal",
    "gelu",
    "gemm",
    "gridsample",
    "groupnormalization",
    "hardswish",
    "if_",
    "layernormalization",
    "logsoftmax",
    "loop",
    "lstm",
    "max",
    "mish",
    "mod",
    "negativeloglikelihoodloss",
    "pad",
    "pow",
    "quantizelinear",
    "reducel1",
    "reducemax",
    "reducesum",
    "reshape",
    "resize",
    "rmsnormalization",
    "rotaryembedding",
    "scatter",
    "scatterelements",
    "shape",
    "slice",
    "softmax",
    "split",
    "squeeze",
    "swish",
    "topk",
    "trilu",
    "unsqueeze",
    "upsample",
)


@functools.cache
def _cases() -> list:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the cases' own arithmetic
        for module in _MODULES:
            importlib.import_module(f"onnx.backend.test.case.node.{module}")
    families = {module.replace("_", "") for module in _MODULES}
    cases = [
        case
        for case in onnx.backend.test.case.node._NodeTestCases
        if any(node.op_type.lower() in families for node in case.model.graph.node)
    ]
    return cases[::9]


@pytest.mark.parametrize("opset", [10, 13, 17, 25])
def test_cases_of_onnx_itself_come_out_the_same_or_are_refused(opset):
    right, refused = 0, 0
    for case in _cases():
        source = next(entry.version for entry in case.model.opset_import if entry.domain in ("", "ai.onnx"))
        if source == opset or "train" in case.name:
            continue
        inputs = [np.asarray(value) if not isinstance(value, list) else value for value in case.data_sets[0][0]]
        try:
            expected = run(case.model, *inputs)
        except Exception:  # nothing that this version of onnxruntime runs
            continue
        try:
            converted = convert_opset(copied(case.model), opset)
        except UnsupportedError as error:
            refused += 1
            assert f"opset {opset} cannot express the operator" in str(error) or "cannot express it" in str(error)
            assert ": set onnx_opset to " in str(error), case.name
            continue
        onnx.checker.check_model(converted)
        try:
            assert same(run(converted, *inputs), expected), f"{case.name}: {source} -> {opset}"
        except onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented:
            continue  # an export says so of such a file
        right += 1
        simplified = copied(converted)
        simplify(simplified)
        assert same(run(simplified, *inputs), expected), f"{case.name}: simplified"
    assert right > refused


@pytest.mark.parametrize("opset", range(LOWEST_OPSET, HIGHEST_OPSET + 1))
def test_a_network_at_every_opset(opset):
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["a", "low", "high"], ["b"]),
        helper.make_node("ReduceMean", ["b"], ["c"], axes=[-1, -2], keepdims=1),
        helper.make_node("Squeeze", ["c", "last"], ["d"]),
        helper.make_node("Unsqueeze", ["d", "first"], ["e"]),
        helper.make_node("Softmax", ["e"], ["f"], axis=1),
        helper.make_node("Split", ["f", "parts"], ["g", "h"], axis=-1),
        helper.make_node("Pad", ["g", "pads"], ["y"], mode="constant"),
    ]
    constants = {"w": rng.standard_normal((4, 3, 3, 3)).astype(np.float32), "parts": [1, 3], "pads": [0, 0, 1, 0, 0, 2]}
    constants |= {"low": np.float32(0), "high": np.float32(0.5), "last": [-1, -2], "first": [1]}
    nodes[6].attribute[0].i = 2
    model = make(nodes, {"x": (FLOAT, [2, 3, 5, 5])}, ["y", "h"], 13, **constants)
    x = rng.standard_normal((2, 3, 5, 5)).astype(np.float32)
    converted = at(model, opset)
    assert same(run(converted, x), run(model, x))
    assert [(entry.domain, entry.version) for entry in converted.opset_import] == [("", opset)]
    assert converted.producer_name == "someone"
    assert converted.SerializeToString(deterministic=True) == at(model, opset).SerializeToString(deterministic=True)


@pytest.mark.parametrize("axis", [-1, 0, 1, 2])
def test_softmax_over_one_axis_and_over_all_from_one_on(axis):
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    for source, opset in ((13, 11), (11, 13), (25, 7)):
        node = helper.make_node("Softmax", ["x"], ["y"], axis=axis)
        model = make([node], {"x": (FLOAT, [2, 3, 4])}, ["y"], source)
        assert same(run(at(model, opset), x), run(model, x)), (source, opset)


@pytest.mark.parametrize("scale", [2.0, 0.5])
def test_old_resizing_takes_the_element_that_onnxruntime_took(scale):
    x = np.arange(48, dtype=np.float32).reshape(1, 1, 6, 8)
    node = helper.make_node("Resize", ["x", "scales"], ["y"], mode="nearest")
    scales = np.array([1, 1, scale, 2], np.float32)
    model = make([node], {"x": (FLOAT, [1, 1, 6, 8])}, ["y"], 10, scales=scales)
    for opset in (11, 13, 19):
        assert same(run(at(model, opset), x), run(model, x)), opset


def test_branches_and_bodies_are_converted_with_what_they_see_around_them():
    branches = [
        helper.make_graph(
            [helper.make_node("ReduceSum", ["x", axes], ["s"], keepdims=0), helper.make_node(operator, ["s"], ["r"])],
            operator,
            [],
            [helper.make_tensor_value_info("r", FLOAT, [2])],
        )
        for operator, axes in (("Neg", "axes"), ("Abs", "axes"))
    ]
    node = helper.make_node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1])
    inputs = {"c": (TensorProto.BOOL, []), "x": (FLOAT, [2, 3])}
    model = make([node], inputs, ["y"], 13, axes=np.array([1]))
    converted, x = at(model, 11), np.ones((2, 3), np.float32)
    for condition in (True, False):
        assert same(run(converted, np.array(condition), x), run(model, np.array(condition), x))


@pytest.mark.parametrize(
    ("operator", "opset", "message"),
    [
        (
            "Einsum",
            11,
            r"ONNX opset 11 cannot express the operator Einsum \(y\), which needs opset 12: set onnx_opset to 12 or ",
        ),
        ("Einsum", 6, "onnx_opset 6 cannot be written, only 7 to 25"),
        ("Einsum", 26, "onnx_opset 26 cannot be written, only 7 to 25"),
    ],
)
def test_what_an_opset_cannot_express_is_refused(operator, opset, message):
    model = make([helper.make_node(operator, ["x"], ["y"], equation="ij->ji")], {"x": (FLOAT, [2, 3])}, ["y"], 13)
    with pytest.raises(UnsupportedError, match=message):
        convert_opset(model, opset)


def test_axes_that_are_computed_are_refused_where_they_are_an_attribute():
    inputs = {"x": (FLOAT, [2, 3]), "axes": (INT64, [1])}
    model = make([helper.make_node("ReduceSum", ["x", "axes"], ["y"])], inputs, ["y"], 13)
    with pytest.raises(UnsupportedError, match="with axes that are computed, which needs opset 13"):
        convert_opset(model, 12)


def test_rounding_where_no_operator_rounds():
    model = make([helper.make_node("Round", ["x"], ["y"])], {"x": (FLOAT, [14])}, ["y"], 11)
    x = np.float32(
        [0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.49999997, -0.49999997, 1e30, 8388609, 4194304.5, np.inf, -3.2, 3.7]
    )
    older = at(model, 10)
    assert "Round" not in operators(older)
    assert run(older, x)[0].tolist() == np.round(x).tolist()


@pytest.mark.parametrize("x", [[0, 0, 0, 0], [0.25, -3, 7, 2.5], [1, 2, 3, 4], [-1, -2, -3, -4]])
def test_quantizing_by_the_data_below_opset_11(x):
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "scale", "zero"])
    model = make([node], {"x": (FLOAT, [4])}, ["y", "scale", "zero"], 11)
    assert same(run(at(model, 10), np.float32(x)), run(model, np.float32(x)))


def test_grids_by_their_definition():
    """Whose Range gets vectors of one number, which onnxruntime does not take where it knows them."""
    node = helper.make_node("AffineGrid", ["theta", "size"], ["grid"])
    model = make([node], {"theta": (FLOAT, [2, 2, 3])}, ["grid"], 20, size=np.int64([2, 3, 4, 5]))
    theta = np.random.default_rng(1).standard_normal((2, 2, 3)).astype(np.float32)
    older = simplified(at(model, 19))
    assert same(run(older, theta), run(model, theta))


def simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    simplify(model)
    return model
