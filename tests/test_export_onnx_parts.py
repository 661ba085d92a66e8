"""Parts of the ONNX exporter that whole models do not reach on purpose: subgraphs, names, sets, the writer."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from converter.tf.onnx.deferred import DeferredTensors, InsertionSet
from converter.tf.onnx.file import hoist_stand_ins, write_model
from converter.tf.onnx.names import canonicalize

RNG = np.random.default_rng(0)


def value(name: str, *shape: int, dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def branches_model(tensors: DeferredTensors, weight: np.ndarray) -> onnx.ModelProto:
    """y = x @ weight if flag else relu(x @ weight), each branch with its own constant and the same inner names."""

    def branch(rectified: bool) -> onnx.GraphProto:
        nodes = [helper.make_node("MatMul", ["x", "w"], ["t__9"], name="n__9")]
        nodes.append(helper.make_node("Relu" if rectified else "Identity", ["t__9"], ["r__3"], name="n__3"))
        return helper.make_graph(nodes, "branch", [], [value("r__3", 2, 4)], [tensors.stand_in(weight, "w")])

    nodes = [
        helper.make_node("Abs", ["x"], ["unused"]),
        helper.make_node("Neg", ["c__77"], ["r"], name="last"),
        helper.make_node("If", ["flag"], ["c__77"], then_branch=branch(False), else_branch=branch(True)),
    ]
    inputs = [value("flag", dtype=TensorProto.BOOL), value("x", 2, 4)]
    graph = helper.make_graph(nodes, "g", inputs, [value("r", 2, 4)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 10)], ir_version=5)


def test_bodies_get_unique_names_and_leave_their_weights_to_the_main_graph(tmp_path):
    tensors, weight = DeferredTensors(), RNG.standard_normal((4, 4)).astype(np.float32)
    model = branches_model(tensors, weight)
    canonicalize(model, {"x": "t", "r": "y"})  # "t" is also what an inner tensor would be called
    hoist_stand_ins(model, tensors)
    assert [node.op_type for node in model.graph.node] == ["If", "Neg"]
    names = [name for node in model.graph.node for name in node.output]
    for attribute in model.graph.node[0].attribute:
        names += [name for node in attribute.g.node for name in node.output]
        assert not attribute.g.initializer
    assert len(names) == len(set(names)) and "t" not in names and not any("__" in name for name in names)
    write_model(model, tensors, tmp_path / "x.onnx")
    onnx.checker.check_model(str(tmp_path / "x.onnx"))
    session = onnxruntime.InferenceSession(tmp_path / "x.onnx")
    x = RNG.standard_normal((2, 4)).astype(np.float32)
    for flag in (True, False):
        expected = -(x @ weight) if flag else -np.maximum(x @ weight, 0)
        np.testing.assert_allclose(session.run(["y"], {"flag": np.array(flag), "t": x})[0], expected, rtol=1e-5)


def test_names_and_order_do_not_depend_on_those_before(tmp_path):
    def model(counter: int, swapped: bool) -> bytes:
        a = helper.make_node("Relu", ["x"], [f"a__{counter}:0"], name=f"a__{counter}")
        b = helper.make_node("Neg", ["x"], [f"a__{counter + 5}:0"], name=f"b__{counter}")
        last = helper.make_node("Add", [f"a__{counter}:0", f"a__{counter + 5}:0"], ["y"], name="y")
        nodes = [b, a, last] if swapped else [a, b, last]
        built = helper.make_model(helper.make_graph(nodes, "g", [value("x", 2)], [value("y", 2)]))
        canonicalize(built, {})
        return built.SerializeToString(deterministic=True)

    assert model(3, False) == model(40, True)
    assert b"a_2:0" in model(3, False)


def test_equal_arrays_share_a_token_and_others_do_not():
    tensors, array = DeferredTensors(), np.arange(100_000, dtype=np.float32)
    changed = array.copy()
    changed[1] += 1  # not among the sampled values
    first, second, third = tensors.stand_in(array), tensors.stand_in(array.copy()), tensors.stand_in(changed)
    assert first.raw_data == second.raw_data != third.raw_data
    assert tensors.stand_in(array.reshape(1000, 100)).raw_data != first.raw_data
    assert tensors.stand_in(array.view(np.int32)).raw_data != first.raw_data
    np.testing.assert_array_equal(tensors.array(third), changed)


def test_the_writer_writes_what_protobuf_would(tmp_path):
    """Transposed and scalar-shaped arrays, dtypes of every width, metadata: byte for byte."""
    tensors, model = DeferredTensors(), onnx.ModelProto(ir_version=8, producer_name="p", doc_string="d")
    expected = onnx.ModelProto(ir_version=8, producer_name="p", doc_string="d")
    arrays = [RNG.standard_normal((30, 7)).astype(np.float32).T, np.array(3.5), np.ones((0, 3), np.int64)]
    arrays += [np.array([True, False]), RNG.standard_normal(5).astype(np.float16), np.arange(300, dtype=np.uint8)]
    for each in (model, expected):
        each.graph.name = "g"
        each.graph.node.append(helper.make_node("Relu", ["x"], ["y"]))
        each.graph.input.append(value("x", 2))
        each.graph.output.append(value("y", 2))
        each.opset_import.append(helper.make_opsetid("", 13))
        helper.set_model_props(each, {"key": "value"})
    for index, array in enumerate(arrays):
        model.graph.initializer.append(tensors.stand_in(array, f"w{index}"))
        expected.graph.initializer.append(numpy_helper.from_array(array, f"w{index}"))
    write_model(model, tensors, tmp_path / "x.onnx")
    assert (tmp_path / "x.onnx").read_bytes() == expected.SerializeToString(deterministic=True)


def test_insertion_set_behaves_like_a_set_and_keeps_order():
    items = InsertionSet("bca")
    assert list(items) == ["b", "c", "a"] and list(items | {"z"}) == ["b", "c", "a", "z"]
    assert list(items & {"a", "b"}) == ["b", "a"] and list(items - {"c"}) == ["b", "a"]
    assert items == {"a", "b", "c"} and {"a", "b", "c", "d"} - items == {"d"}
    items.remove("c")
    items.update("xy")
    assert list(items) == ["b", "a", "x", "y"] and items.issubset("abxyz") and items.pop() == "b"
    assert list(items.union("q").difference("a").intersection("xq")) == ["x", "q"]
