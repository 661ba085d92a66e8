"""The oldest release of its runtime that can open a file: in every report of one, and in what inspection says of sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import tensorflow as tf
from conftest import Project
from onnx import TensorProto, helper

from converter.onnx import oldest_runtime as of_onnx
from converter.tflite import oldest_runtime as of_tflite
from converter.tflite.flatbuffer import read, schema, write


def _onnx(path: Path, opset: int, ir: int, operator: str = "Relu", domain: str = "") -> Path:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy")
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"], domain=domain)], "g", [x], [y])
    imports = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=ir), path)
    return path


@pytest.mark.parametrize(
    ("opset", "ir", "release", "reason"),
    [
        (7, 3, "1.0", "opset 7"),
        (13, 7, "1.6", "opset 13"),
        (14, 7, "1.8", "opset 14"),
        (13, 8, "1.9", "IR version 8"),
        (18, 8, "1.14", "opset 18"),
        (19, 9, "1.16", "opset 19"),
        (17, 10, "1.18", "IR version 10"),
        (25, 13, "1.24", "opset 25"),
    ],
)
def test_onnx_by_opset_and_ir_version(opset: int, ir: int, release: str, reason: str, tmp_path: Path):
    found = of_onnx.of_file(_onnx(tmp_path / "x.onnx", opset, ir))
    assert (found["runtime"], found["release"], found["reason"]) == ("onnxruntime", release, reason)
    assert [need["need"] for need in found["needs"]] == [f"opset {opset}", f"IR version {ir}"]


def test_onnx_what_no_table_has_is_not_guessed(tmp_path: Path):
    found = of_onnx.of_file(_onnx(tmp_path / "x.onnx", 13, 7, "Gelu", "com.microsoft"))
    assert found["release"] is None
    assert found["reason"] == "not known: no published table has Gelu of com.microsoft; at least 1.6 for opset 13"
    assert of_onnx.of_file(_onnx(tmp_path / "y.onnx", 999, 7))["release"] is None


def _tflite(layers: list[tf.keras.layers.Layer], shape: tuple[int, ...], quantize: bool = False) -> bytes:
    model = tf.keras.Sequential([tf.keras.Input(shape, batch_size=1), *layers])
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if quantize:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        values = np.random.default_rng(0).normal(size=(8, 1, *shape)).astype(np.float32)
        converter.representative_dataset = lambda: ([value] for value in values)
    return converter.convert()


def _converters_own(data: bytes) -> str:
    """What TensorFlow's converter wrote into the file's metadata."""
    model = read(data)
    entry = next(entry for entry in model.metadata if entry.name == b"min_runtime_version")
    return bytes(model.buffers[entry.buffer].data).rstrip(b"\0").decode()


@pytest.mark.parametrize("quantize", [False, True])
@pytest.mark.parametrize("kind", ["convolutions", "dense", "upsampling"])
def test_tensorflow_lite_as_tensorflows_converter_says(kind: str, quantize: bool, tmp_path: Path):
    layers = tf.keras.layers
    data = {
        "convolutions": lambda: _tflite([layers.Conv2D(4, 3), layers.DepthwiseConv2D(3)], (12, 12, 3), quantize),
        "dense": lambda: _tflite([layers.Dense(40, "gelu"), layers.Softmax()], (40,), quantize),
        "upsampling": lambda: _tflite(
            [layers.UpSampling2D(interpolation="bilinear"), layers.PReLU()], (6, 6, 2), quantize
        ),
    }[kind]()
    (tmp_path / "x.tflite").write_bytes(data)
    found = of_tflite.of_file(tmp_path / "x.tflite")
    assert found["runtime"] == "TensorFlow Lite" and found["release"] == _converters_own(data)
    assert {need["need"].split()[0] for need in found["needs"]} >= {found["reason"].split()[0]}


def test_tensorflow_lite_versions_of_no_table_are_not_guessed(tmp_path: Path):
    model = read(_tflite([tf.keras.layers.Dense(4)], (4,)))
    model.operatorCodes[0].version = 99
    write(tmp_path / "x.tflite", model)
    found = of_tflite.of_file(tmp_path / "x.tflite")
    assert found["release"] is None and "FULLY_CONNECTED version 99" in found["reason"]
    model.operatorCodes[0].customCode = b"Mine"
    model.operatorCodes[0].builtinCode = schema.BuiltinOperator.CUSTOM
    model.operatorCodes[0].deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    write(tmp_path / "x.tflite", model)
    assert "Mine version 99" in of_tflite.of_file(tmp_path / "x.tflite")["reason"]


def test_operators_of_the_table_are_those_of_the_schema():
    known = vars(schema.BuiltinOperator)
    assert all(name in known for name in of_tflite.releases())
    assert of_tflite.releases()["CONV_2D"]["6"] == "2.9.0"


def test_reports_and_inspections_say_it(project: Project):
    _onnx(project.folder / "models" / "a.onnx", 13, 7, "Sigmoid")
    (project.folder / "models" / "b.tflite").write_bytes(_tflite([tf.keras.layers.Dense(4)], (4,)))
    run = project.snakemake(
        "converted/a.tflite", "converted/b.onnx", "reports/a.inspect.json", "reports/b.inspect.json"
    )
    assert run.returncode == 0, run.stderr
    made = project.report("a.tflite")["oldest_runtime"]
    assert made["runtime"] == "TensorFlow Lite" and made["release"] == "1.14.0"
    assert [need["need"] for need in made["needs"]] == ["LOGISTIC version 1"]
    assert project.report("b.onnx")["oldest_runtime"]["runtime"] == "onnxruntime"
    assert project.report("a.inspect")["oldest_runtime"]["release"] == "1.6"
    inspected = project.report("b.inspect")["oldest_runtime"]
    assert [need["need"].split(" ")[0] for need in inspected["needs"]] == ["FULLY_CONNECTED"]
    assert inspected["release"] == "1.5.0"
