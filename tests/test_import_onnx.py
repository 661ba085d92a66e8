"""ONNX files converted by Snakemake itself, as users do: to every target, cut, with sizes and constants, at another opset."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import last_line
from onnx import helper
from onnx_models import convnet, embedding, external, info, model_of, random


def run_onnx(path, **inputs):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def test_every_target(project):
    models = project.folder / "models"
    external(convnet(), models / "net.onnx", "net.weights")
    onnx.save(embedding(), models / "tokens.onnx")
    targets = [f"converted/net.{suffix}" for suffix in ("tflite", "float16.tflite", "keras", "h5", "pb")]
    targets += ["converted/tokens.tflite", "converted/tokens.keras", "reports/net.inspect.json"]
    result = project.snakemake("-c2", "-k", *targets)
    assert result.returncode == 0, result.stderr
    statuses = {target: project.report(target.removeprefix("converted/"))["status"] for target in targets[:-1]}
    assert set(statuses.values()) == {"verified"}, statuses
    report = project.report("net.tflite")
    assert report["route"] == ["import_onnx", "onnx_to_torch", "torch_to_keras", "export_tflite"]
    assert report["outputs"][0]["shape"] == [None, 5]
    assert report["inputs"][0]["shape"] == [None, 16, 16, 3]
    assert report["verification"]["coverage"]["weights"] == 1.0
    inspection = json.loads((project.folder / "reports" / "net.inspect.json").read_text())
    assert inspection["operators"]["Conv"] == 2


def test_a_changed_weight_in_the_file_beside_it_makes_the_target_again(project):
    models = project.folder / "models"
    external(convnet(), models / "net.onnx", "net.weights")
    config = {"models": {"net": {"onnx_opset": 13}}}
    assert project.snakemake("-c1", "converted/net.onnx", config=config).returncode == 0
    x = random(2, 3, 16, 16)
    before = run_onnx(project.folder / "converted" / "net.onnx", x=x)[0]
    values = bytearray((models / "net.weights").read_bytes())
    values[:4] = np.float32(3).tobytes()
    (models / "net.weights").write_bytes(values)
    assert project.snakemake("-c1", "converted/net.onnx", config=config).returncode == 0
    after = run_onnx(project.folder / "converted" / "net.onnx", x=x)[0]
    assert np.abs(after - before).max() > 1e-3


def test_what_changes_is_said_by_parameters(project):
    models = project.folder / "models"
    onnx.save(convnet(), models / "net.onnx")
    jobs = [
        {"convert_from": "models/net.onnx", "convert_to": "converted/old.onnx", "onnx_opset": 12},
        {"convert_from": "models/net.onnx", "convert_to": "converted/one.onnx", "batch": 1},
        {"convert_from": "models/net.onnx", "convert_to": "converted/cut.onnx", "output_nodes": "s"},
        {"convert_from": "models/net.onnx", "convert_to": "converted/cut.tflite", "input_nodes": "r1"},
    ]
    result = project.snakemake("-c2", "-k", config={"jobs": jobs})
    assert result.returncode == 0, result.stderr
    files = {name: onnx.load(project.folder / "converted" / f"{name}.onnx") for name in ("old", "one", "cut")}
    assert files["old"].opset_import[0].version == 12
    assert files["one"].graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    assert [entry.name for entry in files["cut"].graph.output] == ["s"]
    source = run_onnx(models / "net.onnx", x=random(1, 3, 16, 16))[0]
    for name in ("old", "one"):
        np.testing.assert_allclose(
            run_onnx(project.folder / "converted" / f"{name}.onnx", x=random(1, 3, 16, 16))[0], source, rtol=1e-4
        )
    assert project.report("cut.tflite")["inputs"][0]["shape"] == [None, 16, 16, 8]


def test_a_copy_is_refused_in_a_sentence(project):
    onnx.save(convnet(), project.folder / "models" / "net.onnx")
    result = project.snakemake("-c1", "converted/net.onnx")
    assert result.returncode == 1
    assert "models/net.onnx is of that format already, and nothing is to change: write input_nodes" in result.stderr
    assert project.converted() == []


def test_constants_and_branches(project):
    """A rate that chooses a branch, as voice detectors have it: given as a constant, the branch is no part of the file."""
    weights = {name: onnx.numpy_helper.from_array(random(4, 4, seed=seed), "w") for seed, name in enumerate(("a", "b"))}
    branches = {
        name: helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["out"])], name, [], [info("out", ["n", 4])], [w]
        )
        for name, w in weights.items()
    }
    nodes = [
        helper.make_node("Equal", ["rate", "usual"], ["c"]),
        helper.make_node("If", ["c"], ["y"], then_branch=branches["a"], else_branch=branches["b"]),
    ]
    model = model_of(
        nodes, [info("x", ["n", 4]), info("rate", [], "int64")], [info("y", ["n", 4])], [("usual", np.array(16000))]
    )
    onnx.save(model, project.folder / "models" / "voice.onnx")
    config = {"models": {"voice": {"constants": {"rate": 16000}}}}
    result = project.snakemake("-c2", "-k", "converted/voice.tflite", "converted/voice.keras", config=config)
    assert result.returncode == 0, result.stderr
    assert [entry["name"] for entry in project.report("voice.tflite")["inputs"]] == ["x"]


def _random():
    nodes = [
        helper.make_node("RandomNormalLike", ["x"], ["r"]),
        helper.make_node("Add", ["x", "r"], ["y"]),
    ]
    return model_of(nodes, [info("x", ["n"])], [info("y", ["n"])])


def _unknown():
    nodes = [helper.make_node("Mystery", ["x"], ["y"], domain="their.own")]
    return model_of(nodes, [info("x", ["n"])], [info("y", ["n"])], domains=["their.own"])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda p: p.write_bytes(b"\x08\x07" * 100), "does not open|holds no ONNX graph|is damaged"),
        (lambda p: onnx.save(_random(), p), "draws random numbers \\(RandomNormalLike\\)"),
        (lambda p: onnx.save(_unknown(), p), "their.own|Mystery"),
    ],
)
def test_refusals(project, make, sentence):
    import re

    make(project.folder / "models" / "bad.onnx")
    result = project.snakemake("-c1", "converted/bad.tflite")
    assert result.returncode == 1 and project.converted() == []
    assert re.search(sentence, project.report("bad.tflite")["reason"]), last_line(result)
