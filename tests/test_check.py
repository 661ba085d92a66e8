"""python -m converter check: any two files, on the same inputs, by the rule of every report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_models import write_graph

from converter import __main__ as command
from converter.commands.compare import check, sentence
from converter.errors import ConverterError, SourceError, UnsupportedError
from converter.verification.verify import Tolerance

WEIGHTS = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
KERNEL = np.random.default_rng(1).standard_normal((2, 3, 3, 3)).astype(np.float32)


def save(path: Path, nodes: list, inputs: list, outputs: list, constants: dict) -> str:
    graph = helper.make_graph(
        nodes, "g", inputs, outputs, [numpy_helper.from_array(value, name) for name, value in constants.items()]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return str(path)


def value(name: str, shape: list) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def dense(path: Path, weights: np.ndarray, batch: object = "N", names: tuple = ("x", "y")) -> str:
    """softmax(x @ W)"""
    x, y = names
    nodes = [helper.make_node("MatMul", [x, "W"], ["h"]), helper.make_node("Softmax", ["h"], [y], axis=-1)]
    return save(path, nodes, [value(x, [batch, 4])], [value(y, [batch, 3])], {"W": weights})


def convolution(path: Path, channels_last: bool) -> str:
    """A convolution of a (N, 3, 6, 8) image, or of a (1, 6, 8, 3) one to (1, 6, 8, 2)."""
    conv = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    if not channels_last:
        nodes = [helper.make_node("Conv", ["x", "K"], ["y"], **conv)]
        return save(path, nodes, [value("x", ["N", 3, 6, 8])], [value("y", ["N", 2, 6, 8])], {"K": KERNEL})
    nodes = [
        helper.make_node("Transpose", ["image"], ["a"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["a", "K"], ["b"], **conv),
        helper.make_node("Transpose", ["b"], ["map"], perm=[0, 2, 3, 1]),
    ]
    return save(path, nodes, [value("image", [1, 6, 8, 3])], [value("map", [1, 6, 8, 2])], {"K": KERNEL})


def test_equal_and_different(tmp_path: Path):
    a = dense(tmp_path / "a.onnx", WEIGHTS)
    b = dense(tmp_path / "b.onnx", WEIGHTS, names=("input:0", "scores:0"))
    result = check(a, b)
    assert (result["status"], result["reason"], result["reference"]) == ("verified", None, a)
    assert result["verification"]["samples"] == 4
    assert sentence(result).startswith(f"{a} and {b} compute the same: max difference ")
    different = dense(tmp_path / "c.onnx", WEIGHTS * 1.01)
    result = check(a, different)
    assert result["status"] == "inaccurate"
    assert "output y differs by" in result["reason"]
    assert check(a, different, tolerance=Tolerance(rtol=0.1))["status"] == "verified"


def test_a_fixed_batch_takes_the_rows_one_by_one(tmp_path: Path):
    result = check(dense(tmp_path / "a.onnx", WEIGHTS), dense(tmp_path / "b.onnx", WEIGHTS, batch=1))
    assert (result["status"], result["verification"]["samples"]) == ("verified", 4)
    result = check(dense(tmp_path / "c.onnx", WEIGHTS, batch=5), dense(tmp_path / "a.onnx", WEIGHTS))
    assert (result["status"], result["verification"]["samples"]) == ("verified", 20)


@pytest.mark.parametrize("first", [True, False])
def test_channels_may_lie_elsewhere(tmp_path: Path, first: bool):
    files = [convolution(tmp_path / "a.onnx", False), convolution(tmp_path / "b.onnx", True)]
    result = check(*(files if first else reversed(files)))
    assert result["status"] == "verified", result["reason"]
    assert result["notes"] == [f"{files[first]} has its channels {'last' if first else 'first'}"]


def test_inputs_that_cannot_be_the_same(tmp_path: Path):
    a = dense(tmp_path / "a.onnx", WEIGHTS)
    with pytest.raises(UnsupportedError, match=r"take inputs of other shapes: x \[-1,4\] and x \[-1,3,6,8\]"):
        check(a, convolution(tmp_path / "b.onnx", False))
    with pytest.raises(SourceError, match="nothing.onnx does not exist"):
        check(a, str(tmp_path / "nothing.onnx"))
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(ConverterError, match=r"broken.onnx does not open"):
        check(a, str(tmp_path / "broken.onnx"))


def test_a_source_is_the_reference_and_stdout_is_json(tmp_path: Path, capsys: pytest.CaptureFixture):
    """tiny.pb holds the weights of seed 0, as `dense` above does."""
    write_graph(tmp_path / "tiny.pb")
    a = dense(tmp_path / "a.onnx", WEIGHTS)
    assert command.main(["check", a, str(tmp_path / "tiny.pb"), "--input_nodes", "x:0"]) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert result["status"] == "verified" and result["reference"].endswith("tiny.pb")
    assert "compute the same" in printed.err
    wrong = dense(tmp_path / "wrong.onnx", WEIGHTS[::-1].copy())
    assert command.main(["check", str(tmp_path / "tiny.pb"), wrong]) == 1
    assert json.loads(capsys.readouterr().out)["status"] == "inaccurate"


def test_two_sources(tmp_path: Path):
    write_graph(tmp_path / "a.pb")
    write_graph(tmp_path / "b.pb", seed=1)
    write_graph(tmp_path / "same.pb")
    assert check(str(tmp_path / "a.pb"), str(tmp_path / "same.pb"))["status"] == "verified"
    assert check(str(tmp_path / "a.pb"), str(tmp_path / "b.pb"))["status"] == "inaccurate"


def test_pytorch_sources(tmp_path: Path):
    """A program and a TorchScript of the convolution above, against each other and a file with channels last."""
    import torch

    module = torch.nn.Conv2d(3, 2, 3, padding=1, bias=False).eval()
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(KERNEL))
    example = (torch.randn(1, 3, 6, 8),)
    program, script = str(tmp_path / "a.pt2"), str(tmp_path / "a.pt")
    torch.export.save(torch.export.export(module, example), program)
    torch.jit.save(torch.jit.trace(module, example), script)
    result = check(convolution(tmp_path / "b.onnx", True), program)
    assert (result["status"], result["reference"]) == ("verified", program)
    assert result["notes"] == [f"{tmp_path / 'b.onnx'} has its channels last"]
    assert check(program, script, {"input_shape": "1,3,6,8"})["status"] == "verified"


def every_other_format(folder: Path) -> dict[str, str]:
    """softmax(x @ W) as a Keras 2 and a Keras 3 file, a SavedModel, a checkpoint, a TFLite file and an int8 one."""
    import keras
    import tensorflow as tf
    import tf_keras

    paths = {name: str(folder / name) for name in ("a.h5", "b.keras", "c", "d.meta", "e.tflite", "f.tflite")}
    for name, package in (("a.h5", tf_keras), ("b.keras", keras)):
        layer = package.layers.Dense(3, use_bias=False, activation="softmax")
        model = package.Sequential([package.layers.Input((4,)), layer])
        layer.set_weights([WEIGHTS])
        model.save(paths[name])
    module = tf.Module()
    module.weights = tf.Variable(WEIGHTS)
    function = tf.function(lambda x: {"y": tf.nn.softmax(x @ module.weights)})
    concrete = function.get_concrete_function(tf.TensorSpec([None, 4], tf.float32, "x"))
    tf.saved_model.save(module, paths["c"], signatures=concrete)
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        variable = v1.get_variable("W", initializer=WEIGHTS)
        tf.nn.softmax(v1.placeholder(tf.float32, [None, 4], name="x") @ variable, name="y")
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, paths["d.meta"].removesuffix(".meta"))
    converter = tf.lite.TFLiteConverter.from_saved_model(paths["c"])
    Path(paths["e.tflite"]).write_bytes(converter.convert())
    rows = np.random.default_rng(0).standard_normal((200, 1, 4)).astype(np.float32)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([row] for row in rows)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    Path(paths["f.tflite"]).write_bytes(converter.convert())
    return paths


def test_any_two_formats(tmp_path: Path):
    """Protobuf and the forms of PyTorch are above."""
    paths = every_other_format(tmp_path)
    wrong = dense(tmp_path / "wrong.onnx", WEIGHTS * 1.02)
    for first, second in (("a.h5", "e.tflite"), ("b.keras", "c"), ("e.tflite", "d.meta")):
        result = check(paths[first], paths[second])
        assert result["status"] == "verified", result["reason"]
        assert not result["verification"]["weak_evidence"]
    # Steps of 1/256 in the output, and of the calibrated range in the input.
    assert check(paths["e.tflite"], paths["f.tflite"])["status"] == "inaccurate"
    assert check(paths["f.tflite"], paths["d.meta"], tolerance=Tolerance(rtol=0.05))["status"] == "verified"
    assert check(paths["e.tflite"], wrong)["status"] == "inaccurate"


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["nope.pb", "a.onnx"], "nope.pb does not exist"),
        (["a.onnx", "b.onnx", "--input_shape", "1,x"], "input_shape: '1,x' is not a list of sizes"),
    ],
)
def test_mistakes_are_one_sentence(argv: list, part: str, capsys: pytest.CaptureFixture):
    assert command.main(["check", *argv]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and part in printed.err and printed.err.count("\n") == 1


@pytest.mark.parametrize("first", [True, False], ids=["as the reference", "as the other"])
def test_a_file_that_opens_and_does_not_run(first: bool, tmp_path: Path, capsys: pytest.CaptureFixture):
    shape = np.array([7, 7], np.int64)
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    broken = save(tmp_path / "broken.onnx", [node], [value("x", ["N", 4])], [value("y", ["N", 3])], {"shape": shape})
    files = [broken, dense(tmp_path / "dense.onnx", WEIGHTS)]
    assert command.main(["check", *(files if first else files[::-1])]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and f"{broken} does not run" in printed.err and printed.err.count("\n") == 1
