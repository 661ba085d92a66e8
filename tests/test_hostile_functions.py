"""Files of TensorFlow that hide what they run: in functions that only functions name, behind fed nodes, in damaged object
graphs. Refused by name, and nothing happens."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from imports import run_step
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from test_hostile_tensorflow import Plain, acts_while_it_is_loaded, write_pb

from converter.hub.hub import Hub

v1 = tf.compat.v1
FLOAT, STRING = 1, 7  # types.proto


def _refused(hub: Hub, operator: str, pwned: Path | None = None) -> None:
    assert pwned is None or not pwned.exists()
    assert hub.error is not None and hub.error["kind"] == "UntrustedError", hub.error
    assert operator in hub.error["message"]


def _writing_function(path: Path) -> tf.types.experimental.PolymorphicFunction:
    @tf.function(autograph=False)
    def write(value):
        tf.io.write_file(str(path), "x")
        return value, value[:1]

    return write


def _call(graph_def: v1.GraphDef) -> v1.NodeDef:
    return next(node for node in graph_def.node if node.op == "StatefulPartitionedCall")


def _edit_pb(path: Path, build: Callable, change: Callable) -> Path:
    graph_def = v1.GraphDef.FromString(write_pb(path, build).read_bytes())
    change(graph_def)
    path.write_bytes(graph_def.SerializeToString())
    return path


def _edit_saved_model(folder: Path, change: Callable[[meta_graph_pb2.MetaGraphDef], None]) -> Path:
    path = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    change(saved.meta_graphs[0])
    path.write_bytes(saved.SerializeToString())
    return folder


def _saved_model_of_tensorflow_1(folder: Path, build: Callable = lambda x, weight: (x, x @ weight)) -> Path:
    """`build` makes the signature's input and output of a placeholder (None, 4) and a variable (4, 3)."""
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, (None, 4), name="x")
        weight = v1.get_variable("weight", initializer=np.eye(4, 3, dtype=np.float32), use_resource=False)
        fed, y = build(x, weight)
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(folder))
        signature = v1.saved_model.predict_signature_def({"x": fed}, {"y": y})
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()
    return folder


def _wrap(graph_def: v1.GraphDef) -> None:
    """The call names a function that calls what it is given, in an attribute of its own."""
    function = _call(graph_def).attr["f"].func
    outer = graph_def.library.function.add()
    outer.signature.name, outer.signature.is_stateful = "outer", True
    outer.signature.attr.add(name="F", type="func")
    outer.signature.input_arg.add(name="value", type=FLOAT)
    for index in (0, 1):
        outer.signature.output_arg.add(name=f"result{index}", type=FLOAT)
        outer.ret[f"result{index}"] = f"call:output:{index}"
    call = outer.node_def.add(name="call", op="StatefulPartitionedCall", input=["value"])
    call.attr["f"].placeholder = "F"
    call.attr["Tin"].list.type.append(FLOAT)
    call.attr["Tout"].list.type.extend([FLOAT, FLOAT])
    function.attr["F"].func.name, function.name = function.name, "outer"


def test_function_in_an_attribute_of_a_function(tmp_path: Path) -> None:
    pwned = tmp_path / "pwned"
    write = _writing_function(pwned)
    source = _edit_pb(tmp_path / "evil.pb", lambda x: tf.identity(write(x)[0], name="y"), _wrap)
    pwned.unlink(missing_ok=True)
    _refused(run_step("import_protobuf", source, tmp_path / "hub", output_nodes="y"), "WriteFile", pwned)


def test_attribute_that_the_caller_of_a_function_gives(tmp_path: Path) -> None:
    pwned = tmp_path / "pwned"

    @tf.function(autograph=False)
    def show(value):
        tf.print("x", output_stream=f"file://{pwned}")
        return value

    def change(graph_def):
        function = graph_def.library.function[0]
        function.signature.attr.add(name="S", type="string")
        stream = next(node for node in function.node_def if node.op == "PrintV2").attr["output_stream"]
        _call(graph_def).attr["f"].func.attr["S"].s = stream.s
        stream.placeholder = "S"

    source = _edit_pb(tmp_path / "evil.pb", lambda x: tf.identity(show(x), name="y"), change)
    pwned.unlink(missing_ok=True)
    _refused(run_step("import_protobuf", source, tmp_path / "hub", output_nodes="y"), "PrintV2", pwned)


