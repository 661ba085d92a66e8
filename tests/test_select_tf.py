"""Files with Select-TF operators are run before they are published: node by node, also within loops and branches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from export_tflite import export_model
from flatbuffers import flexbuffers
from tf_hub import make_hub

from converter.contracts import ExportJob, ExportResult
from converter.errors import UnsupportedError, UntrustedError
from converter.hub.hub import Hub
from converter.tf.runtime.flex_model import FlexModel
from converter.tf.tflite import export
from converter.tflite.flatbuffer import operators, read, write
from converter.verification.runtimes import open_tflite


def convert(hub: Hub, path: Path) -> ExportResult:
    return export_model(hub, ExportJob("converted/x.tflite", quantization={"opsset": "tf"}), path)


def factor(x: tf.Tensor) -> tf.Tensor:
    """Cholesky, which TensorFlow Lite has as a Select-TF operator only, of a matrix that it takes."""
    return tf.linalg.cholesky(tf.matmul(x, x, transpose_b=True) + 3.0 * tf.eye(3))


def looped(x):
    return tf.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, factor(a)), (tf.constant(0), x))[1]


def branched(x):
    return tf.cond(tf.reduce_sum(x) > 0, lambda: factor(x), lambda: -x)


def two_ways(x):
    return factor(x)[:, 0] * 2.0, tf.nn.softmax(factor(x + 1.0)[:, :, 0])


FUNCTIONS = {"y": factor, "loop": looped, "branch": branched, "first,second": two_ways}


@pytest.mark.parametrize("outputs", FUNCTIONS)
def test_a_file_is_run_and_compared(outputs, tmp_path):
    specs = [tf.TensorSpec([2, 3, 3], tf.float32, "x")]
    hub = make_hub(tmp_path / "hub", FUNCTIONS[outputs], specs, outputs.split(","), batch_dynamic=False)
    result = convert(hub, tmp_path / "x.tflite")
    assert result.verification.passed and result.unverified_reason is None
    assert "tensorflow" in result.verification.runtime
    assert any("FlexCholesky" in note and "Flex delegate" in note for note in result.notes)
    assert result.decisions == ["needs the Flex delegate"]
    assert [spec.name for spec in result.outputs] == outputs.split(",")


def test_texts_and_lists_of_tensors_pass_between_operators(tmp_path):
    specs = [tf.TensorSpec([None, 4], tf.int64, "x")]
    hub = make_hub(tmp_path / "hub", lambda x: tf.strings.to_hash_bucket_fast(tf.strings.as_string(x), 7), specs, ["y"])
    assert convert(hub, tmp_path / "x.tflite").verification.passed

    def growing(x):
        array = tf.TensorArray(tf.float32, 0, dynamic_size=True, element_shape=None)
        step = lambda i, a: (i + 1, a.write(i, tf.repeat(x[i], i + 1)[:2]))  # noqa: E731
        return tf.while_loop(lambda i, a: i < tf.shape(x)[0], step, (tf.constant(0), array))[1].stack()

    hub = make_hub(tmp_path / "lists", growing, [tf.TensorSpec([None, 4], tf.float32, "x")], ["y"])
    result = convert(hub, tmp_path / "x.tflite")
    assert result.verification.passed and any("FlexTensorList" in note for note in result.notes)


def changed(path: Path, change) -> Path:
    """The file with the NodeDef of its first Flex operator changed."""
    model = read(path.read_bytes())
    operator = next(operator for _, operator, name in operators(model) if name.startswith("Flex"))
    options = flexbuffers.GetRoot(bytes(operator.customOptions)).AsVector
    node = tf.compat.v1.NodeDef.FromString(bytes(options[1].AsStringBytes))
    change(node)
    builder = flexbuffers.Builder()
    with builder.Vector():
        builder.String(node.op)
        builder.String(node.SerializeToString().decode("latin-1"))
    operator.customOptions = np.frombuffer(bytes(builder.Finish()), np.uint8)
    write(path, model)
    return path


@pytest.fixture
def hub(tmp_path) -> Hub:
    specs = [tf.TensorSpec([None, 3, 3], tf.float32, "x")]
    return make_hub(tmp_path / "hub", lambda x: tf.linalg.cholesky(factor(x) @ tf.eye(3)), specs, ["y"])


def corrupting(monkeypatch, change) -> None:
    """Let the exporter write files with a change."""

    def faulty(path, model):
        write(path, model)
        changed(path, change)

    monkeypatch.setattr(export, "write", faulty)


def test_a_wrong_operator_is_found(hub, tmp_path, monkeypatch):
    def other(node):
        node.op, node.name = "MatrixInverse", "MatrixInverse"

    corrupting(monkeypatch, other)
    result = convert(hub, tmp_path / "x.tflite")
    (output,) = result.verification.outputs
    assert not result.verification.passed and "output y" in result.verification.message
    # By far, on whatever kind of samples stands for all: not by another rounding.
    assert not output["passed"] and output["max_abs_diff"] > 100 * output["tolerance"]


@pytest.mark.parametrize("operator", ["Placeholder", "NoSuchOperator", "MutexV2"])
def test_an_operator_that_cannot_run_is_not_published(operator, hub, tmp_path, monkeypatch):
    def other(node):
        node.Clear()
        node.op = node.name = operator
        if operator == "Placeholder":
            node.attr["dtype"].type = 1

    corrupting(monkeypatch, other)
    with pytest.raises(UnsupportedError, match="cannot run the converted model"):
        convert(hub, tmp_path / "x.tflite")


def test_an_operator_that_reads_files_is_refused(hub, tmp_path):
    convert(hub, tmp_path / "x.tflite")
    assert isinstance(open_tflite(tmp_path / "x.tflite"), FlexModel)

    def other(node):
        node.Clear()
        node.op = node.name = "ReadFile"

    with pytest.raises(UntrustedError, match="reads files"):
        FlexModel(changed(tmp_path / "x.tflite", other))
