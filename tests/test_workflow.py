"""From a command to files, reports and sentences: Snakemake in a user's folder, on small real sources."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from conftest import ROOT, Project, last_line
from text_graphs import linear


def schema(name: str) -> dict:
    return json.loads((ROOT / "configs" / f"{name}.schema.json").read_text())


def closing_lines(run) -> list[str]:
    """The sentences after Snakemake's own output, sorted."""
    return sorted(line for line in run.stderr.splitlines() if line.startswith(("converted/", "out/")))


def test_mistakes_cost_only_their_own_targets(project: Project):
    """One command with a good target and one of every mistake that planning finds."""
    models = project.folder / "models"
    (models / "tiny.pbtxt").write_text(linear())
    for name in ("two.h5", "two.keras", "objects.index", "truncated.pb"):
        (models / name).write_bytes(b"\x0a\xff")
    expected = {
        "tinny.onnx": "no source for tinny: looked in models/, in the jobs and models of the configuration, and in the "
        "zoo; did you mean tiny?",
        "two.onnx": "two is ambiguous, models/two.h5 and models/two.keras both fit: remove one, or name the one you mean "
        "with convert_from under models: two:",
        "tiny.onxx": ".onxx is no target format: did you mean .onnx?",
        "tiny": "a name without extension is no target format: write one of .onnx, .tflite, .pb, .h5, .hdf5, .keras, .cc, .xml",
        "tiny.pb": "a protobuf source (models/tiny.pbtxt) does not become .pb; write one of .onnx, .tflite, .cc, .xml",
        "tiny.int8.tflite": "quantization.type int8 needs representative data: write quantization.load, a script with "
        "get_dataset() or an .npz file",
        "objects.tflite": "models/objects.index belongs to a checkpoint without a graph (no models/objects.meta; "
        "TensorFlow 2 writes such): load it in the code that builds the model, save that with tf.saved_model.save, and "
        "convert the SavedModel",
    }
    run = project.snakemake(
        "converted/tiny.onnx",
        "reports/tiny.inspect.json",
        "converted/truncated.onnx",
        *(f"converted/{name}" for name in expected),
    )
    assert run.returncode == 1
    assert project.converted() == ["tiny.onnx"]
    lines = closing_lines(run)
    assert [line for line in lines if "truncated" not in line] == sorted(
        f"converted/{name}: {sentence}" for name, sentence in expected.items()
    )
    assert last_line(run) in lines and "Traceback" not in run.stdout + run.stderr
    assert len(lines) == len(expected) + 1
    validator = jsonschema.Draft202012Validator(schema("report"))
    for name, sentence in expected.items():
        report = project.report(name)
        validator.validate(report)
        assert (report["status"], report["reason"], report["target"]) == ("failed", sentence, f"converted/{name}")
    truncated = project.report("truncated.onnx")
    validator.validate(truncated)
    assert "models/truncated.pb" in truncated["reason"] and truncated["source"]["bytes"] == 2
    report = project.report("tiny.onnx")
    validator.validate(report)
    assert report["status"] == "verified" and report["route"] == ["import_protobuf", "export_onnx"]
    assert "converted/tiny.onnx  verified" in run.stdout
    inspection = project.report("tiny.inspect")
    jsonschema.Draft202012Validator(schema("inspection")).validate(inspection)
    assert inspection["inputs"] == [{"name": "x", "shape": [None, 2], "dtype": "float32"}]
    assert inspection["operators"]["MatMul"] == 1 and inspection["targets"] == {
        "onnx": "ok",
        "tflite": "ok",
        "cc": "ok",
        "xml": "ok",
    }


def test_jobs_anywhere_under_any_name(project: Project):
    """Paths are ordinary paths, inside and outside converted/; a bare `snakemake` makes what is not skipped."""
    source = 'models/it\'s; a "b" & $(touch pwned) `touch pwned`.pbtxt'
    (project.folder / source).write_text(linear())
    inside = "converted/sub dir/c'd; x.onnx"
    outside = 'out/-e "f" *.onnx'
    absolute = str(project.folder / "abs ö.onnx")
    jobs = [{"convert_from": source, "convert_to": target} for target in (inside, outside, absolute)]
    jobs += [{"convert_from": source, "convert_to": "converted/skipped.onnx", "skip": "True"}]
    run = project.snakemake(config={"jobs": jobs})
    assert run.returncode == 0, run.stderr
    for target in (inside, outside, absolute):
        assert (project.folder / target).stat().st_size > 0
    assert project.converted() == ["sub dir/c'd; x.onnx"]
    for name in ("sub dir/c'd; x.onnx", outside, absolute.lstrip("/")):
        report = project.report(name)
        jsonschema.validate(report, schema("report"))
        assert report["status"] == "verified" and report["source"]["path"] == source
    assert not list(project.folder.rglob("pwned"))
    assert len(list((project.folder / "intermediate").glob("*-protobuf-*"))) == 1  # one import for all
    assert {path.name for path in project.folder.iterdir()} <= {
        *(
            "models",
            "converted",
            "out",
            "intermediate",
            "reports",
            "logs",
            ".snakemake",
            "abs ö.onnx",
            "test-config.json",
        )
    }


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"defaults": {"onnx_opste": 13}}, "defaults: unknown parameter 'onnx_opste': did you mean onnx_opset?"),
        (
            {"jobs": [{"convert_from": f"models/{name}.h5", "convert_to": "converted/x.onnx"} for name in "ab"]},
            "jobs 1 and 2 both write converted/x.onnx: give one another convert_to",
        ),
    ],
    ids=["unknown parameter", "duplicate"],
)
def test_a_mistake_in_the_configuration_ends_the_run(project: Project, config: dict, sentence: str):
    run = project.snakemake("converted/x.onnx", config=config)
    assert run.returncode == 1
    assert last_line(run) == sentence and "Traceback" not in run.stderr
    assert not (project.folder / "converted").exists()


def test_a_target_cannot_leave_converted(project: Project):
    (project.folder / "models" / "tiny.pbtxt").write_text(linear())
    run = project.snakemake("converted/../../tiny.onnx")
    assert run.returncode == 1
    assert not Path(project.folder.parent, "tiny.onnx").exists() and project.converted() == []