def test_gradient_function(tmp_path: Path) -> None:
    """What a graph names as the gradient of a function runs in SymbolicGradient."""
    pwned = tmp_path / "pwned"

    @tf.function(autograph=False)
    def write(value, gradient):
        tf.io.write_file(str(pwned), "x")
        return value + gradient

    def change(graph_def):
        call = _call(graph_def)
        plain = graph_def.library.function.add()
        plain.signature.name = "plain"
        plain.signature.input_arg.add(name="value", type=FLOAT)
        plain.signature.output_arg.add(name="result", type=FLOAT)
        plain.node_def.add(name="same", op="Identity", input=["value"]).attr["T"].type = FLOAT
        plain.ret["result"] = "same:output:0"
        graph_def.library.gradient.add(function_name="plain", gradient_func=call.attr["f"].func.name)
        name, inputs = call.name, list(call.input)
        call.Clear()
        call.name, call.op = name, "SymbolicGradient"
        call.input.extend(inputs)
        call.attr["f"].func.name = "plain"
        call.attr["Tin"].list.type.extend([FLOAT, FLOAT])
        call.attr["Tout"].list.type.append(FLOAT)

    source = _edit_pb(tmp_path / "evil.pb", lambda x: tf.identity(write(x, x), name="y"), change)
    pwned.unlink(missing_ok=True)
    _refused(run_step("import_protobuf", source, tmp_path / "hub", output_nodes="y"), "WriteFile", pwned)


def test_graph_in_a_text(tmp_path: Path) -> None:
    def build(x):
        dataset = tf.raw_ops.DatasetFromGraph(graph_def="a graph")
        element = tf.raw_ops.DatasetToSingleElement(dataset=dataset, output_types=[tf.float32], output_shapes=[[]])
        tf.identity(x + element[0], name="y")

    source = write_pb(tmp_path / "evil.pb", build)
    _refused(run_step("import_protobuf", source, tmp_path / "hub", output_nodes="y"), "DatasetFromGraph")


@pytest.mark.parametrize("waits", [True, False])
def test_fed_node_that_runs_all_the_same(waits: bool, tmp_path: Path) -> None:
    """Its output is fed, but something waits for it, or reads another output."""
    pwned = tmp_path / "pwned"
    write = _writing_function(pwned)

    def build(_, weight):
        value, other = write(tf.zeros((1, 4)))
        with tf.control_dependencies([value.op] if waits else []):
            weight = tf.identity(weight)
        return value, tf.nn.softmax(value @ weight) + (0.0 if waits else other[:, :3])

    source = _saved_model_of_tensorflow_1(tmp_path / "model", build)
    pwned.unlink(missing_ok=True)
    _refused(run_step("import_savedmodel", source, tmp_path / "hub"), "WriteFile", pwned)


def test_function_called_as_an_operator_while_it_is_restored(tmp_path: Path) -> None:
    pwned = tmp_path / "pwned"
    write = _writing_function(pwned)

    def build(x, weight):
        write(tf.zeros((1, 4)))
        return x, tf.nn.softmax(x @ weight)

    def change(meta):
        call = _call(meta.graph_def)
        call.op = call.attr["f"].func.name
        call.attr.clear()
        restore = next(node for node in meta.graph_def.node if node.name == meta.saver_def.restore_op_name)
        restore.input.append(f"^{call.name}")

    source = _edit_saved_model(_saved_model_of_tensorflow_1(tmp_path / "model", build), change)
    pwned.unlink(missing_ok=True)
    _refused(run_step("import_savedmodel", source, tmp_path / "hub"), "WriteFile", pwned)


def test_restore_from_another_output_of_the_savers_node(tmp_path: Path) -> None:
    """The saver's name is fed to one output, and the values are restored from the other, which names another file."""

    def change(meta):
        elsewhere = meta.graph_def.node.add(name="elsewhere", op="Const")
        elsewhere.attr["dtype"].type = STRING
        elsewhere.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(str(tmp_path / "other")))
        two = meta.graph_def.node.add(name="two", op="IdentityN", input=["elsewhere", "elsewhere"])
        two.attr["T"].list.type.extend([STRING, STRING])
        next(node for node in meta.graph_def.node if node.op == "RestoreV2").input[0] = "two"
        meta.saver_def.filename_tensor_name = "two:1"

    source = _edit_saved_model(_saved_model_of_tensorflow_1(tmp_path / "model"), change)
    _refused(run_step("import_savedmodel", source, tmp_path / "hub"), "RestoreV2")


