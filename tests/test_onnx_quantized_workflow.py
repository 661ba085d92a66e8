"""Quantized ONNX files by Snakemake, as users ask for them: of sources of every framework, with rankings and a page."""

from __future__ import annotations

import json
import re

import jsonschema
import numpy as np
import onnx
import pytest
from conftest import ROOT, Project, last_line
from onnx import TensorProto
from onnx_quantized import classifier, data, held

REPORT, LAYERS = (json.loads((ROOT / "configs" / f"{name}.schema.json").read_text()) for name in ("report", "layers"))
VARIANTS = ("float16", "dynamic", "int8", "uint8", "int4")
SMALLEST = {"float16": 0.55, "dynamic": 0.35, "int8": 0.35, "uint8": 0.35, "int4": 0.25}
RNG = np.random.default_rng(0)


def dense(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) * np.sqrt(2 / shape[0])).astype(np.float32)


def frozen_graph(project: Project) -> None:
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [None, 24], name="x")
        h = tf.nn.relu(tf.matmul(x, tf.constant(dense(24, 300)), name="hidden"))
        h = tf.nn.relu(tf.matmul(h, tf.constant(dense(300, 400)), name="middle"))
        tf.matmul(h, tf.constant(dense(400, 6)), name="scores")
    (project.folder / "models" / "frozen.pb").write_bytes(graph.as_graph_def().SerializeToString())
    np.savez(project.folder / "frozen.npz", x=RNG.standard_normal((100, 24)).astype(np.float32))


def module(project: Project) -> None:
    import torch

    torch.manual_seed(0)
    layers = [
        torch.nn.Linear(24, 300),
        torch.nn.ReLU(),
        torch.nn.Linear(300, 400),
        torch.nn.ReLU(),
        torch.nn.Linear(400, 6),
    ]
    torch.save(torch.nn.Sequential(*layers).eval(), project.folder / "models" / "module.pt")
    np.savez(project.folder / "module.npz", x=RNG.standard_normal((100, 24)).astype(np.float32))


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    project = Project(tmp_path_factory.mktemp("quantized"))
    frozen_graph(project)
    module(project)
    onnx.save(classifier(), project.folder / "models" / "net.onnx")
    data(project.folder / "net.npz", 100)
    models = {name: {"quantization": {"load": f"{name}.npz"}} for name in ("frozen", "module", "net")}
    models["module"]["input_shape"] = "1,24"
    job = {"convert_from": "models/net.onnx", "convert_to": "converted/half.onnx", "quantization": {"type": "float16"}}
    targets = [f"converted/{name}.{variant}.onnx" for name in models for variant in VARIANTS]
    targets += ["converted/frozen.onnx", "converted/module.onnx", "converted/half.onnx"]
    targets += ["reports/net.int8.onnx.layers.json", "reports/frozen.onnx.quantization.html"]
    run = project.snakemake(*targets, config={"models": models, "jobs": [job]})
    assert run.returncode == 0, run.stderr
    return project


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ["frozen", "module", "net"])
def test_each_variant_of_each_framework(project: Project, name, variant):
    report = project.report(f"{name}.{variant}.onnx")
    jsonschema.Draft202012Validator(REPORT).validate(report)
    assert report["status"] == "verified", report["reason"]
    assert {entry["dtype"] for entry in (*report["inputs"], *report["outputs"])} == {"float32"}
    path = project.folder / "converted" / f"{name}.{variant}.onnx"
    dtypes = set(held(path))
    assert dtypes == {"float16"} if variant == "float16" else dtypes >= {"int4" if variant == "int4" else "int8"}
    if name != "net":  # whose convolutions stay as they are in 4 bits
        float_bytes = (project.folder / "converted" / f"{name}.onnx").stat().st_size
        assert path.stat().st_size < SMALLEST[variant] * float_bytes
    if variant in ("int8", "uint8"):
        described = report["metadata"]["quantization"]
        assert described["calibration_samples"] == 80 and report["verification"]["samples"] == 20
        assert "held out" in described["evaluated_on"] and described["float_operators"] == {}
    opset = {"float16": None, "int4": 21}.get(variant, 13)
    if opset and name != "net":
        assert report["opset"] == opset and report["opset_reason"] == f"a .{variant} file needs opset {opset}"


def test_a_block_of_a_job_says_what_the_file_is(project: Project):
    assert set(held(project.folder / "converted" / "half.onnx")) == {"float16"}
    model = onnx.load(project.folder / "converted" / "half.onnx")
    assert {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)} == {
        TensorProto.FLOAT
    }


def test_the_ranking_of_layers(project: Project):
    ranking = project.report("net.int8.onnx.layers")
    jsonschema.Draft202012Validator(LAYERS).validate(ranking)
    names = {layer["name"] for layer in ranking["layers"]}
    assert {"net/conv1", "net/depthwise", "net/project", "net/hidden", "net/scores"} <= names
    # Eight bits for each; those that move values lose nothing by themselves.
    ratios = {layer["name"]: layer["sqnr_db"] for layer in ranking["layers"]}
    assert all(ratios[name] > 30 for name in ("net/conv1", "net/depthwise", "net/project", "net/hidden", "net/scores"))
    assert ratios.get("net/flatten") is None
    assert ranking["trials"][0]["passed"] and len(ranking["trials"]) == 6


def test_the_page_compares_all_files(project: Project):
    text = (project.folder / "reports" / "frozen.onnx.quantization.html").read_text()
    assert "as ONNX files: 32-bit floats, and 5 kinds of quantization" in text
    rows = re.findall(r"<tr><td[^>]*>(\w+)</td><td[^>]*>(\w+)</td>", text)
    assert [row for row in rows if row[1] == "verified"] == [(name, "verified") for name in ("float32", *VARIANTS)]


@pytest.mark.parametrize(
    ("target", "entry", "sentence"),
    [
        ("net.fp16.onnx", {}, ".fp16.onnx is no kind of file that is made: write .float16.onnx"),
        ("net.half.tflite", {}, ".half.tflite is no kind of file that is made: write .float16.tflite"),
        ("net.int4.tflite", {}, "write one of .float16, .dynamic, .int8, .uint8.tflite"),
        ("net.int8.onnx", {}, "quantization.type int8 needs representative data: write quantization.load"),
        (
            "net.int8.onnx",
            {"quantization": {"load": "net.npz"}, "onnx_opset": 12},
            "onnx_opset 12 cannot express a .int8 file, which needs opset 13",
        ),
    ],
)
def test_mistakes(tmp_path, target, entry, sentence):
    project = Project(tmp_path)
    onnx.save(classifier(), tmp_path / "models" / "net.onnx")
    data(tmp_path / "net.npz")
    run = project.snakemake(f"converted/{target}", config={"models": {"net": entry}})
    assert run.returncode == 1 and sentence in last_line(run)
