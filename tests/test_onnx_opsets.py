"""ONNX to ONNX: other opsets, parts of models, other sizes, and constants that are computed before."""

from __future__ import annotations

import functools
import importlib
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test.case.node
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from converter.contracts import ExportJob, ExportResult
from converter.errors import ParameterError, UnsupportedError
from converter.hub.hub import Hub, Run, TensorSpec
from converter.onnx.cut import cut
from converter.onnx.export import export
from converter.onnx.opset import HIGHEST_OPSET, LOWEST_OPSET, convert_opset
from converter.onnx.reading import write_model
from converter.onnx.shapes import with_shapes
from converter.onnx.simplify import simplify

_FLOAT, _INT64 = TensorProto.FLOAT, TensorProto.INT64


def run(model: onnx.ModelProto, *arrays: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip([entry.name for entry in session.get_inputs()], arrays, strict=False)))


def make(nodes, inputs: dict, outputs: list[str], opset: int, **initializers) -> onnx.ModelProto:
    """inputs: (dtype, shape) by name. outputs: names, whose types are inferred."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, *entry) for name, entry in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in initializers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="someone")
    model.ir_version = 10
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(model.SerializeToString())


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def at(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    converted = convert_opset(copied(model), opset)
    onnx.checker.check_model(converted, full_check=True)
    return converted


def same(actual, expected) -> bool:
    if isinstance(expected, list):
        return len(actual) == len(expected) and all(map(same, actual, expected))
    actual, expected = np.asarray(actual), np.asarray(expected)
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        return False
    if expected.dtype.kind != "f":
        return bool((actual == expected).all())
    wide = 2e-3 if expected.dtype.itemsize == 2 else 1e-4
    return np.allclose(actual.astype(np.float64), expected.astype(np.float64), wide, wide / 10, equal_nan=True)


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
    model = make(nodes, {"x": (_FLOAT, [2, 3, 5, 5])}, ["y", "h"], 13, **constants)
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
        model = make([node], {"x": (_FLOAT, [2, 3, 4])}, ["y"], source)
        assert same(run(at(model, opset), x), run(model, x)), (source, opset)


@pytest.mark.parametrize("scale", [2.0, 0.5])
def test_old_resizing_takes_the_element_that_onnxruntime_took(scale):
    x = np.arange(48, dtype=np.float32).reshape(1, 1, 6, 8)
    node = helper.make_node("Resize", ["x", "scales"], ["y"], mode="nearest")
    scales = np.array([1, 1, scale, 2], np.float32)
    model = make([node], {"x": (_FLOAT, [1, 1, 6, 8])}, ["y"], 10, scales=scales)
    for opset in (11, 13, 19):
        assert same(run(at(model, opset), x), run(model, x)), opset


def test_branches_and_bodies_are_converted_with_what_they_see_around_them():
    branches = [
        helper.make_graph(
            [helper.make_node("ReduceSum", ["x", axes], ["s"], keepdims=0), helper.make_node(operator, ["s"], ["r"])],
            operator,
            [],
            [helper.make_tensor_value_info("r", _FLOAT, [2])],
        )
        for operator, axes in (("Neg", "axes"), ("Abs", "axes"))
    ]
    node = helper.make_node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1])
    inputs = {"c": (TensorProto.BOOL, []), "x": (_FLOAT, [2, 3])}
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
    model = make([helper.make_node(operator, ["x"], ["y"], equation="ij->ji")], {"x": (_FLOAT, [2, 3])}, ["y"], 13)
    with pytest.raises(UnsupportedError, match=message):
        convert_opset(model, opset)


def test_axes_that_are_computed_are_refused_where_they_are_an_attribute():
    inputs = {"x": (_FLOAT, [2, 3]), "axes": (_INT64, [1])}
    model = make([helper.make_node("ReduceSum", ["x", "axes"], ["y"])], inputs, ["y"], 13)
    with pytest.raises(UnsupportedError, match="with axes that are computed, which needs opset 13"):
        convert_opset(model, 12)


# Parts of models.


@pytest.fixture
def chain() -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["hidden"], "first"),
        helper.make_node("Relu", ["hidden"], ["active"], "second"),
        helper.make_node("Add", ["active", "z"], ["sum"], "third"),
        helper.make_node("Split", ["sum", "parts"], ["left", "right"], "last", axis=1),
    ]
    weights = {"w": np.arange(12, dtype=np.float32).reshape(3, 4) - 5, "parts": np.array([1, 3])}
    return make(nodes, {"x": (_FLOAT, ["n", 3]), "z": (_FLOAT, ["n", 4])}, ["left", "right"], 13, **weights)


def test_a_cut_computes_what_the_whole_does(chain):
    x, z = np.ones((2, 3), np.float32), np.ones((2, 4), np.float32)
    front, back = cut(chain, [], ["second"]), cut(chain, ["active", "z"], ["right", "left"])
    for part in (front, back):
        onnx.checker.check_model(part, full_check=True)
    assert [value.name for value in front.graph.input] == ["x"] and len(chain.graph.node) == 4
    assert [tensor.name for tensor in back.graph.initializer] == ["parts"]
    assert same(run(back, run(front, x)[0], z), run(chain, x, z)[::-1])
    assert back.producer_name == "someone"


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        (["x"], ["hiden"], "output_nodes: the model has no tensor hiden in its main graph; did you mean hidden"),
        (["x"], ["sum"], "input_nodes: sum also depends on the input z: name it too"),
        (["active", "z"], ["hidden"], "hidden also depends on the input x"),
        (["x", "z"], ["hidden"], "hidden do not depend on z: leave it out"),
        ([], ["last"], "node last gives left, right: name one of these"),
        ([], ["sum", "third"], "sum is named twice"),
    ],
)
def test_a_cut_that_cannot_be_says_why(chain, inputs, outputs, message):
    with pytest.raises(ParameterError, match=message):
        cut(chain, inputs, outputs)


def test_shapes_are_set_with_all_that_depends_on_them(chain):
    with_shapes(chain, {"x": (5, 3)})
    assert [dim.dim_value for dim in chain.graph.input[1].type.tensor_type.shape.dim] == [5, 4]
    assert [dim.dim_value for dim in chain.graph.output[1].type.tensor_type.shape.dim] == [5, 3]
    with_shapes(chain, {"x": (None, 3), "z": (None, 4)})
    assert not chain.graph.output[1].type.tensor_type.shape.dim[0].HasField("dim_value")
    onnx.checker.check_model(chain, full_check=True)
    x, z = np.ones((2, 3), np.float32), np.ones((2, 4), np.float32)
    assert run(chain, x, z)[1].shape == (2, 3)


# Constants.


def test_what_depends_on_fixed_sizes_alone_is_computed_before():
    nodes = [
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("Shape", ["same"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "one"], ["channels"], axis=0),
        helper.make_node("Mul", ["channels", "two"], ["twice"]),
        helper.make_node("Concat", ["rest", "twice"], ["shape"], axis=0),
        helper.make_node("Reshape", ["same", "shape"], ["wide"]),
        helper.make_node("Dropout", ["wide"], ["kept"]),
        helper.make_node("Identity", ["kept"], ["y"]),
        helper.make_node("Relu", ["x"], ["unused"]),
    ]
    constants = {"one": np.array([1]), "two": np.array([2]), "rest": np.array([-1]), "idle": np.zeros(9)}
    model = make(nodes, {"x": (_FLOAT, ["n", 6])}, ["y"], 13, **constants)
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    expected = run(model, x)
    simplify(model)
    assert operators(model) == ["Reshape"] and len(model.graph.initializer) == 1
    assert same(run(model, x), expected)


def test_a_branch_that_is_always_taken_is_taken_into_the_graph():
    branches = [
        helper.make_graph(
            [helper.make_node(name, ["x"], ["r"])], name, [], [helper.make_tensor_value_info("r", _FLOAT, [2])]
        )
        for name in ("Neg", "Abs")
    ]
    nodes = [
        helper.make_node("If", ["c"], ["a"], then_branch=branches[0], else_branch=branches[1]),
        helper.make_node("If", ["c"], ["b"], then_branch=branches[1], else_branch=branches[0]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    model = make(nodes, {"x": (_FLOAT, [2])}, ["y"], 13, c=np.array(True))
    simplify(model)
    onnx.checker.check_model(model, full_check=True)
    assert operators(model) == ["Neg", "Abs", "Add"]
    assert run(model, np.array([-1, 2], np.float32))[0].tolist() == [2, 0]


def test_large_results_and_random_numbers_stay_computed():
    nodes = [
        helper.make_node("Expand", ["zero", "sizes"], ["large"]),
        helper.make_node("RandomUniform", [], ["random"], shape=[2]),
        helper.make_node("Add", ["x", "random"], ["y"]),
    ]
    model = make(nodes, {"x": (_FLOAT, [2])}, ["large", "y"], 13, zero=np.zeros(1), sizes=np.array([1000, 1000]))
    simplify(model)
    assert operators(model) == ["Expand", "RandomUniform", "Add"]


# Exports.


def make_hub(folder: Path, model: onnx.ModelProto, *arrays: np.ndarray) -> Hub:
    folder.mkdir()
    write_model(model, folder)

    def specs(values) -> list[TensorSpec]:
        return [
            TensorSpec(
                value.name,
                tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim),
                "float32",
            )
            for value in values
        ]

    hub = Hub(folder, "onnx", specs(model.graph.input), specs(model.graph.output))
    hub.write_reference([Run(list(arrays), run(model, *arrays))])
    hub.write()
    return Hub.read(folder)


@pytest.fixture
def large_hub(tmp_path) -> Hub:
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("LayerNormalization", ["a", "scale"], ["b"]),
        helper.make_node("Gelu", ["b"], ["y"]),
    ]
    weights = {"w": rng.standard_normal((128, 256)).astype(np.float32), "scale": np.ones(256, np.float32)}
    model = make(nodes, {"x": (_FLOAT, ["n", 128])}, ["y"], 20, **weights)
    helper.set_model_props(model, {"author": "somebody"})
    return make_hub(tmp_path / "hub", model, rng.standard_normal((3, 128)).astype(np.float32))


def exported(hub: Hub, path: Path, opset: int | None = None) -> tuple[ExportResult, onnx.ModelProto]:
    return export(hub, ExportJob("x.onnx", onnx_opset=opset), path), onnx.load(path)


@pytest.mark.parametrize("opset", [None, 11, 17, 25])
def test_an_export_is_one_file_of_the_opset_asked_for(large_hub, tmp_path, opset):
    assert (large_hub.path / "weights.bin").stat().st_size > 128 * 256 * 4
    result, model = exported(large_hub, tmp_path / "x.onnx", opset)
    assert result.verification is not None and result.verification.passed
    assert result.opset == (opset or 20) and result.route == ["export_onnx"]
    assert model.SerializeToString(deterministic=True) == (tmp_path / "x.onnx").read_bytes()
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.key, entry.value) for entry in model.metadata_props] == [("author", "somebody")]
    assert model.producer_name == "someone" and model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "n"
    assert ("Gelu" in operators(model)) == (result.opset >= 20)
    again = exported(large_hub, tmp_path / "again.onnx", opset)[1]
    assert again == model


def test_exports_outside_of_the_opsets_and_of_the_limit_are_refused(large_hub, tmp_path, monkeypatch):
    with pytest.raises(UnsupportedError, match="onnx_opset 26 cannot be written from an ONNX model, only 7 to 25: set"):
        exported(large_hub, tmp_path / "x.onnx", 26)
    monkeypatch.setattr("converter.tf.onnx.file.MAX_BYTES", 1000)
    with pytest.raises(UnsupportedError, match="cannot exceed 2 GB"):
        exported(large_hub, tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()


def test_rounding_where_no_operator_rounds():
    model = make([helper.make_node("Round", ["x"], ["y"])], {"x": (_FLOAT, [14])}, ["y"], 11)
    x = np.float32(
        [0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.49999997, -0.49999997, 1e30, 8388609, 4194304.5, np.inf, -3.2, 3.7]
    )
    older = at(model, 10)
    assert "Round" not in operators(older)
    assert run(older, x)[0].tolist() == np.round(x).tolist()


@pytest.mark.parametrize("x", [[0, 0, 0, 0], [0.25, -3, 7, 2.5], [1, 2, 3, 4], [-1, -2, -3, -4]])
def test_quantizing_by_the_data_below_opset_11(x):
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "scale", "zero"])
    model = make([node], {"x": (_FLOAT, [4])}, ["y", "scale", "zero"], 11)
    assert same(run(at(model, 10), np.float32(x)), run(model, np.float32(x)))


def test_grids_by_their_definition():
    """Whose Range gets vectors of one number, which onnxruntime does not take where it knows them."""
    node = helper.make_node("AffineGrid", ["theta", "size"], ["grid"])
    model = make([node], {"theta": (_FLOAT, [2, 2, 3])}, ["grid"], 20, size=np.int64([2, 3, 4, 5]))
    theta = np.random.default_rng(1).standard_normal((2, 2, 3)).astype(np.float32)
    older = simplified(at(model, 19))
    assert same(run(older, theta), run(model, theta))


def simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    simplify(model)
    return model
