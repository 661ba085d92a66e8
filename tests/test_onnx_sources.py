"""ONNX files as sources: what belongs to one, what its interface says, and what planning refuses."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from onnx_models import convnet, embedding, external, info, model_of, random

from converter.errors import ParameterError, SourceError, UnsupportedError, UntrustedError
from converter.onnx.constants import fix_constants
from converter.onnx.interface import inputs_of, is_channels_last, outputs_of, share_batch, vocabulary
from converter.onnx.reading import operators, read_model, write_model
from converter.planning.onnx_files import external_files
from converter.planning.source_files import source_files, source_sha256


def test_files_with_weights_belong_to_the_source(tmp_path):
    path = external(convnet(), tmp_path / "m.onnx", "m.weights")
    assert external_files(path) == [tmp_path / "m.weights"]
    assert source_files(path) == [path, tmp_path / "m.weights"]
    before = source_sha256(path)
    (tmp_path / "m.weights").write_bytes((tmp_path / "m.weights").read_bytes()[:-4] + b"\1\2\3\4")
    assert source_sha256(path) != before


def test_a_file_without_such_is_itself(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(convnet(), path)
    assert external_files(path) == [] and source_files(path) == [path]


def test_weights_within_branches_are_found(tmp_path):
    weight = onnx.numpy_helper.from_array(random(4), "inner")
    branch = helper.make_graph(
        [helper.make_node("Identity", ["inner"], ["out"])], "b", [], [info("out", [4])], [weight]
    )
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    model = model_of([node], [info("c", [], "bool")], [info("y", [4])])
    for attribute in model.graph.node[0].attribute:
        tensor = attribute.g.initializer[0]
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", f"{attribute.name}.bin"
        (tmp_path / f"{attribute.name}.bin").write_bytes(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    assert [file.name for file in external_files(path)] == ["else_branch.bin", "then_branch.bin"]
    assert read_model(path).graph.node[0].attribute[0].g.initializer[0].raw_data


@pytest.mark.parametrize("location", ["../outside.bin", "/etc/hostname", "missing.bin"])
def test_weights_elsewhere_are_never_read(tmp_path, location):
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "outside.bin").write_bytes(bytes(4000))
    path = external(convnet(), folder / "m.onnx", "w.bin")
    path.write_bytes(renamed(path, location))
    assert external_files(path) == []
    with pytest.raises((UntrustedError, SourceError), match="outside of its folder|is damaged"):
        read_model(path)


def renamed(path, location):
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = location if entry.key == "location" else entry.value
    return model.SerializeToString()


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_files_have_no_files_beside_them(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    path = external(convnet(), folder / "m.onnx", "w.bin")
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    assert set(external_files(path)) <= {folder / "w.bin", path}


def test_interface(tmp_path):
    model, path = embedding(), tmp_path / "m.onnx"
    inputs = inputs_of(model, path)
    assert [(spec.name, spec.shape, spec.dtype) for spec in inputs] == [
        ("ids", (None, None), "int64"),
        ("mask", (None, None), "int64"),
    ]
    assert outputs_of(model, path)[0].shape == (None, None, 3)
    assert share_batch(model, inputs)
    assert vocabulary(model, inputs) == {"ids": 11, "mask": 2}
    assert operators(model)["Gather"] == 2


def test_floats_that_number_rows():
    """As of Keras's embeddings in frozen graphs; other floats are none, whatever they are called."""
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2, 5] ids, float[2] mask, float[3] index)
        => (float[2, 5, 4] y, float[2] m, float[3] z) {
            rows = Cast <to = 6> (ids)
            y = Gather (table, rows)
            m = Relu (mask)
            z = Relu (index)
        }"""
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(random(9, 4), "table"))
    assert vocabulary(model, inputs_of(model, "m.onnx")) == {"ids": 9}


def test_a_loop_is_not_run_for_years():
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> g (int64[1] n, int64 other, float x) => (float y, int64 z) <bool go = {1}> {
            count = Squeeze (n)
            y = Loop (count, go, x) <body = step (int64 i, bool goes, float s) => (bool further, float t) {
                further = Identity (goes)
                t = Cos (s)
            }>
            z = Identity (other)
        }"""
    )
    assert vocabulary(model, inputs_of(model, "m.onnx")) == {"n": 16}


def test_leading_dimensions_of_two_names_are_no_batch(tmp_path):
    nodes = [helper.make_node("MatMul", ["a", "b"], ["y"])]
    model = model_of(nodes, [info("a", ["n", 3]), info("b", ["k", 4])], [info("y", ["n", 4])])
    assert not share_batch(model, inputs_of(model, tmp_path))


