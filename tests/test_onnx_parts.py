"""ONNX to ONNX: parts of models, other sizes, constants that are computed before, and the files that come of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test.case.node
import pytest
from onnx import helper
from onnx_graphs import FLOAT, make, operators, run, same

from converter.contracts import ExportJob, ExportResult
from converter.errors import ParameterError, UnsupportedError
from converter.hub.hub import Hub, Run, TensorSpec
from converter.onnx.cut import cut
from converter.onnx.export import export
from converter.onnx.reading import write_model
from converter.onnx.shapes import with_shapes
from converter.onnx.simplify import simplify

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
    return make(nodes, {"x": (FLOAT, ["n", 3]), "z": (FLOAT, ["n", 4])}, ["left", "right"], 13, **weights)


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
    model = make(nodes, {"x": (FLOAT, ["n", 6])}, ["y"], 13, **constants)
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    expected = run(model, x)
    simplify(model)
    assert operators(model) == ["Reshape"] and len(model.graph.initializer) == 1
    assert same(run(model, x), expected)


def test_a_branch_that_is_always_taken_is_taken_into_the_graph():
    branches = [
        helper.make_graph(
            [helper.make_node(name, ["x"], ["r"])], name, [], [helper.make_tensor_value_info("r", FLOAT, [2])]
        )
        for name in ("Neg", "Abs")
    ]
    nodes = [
        helper.make_node("If", ["c"], ["a"], then_branch=branches[0], else_branch=branches[1]),
        helper.make_node("If", ["c"], ["b"], then_branch=branches[1], else_branch=branches[0]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    model = make(nodes, {"x": (FLOAT, [2])}, ["y"], 13, c=np.array(True))
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
    model = make(nodes, {"x": (FLOAT, [2])}, ["large", "y"], 13, zero=np.zeros(1), sizes=np.array([1000, 1000]))
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
    model = make(nodes, {"x": (FLOAT, ["n", 128])}, ["y"], 20, **weights)
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
