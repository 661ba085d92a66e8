"""The Protobuf exporter: frozen and with variables."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from export_protobuf import export_model
from tf_hub import dense, make_hub, perturb

from converter.contracts import ExportJob
from converter.errors import UnsupportedError
from converter.hub.hub import Hub
from converter.tf.graph import graph_bytes
from converter.tf.graph.graph_bytes import graph_pieces, read_graph, write_graph


class Net(tf.Module):
    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.kernel, self.bias = dense(rng, 4, 200), tf.Variable(rng.standard_normal(200).astype(np.float32))
        self.table = dense(rng, 10, 200)

    def __call__(self, x: tf.Tensor, ids: tf.Tensor) -> tuple[tf.Tensor, ...]:
        hidden = tf.tanh(x @ self.kernel + self.bias) * tf.gather(self.table, ids)
        return hidden, tf.math.top_k(hidden, 2).indices


SPECS = [tf.TensorSpec([None, 4], tf.float32, "x"), tf.TensorSpec([None], tf.int64, "ids")]


@pytest.fixture
def hub(tmp_path) -> Hub:
    return make_hub(tmp_path / "hub", Net(), SPECS, ["hidden", "best"])


def test_frozen_graph_is_verified_and_keeps_names_and_order(hub, tmp_path):
    result = export_model(hub, ExportJob("converted/x.pb"), tmp_path / "x.pb")
    assert result.verification.passed and result.verification.samples == 4
    assert [spec.name for spec in result.inputs] == ["x", "ids"]
    assert [spec.name for spec in result.outputs] == ["hidden", "best"]
    nodes = {node.name: node.op for node in read_graph(tmp_path / "x.pb").node}
    assert nodes["x"] == nodes["ids"] == "Placeholder" and nodes["best"] == "Identity"
    assert not {"VarHandleOp", "ReadVariableOp"} & set(nodes.values())


def test_same_hub_same_bytes(hub, tmp_path):
    for name in ("a.pb", "b.pb"):
        export_model(hub, ExportJob("converted/x.pb"), tmp_path / name)
    assert (tmp_path / "a.pb").read_bytes() == (tmp_path / "b.pb").read_bytes()


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_weight_off_by_one_percent_fails_verification(hub, tmp_path, position):
    perturb(hub, hub.extra["variables"][position])
    result = export_model(hub, ExportJob("converted/x.pb"), tmp_path / "x.pb")
    assert not result.verification.passed
    assert "hidden" in result.verification.message


def test_with_variables_the_graph_has_no_weights_and_computes_once_they_are_set(hub, tmp_path):
    result = export_model(hub, ExportJob("converted/x.pb", frozen=False), tmp_path / "x.pb")
    assert result.verification is None and "frozen is false" in result.unverified_reason
    weights = hub.weights()
    graph_def = read_graph(tmp_path / "x.pb")
    assert graph_def.ByteSize() < sum(weights.nbytes(name) for name in weights)
    names = [node.name for node in graph_def.node if node.op == "VarHandleOp"]
    assert sorted(names) == sorted(hub.extra["variables"]) and len(names) == 3
    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        tf.import_graph_def(graph_def, name="")
        for name in names:
            handle = graph.get_tensor_by_name(f"{name}:0")
            session.run(tf.raw_ops.AssignVariableOp(resource=handle, value=tf.constant(weights[name])))
        for run in hub.reference():
            outputs = session.run(["hidden:0", "best:0"], dict(zip(["x:0", "ids:0"], run.inputs, strict=True)))
            np.testing.assert_allclose(outputs[0], run.outputs[0], rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(outputs[1], run.outputs[1])


def test_more_than_two_gigabytes_is_an_error(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(graph_bytes, "MAX_BYTES", 1000)
    with pytest.raises(UnsupportedError, match="2 GB: write frozen: false"):
        export_model(hub, ExportJob("converted/x.pb"), tmp_path / "x.pb")


def test_a_pytorch_hub_is_an_error_that_says_what_to_ask_for(tmp_path):
    with pytest.raises(UnsupportedError, match="ask for .onnx"):
        export_model(Hub(tmp_path, "pytorch"), ExportJob("converted/x.pb"), tmp_path / "x.pb")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "bool", "int64", "uint8", "complex64"])
@pytest.mark.parametrize("shape", [(), (0,), (3, 2)])
def test_streamed_constants_are_tensorflow_constants(tmp_path, dtype, shape):
    graph_def = tf.compat.v1.GraphDef()
    node = graph_def.node.add(name="w", op="Placeholder")
    node.attr["dtype"].type = tf.as_dtype(dtype).as_datatype_enum
    values = np.random.default_rng(0).integers(0, 2, shape)
    value = np.asarray(values).astype(tf.as_dtype(dtype).as_numpy_dtype)
    write_graph(tmp_path / "g.pb", graph_def, {"w": value})
    (stored,) = read_graph(tmp_path / "g.pb").node
    assert stored.op == "Const"
    read = tf.make_ndarray(stored.attr["value"].tensor)
    assert read.dtype == value.dtype and read.shape == value.shape
    np.testing.assert_array_equal(read, value)


def test_weights_pass_through_uncopied(tmp_path):
    graph_def = tf.compat.v1.GraphDef()
    graph_def.node.add(name="w", op="Placeholder").attr["dtype"].type = tf.float32.as_datatype_enum
    value = np.arange(1000, dtype=np.float32)
    large = [piece for piece in graph_pieces(graph_def, {"w": value}) if len(piece) > 1000]
    assert len(large) == 1 and np.shares_memory(np.frombuffer(large[0], np.float32), value)