def test_inputs_that_are_no_tensors_are_refused(tmp_path):
    sequence = helper.make_tensor_sequence_value_info("s", onnx.TensorProto.FLOAT, None)
    model = model_of([helper.make_node("ConcatFromSequence", ["s"], ["y"], axis=0)], [sequence], [info("y", None)])
    with pytest.raises(UnsupportedError, match="input s is no tensor but of kind sequence: cut the model there"):
        inputs_of(model, tmp_path / "m.onnx")


def test_channels_last_images_are_known_by_their_first_transposition():
    transposed = helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2])
    relu = helper.make_node("Relu", ["t"], ["y"])
    inputs, outputs = [info("x", ["n", 8, 8, 3])], [info("y", None)]
    assert is_channels_last(model_of([transposed, relu], inputs, outputs))
    assert not is_channels_last(convnet())
    assert not is_channels_last(model_of([transposed, relu, helper.make_node("Abs", ["x"], ["z"])], inputs, outputs))


def test_constants_become_values(tmp_path):
    model = model_of(
        [helper.make_node("Mul", ["x", "k"], ["y"])], [info("x", ["n"]), info("k", [1])], [info("y", ["n"])]
    )
    fix_constants(model, tmp_path, {"k": 3})
    assert [entry.name for entry in model.graph.input] == ["x"]
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(model.graph.initializer[0]), np.float32([3]))


@pytest.mark.parametrize(
    ("constants", "sentence"),
    [
        ({"kk": 1}, "has no input kk; did you mean k"),
        ({"k": [1, 2]}, "k of .* has another shape"),
        ({"k": "much"}, "does not take 'much'"),
        ({"k": 1, "x": 1}, "another shape|gives values to all inputs"),
    ],
)
def test_constants_that_do_not_fit(tmp_path, constants, sentence):
    model = model_of([helper.make_node("Mul", ["x", "k"], ["y"])], [info("x", [2]), info("k", [1])], [info("y", [2])])
    with pytest.raises(ParameterError, match=sentence):
        fix_constants(model, tmp_path, constants)


def test_initializers_that_are_inputs_too_are_none(tmp_path):
    model = convnet()
    model.graph.input.append(info("b1", [8]))
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    assert [entry.name for entry in read_model(path).graph.input] == ["x"]


def test_large_weights_lie_beside_the_hubs_graph(tmp_path):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    model = model_of(nodes, [info("x", ["n", 64])], [info("y", ["n", 64])], [("w", random(64, 64))])
    write_model(model, tmp_path)
    assert (tmp_path / "model.onnx").stat().st_size < 1000 and (tmp_path / "weights.bin").stat().st_size == 4 * 64 * 64
    assert model.graph.initializer[0].raw_data  # the model in memory keeps its own
    again = onnx.load(tmp_path / "model.onnx")
    for a, b in zip(again.graph.initializer, model.graph.initializer, strict=True):
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(a), onnx.numpy_helper.to_array(b))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda m: m.graph.ClearField("node"), "holds no ONNX graph"),
        (lambda m: setattr(m.opset_import[0], "version", 6), "is of opset 6, and those from 7"),
        (lambda m: setattr(m.graph.node[1], "op_type", "Rely"), "is no valid ONNX model"),
        (lambda m: m.graph.node[0].input.__setitem__(0, "nowhere"), "is no valid ONNX model"),
        (lambda m: m.graph.node[0].input.__setitem__(0, "y"), "is no valid ONNX model"),  # a cycle
        (lambda m: m.graph.initializer[0].dims.__setitem__(0, 9), "is no valid ONNX model"),
    ],
)
def test_models_that_are_none(tmp_path, change, sentence):
    model = convnet()
    change(model)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises((SourceError, UnsupportedError), match=sentence):
        read_model(path)


def test_what_is_no_onnx_file(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"GIF89a" * 50)
    with pytest.raises(UnsupportedError, match="does not open: it is damaged or no ONNX file"):
        read_model(path)


def test_more_than_two_gigabytes_are_refused(tmp_path):
    path = external(convnet(), tmp_path / "m.onnx", "m.weights")
    with open(tmp_path / "m.weights", "r+b") as file:
        file.truncate(3 << 30)  # a hole
    with pytest.raises(UnsupportedError, match="larger than 2 GB"):
        read_model(path)
