"""A parameter that means nothing for a target: an error in a job, a note where it may stand for other targets."""

from __future__ import annotations

import pytest
from conftest import ROOT, Project
from small_models import write_graph

from converter.planning.config import read_config
from converter.planning.parameters import PARAMETERS
from converter.planning.planner import Plan, Planner, parameters_of

SOURCES = {"keras": "m.h5", "savedmodel": "saved", "checkpoint": "m.meta", "protobuf": "m.pb", "pytorch": "m.pt"}
VALUES = {
    "input_nodes": "x",
    "output_nodes": "y",
    "input_shape": "1,4",
    "batch": 2,
    "length": 64,
    "constants": {"flag": False},
    "network_script": "net.py",
    "network_name": "Net",
    "network_args": [1],
    "state_dict_key": "model",
    "strict": False,
    "savedmodel_tag": "train",
    "savedmodel_signature": "call",
    "toolchain": "default",
    "trusted": True,
    "onnx_opset": 13,
    "frozen": False,
    "quantization": {"type": "float16"},
    "input_layout": "nchw",
    "backend": "default",
    "device": "litert-2.23",
    "verify": {"rtol": 0.1},
}


def planned(source: str, extension: str, **config: dict) -> Plan:
    target = f"converted/x.{extension}"
    jobs = [{"convert_from": SOURCES[source], "convert_to": target, **config.pop("job", {})}]
    return Planner(read_config({"jobs": jobs, **config}, ROOT / "configs" / "zoo.yaml")).plan(f"x.{extension}")


@pytest.fixture(autouse=True)
def _sources(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in SOURCES.values():
        (tmp_path / name).touch() if "." in name else (tmp_path / name).mkdir()
    (tmp_path / "saved" / "saved_model.pb").touch()


def test_every_parameter_is_used_or_refused_by_name():
    """Of all parameters of all sources and targets: those that a job takes are in its plan, others are its error."""
    assert set(VALUES) | {"convert_from", "convert_to", "skip"} == set(PARAMETERS)
    for source in SOURCES:
        for extension in ("onnx", "tflite", "pb", "h5", "hdf5", "keras"):
            if planned(source, extension).error:
                continue
            for name, value in {**VALUES, **({"device": "onnxruntime-1.32"} if extension == "onnx" else {})}.items():
                plan = planned(source, extension, job={name: value})
                if plan.error:
                    assert plan.error.startswith(f"{name} applies to "), plan.error
                    assert plan.error.endswith("leave it out of the job") and SOURCES[source] in plan.error
                    assert plan.source is None
                else:
                    assert name in {**plan.source.parameters, **plan.parameters} and not plan.notes
                    assert name in parameters_of(source, extension) | {"verify"}


@pytest.mark.parametrize(
    ("source", "extension", "parameters", "where"),
    [
        (
            "keras",
            "pb",
            {"quantization": {"type": "float16"}},
            "quantization applies to .onnx, .tflite and .cc, not to ",
        ),
        ("keras", "tflite", {"onnx_opset": 10}, "onnx_opset applies to .onnx and .xml, not to "),
        (
            "pytorch",
            "onnx",
            {"input_nodes": "x"},
            "to keras, savedmodel, checkpoint, protobuf and onnx sources, not to ",
        ),
        (
            "keras",
            "tflite",
            {"input_layout": "nhwc"},
            ".tflite, .h5, .hdf5, .keras and .cc from pytorch, huggingface and onnx sources, not to ",
        ),
        ("keras", "tflite", {"backend": "keras2onnx"}, "backend applies to .onnx, .h5, .hdf5 and .keras, not to "),
        ("protobuf", "onnx", {"savedmodel_tag": "serve"}, "savedmodel_tag applies to savedmodel sources, not to "),
    ],
)
def test_a_jobs_error_says_where_it_applies(source, extension, parameters, where):
    expected = f"{where}a {source} source ({SOURCES[source]}) that becomes .{extension}: leave it out of the job"
    assert expected in planned(source, extension, job=parameters).error


def test_below_models_and_defaults_it_may_stand_for_other_targets():
    shared = {"quantization": {"type": "float16"}, "backend": "keras2onnx"}
    config = {"models": {"m": shared}, "defaults": {"state_dict_key": "k", "onnx_opset": 13}}
    assert planned("keras", "tflite", **config).notes == (
        "state_dict_key (defaults) was not used: state_dict_key applies to pytorch sources",
        "onnx_opset (defaults) was not used: onnx_opset applies to .onnx and .xml",
        "backend (models: m) was not used: backend applies to .onnx, .h5, .hdf5 and .keras",
    )
    assert planned("keras", "pb", **config).notes[-2:] == (
        "quantization (models: m) was not used: quantization applies to .onnx, .tflite and .cc",
        "backend (models: m) was not used: backend applies to .onnx, .h5, .hdf5 and .keras",
    )
    plan = planned("pytorch", "onnx", **config)
    assert plan.notes == ("not used: backend keras2onnx converts keras to .onnx only, not pytorch to .onnx",)
    assert plan.source.parameters == {"state_dict_key": "k"}
    assert plan.parameters == {"onnx_opset": 13, "quantization": {"optimization": "default", "type": "float16"}}


def test_the_report_notes_it_and_another_note_makes_nothing_again(project: Project):
    write_graph(project.folder / "models" / "tiny.pb")
    run = project.snakemake("converted/tiny.onnx", config={"defaults": {"input_layout": "nchw"}})
    assert run.returncode == 0, run.stderr
    note = "input_layout (defaults) was not used: "
    assert any(entry.startswith(note) for entry in project.report("tiny.onnx")["notes"])
    other = {"models": {"tiny": {"savedmodel_tag": "it's, a test"}}}
    run = project.snakemake("converted/tiny.onnx", config=other)
    assert run.returncode == 0 and "Nothing to be done" in run.stderr + run.stdout
    assert any(entry.startswith(note) for entry in project.report("tiny.onnx")["notes"])