def test_restore_from_a_name_that_runs_in_circles(tmp_path: Path) -> None:
    """It was followed without end."""

    def change(meta):
        for name, other in (("one", "two"), ("two", "one")):
            meta.graph_def.node.add(name=name, op="Identity", input=[other]).attr["T"].type = STRING
        next(node for node in meta.graph_def.node if node.op == "RestoreV2").input[0] = "one"

    source = _edit_saved_model(_saved_model_of_tensorflow_1(tmp_path / "model"), change)
    _refused(run_step("import_savedmodel", source, tmp_path / "hub"), "RestoreV2")


def test_function_of_an_object_that_is_not_listed(tmp_path: Path) -> None:
    """The loader finds the functions that it runs by their names in the library, listed or not."""
    pwned = tmp_path / "pwned"

    def change(meta):
        objects = meta.object_graph_def
        for function in meta.graph_def.library.function:
            if any(node.op == "WriteFile" for node in function.node_def):
                del objects.concrete_functions[function.signature.name]

    folder, module = tmp_path / "model", acts_while_it_is_loaded(pwned)
    tf.saved_model.save(module, str(folder), signatures=module.score)
    _edit_saved_model(folder, change)
    pwned.unlink(missing_ok=True)
    _refused(run_step("import_savedmodel", folder, tmp_path / "hub"), "WriteFile", pwned)


@pytest.mark.parametrize("bound", [[0] * 9, [-1], [99], [-99]])
def test_captures_that_are_not_there(bound: list[int], tmp_path: Path) -> None:
    def change(meta):
        for entry in meta.object_graph_def.concrete_functions.values():
            entry.bound_inputs[:] = bound

    folder, module = tmp_path / "model", Plain()
    tf.saved_model.save(module, str(folder), signatures=module.score)
    hub = run_step("import_savedmodel", _edit_saved_model(folder, change), tmp_path / "hub")
    assert hub.error is not None and hub.error["kind"] == "SourceError", hub.error


@pytest.mark.parametrize("gradient", ["NoSuchGradient", "PyFunc", "MatMul"])
@pytest.mark.parametrize("loop", [False, True])
def test_gradients_that_a_file_names_are_not_taken(gradient: str, loop: bool, tmp_path: Path) -> None:
    """What the proof covers is measured with gradients: those of the operators, in a process that has sessions only."""
    with tf.Graph().as_default() as graph:
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        y = x @ tf.constant([[1.0, 2], [3, -4], [0.5, 1], [2, 2]])
        with graph._attr_scope({"_gradient_op_type": v1.AttrValue(s=gradient.encode())}):
            y = tf.tanh(y)
        if loop:
            functional = v1.control_flow_v2_enabled()
            v1.disable_control_flow_v2()
            _, y = v1.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, tf.sin(y)), [tf.constant(0), y])
            if functional:
                v1.enable_control_flow_v2()
        tf.identity(y, name="y")
    source = tmp_path / "model.pb"
    source.write_bytes(graph.as_graph_def().SerializeToString())
    step = [sys.executable, str(ROOT / "scripts" / "import_protobuf.py"), str(source), str(tmp_path / "hub")]
    assert subprocess.run(step, capture_output=True).returncode == 0
    coverage = json.loads((tmp_path / "hub" / "hub.json").read_text())["coverage"]
    assert coverage["method"].startswith("gradients") and coverage["weights"] == 1.0, coverage["reason"]


def test_functions_that_fill_a_table(tmp_path: Path) -> None:
    """What fills the tables of a frozen graph is run for the reference, beside what the outputs need."""
    pwned = tmp_path / "pwned"

    @tf.function(autograph=False)
    def keys(path):
        tf.io.write_file(path, "x")
        return tf.constant([1, 2, 3], tf.int64)

    with tf.Graph().as_default() as graph:
        x = v1.placeholder(tf.int64, [None], name="x")
        table = tf.raw_ops.HashTableV2(key_dtype=tf.int64, value_dtype=tf.int64, shared_name="t")
        values = tf.constant([4, 5, 6], tf.int64)
        tf.raw_ops.InitializeTableV2(table_handle=table, keys=keys(tf.constant(str(pwned))), values=values)
        tf.raw_ops.LookupTableFindV2(table_handle=table, keys=x, default_value=tf.constant(0, tf.int64), name="y")
    source = tmp_path / "model.pb"
    source.write_bytes(graph.as_graph_def().SerializeToString())
    _refused(run_step("import_protobuf", source, tmp_path / "hub", output_nodes="y:0"), "WriteFile", pwned)
