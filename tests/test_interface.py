"""A converted file's inputs and outputs have the source's names in the source's order, or it is not published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import tensorflow as tf
from export_tflite import export_model
from onnx import TensorProto, helper
from tf_hub import make_hub

from converter.contracts import ExportJob
from converter.tflite.flatbuffer import read, schema, write
from converter.verification.runtimes import OnnxModel, check_interface
from converter.verification.tflite import RuntimeRefusal, verify_tflite
from converter.verification.verify import Tolerance


def _difference(path: Path, inputs: list[str], outputs: list[str]) -> OnnxModel:
    """An ONNX file of a - b and b - a, its inputs and outputs listed in these orders."""
    nodes = [helper.make_node("Sub", ["a", "b"], ["left"]), helper.make_node("Sub", ["b", "a"], ["right"])]
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("a", "b", "left", "right")
    }
    graph = helper.make_graph(nodes, "g", [values[name] for name in inputs], [values[name] for name in outputs])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return OnnxModel(path)


@pytest.mark.parametrize(
    ("inputs", "outputs", "said"),
    [
        (["a", "b"], ["left", "right"], None),
        (["b", "a"], ["left", "right"], "inputs are b, a, and should be a, b"),
        (["a", "b"], ["right", "left"], "outputs are right, left, and should be left, right"),
        (["a", "b"], ["left"], "outputs are left, and should be left, right"),
    ],
)
def test_onnx(inputs: list[str], outputs: list[str], said: str | None, tmp_path: Path) -> None:
    model = _difference(tmp_path / "x.onnx", inputs, outputs)
    if said is None:
        check_interface(model, ["a", "b"], ["left", "right"])
        check_interface(model, ["a", "unused", "b"], ["left", "right"])
        return
    with pytest.raises(ValueError, match=said):
        check_interface(model, ["a", "b"], ["left", "right"])


def _reverse(model: schema.ModelT, what: str) -> None:
    setattr(model.subgraphs[0], what, np.array(getattr(model.subgraphs[0], what)[::-1]))


@pytest.mark.parametrize("what", ["inputs", "outputs"])
def test_tflite(what: str, tmp_path: Path) -> None:
    """By name the file is right; by position it is not."""
    specs = [tf.TensorSpec([None, 3], tf.float32, name) for name in ("a", "b")]
    hub = make_hub(tmp_path, lambda a, b: (a - b, tf.tanh(a) * b), specs, ["left", "right"])
    path = tmp_path / "x.tflite"
    assert export_model(hub, ExportJob("converted/x.tflite"), path).verification.passed
    arguments = path, hub.inputs, hub.outputs, hub.reference(), Tolerance()
    assert verify_tflite(*arguments)[0].passed
    model = read(path.read_bytes())
    _reverse(model, what)
    write(path, model)
    with pytest.raises(RuntimeRefusal, match=f"the file's {what} are"):
        verify_tflite(*arguments)


def test_a_tensor_may_be_two_outputs(tmp_path: Path) -> None:
    """LiteRT lists such a tensor once, wherever its names stand."""
    specs = [tf.TensorSpec([None, 3], tf.float32, "x")]

    def function(x: tf.Tensor) -> tuple:
        y = tf.tanh(x)
        return y, x * 2.0, y

    hub = make_hub(tmp_path, function, specs, ["first", "second", "third"])
    assert export_model(hub, ExportJob("converted/x.tflite"), tmp_path / "x.tflite").verification.passed
