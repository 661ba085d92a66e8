"""Profiles of devices: what does not fit is said by operator and not published; what can be done for a device is done."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest
from conftest import ROOT, Project, last_line
from onnx import TensorProto, helper

from converter.devices.facts import Facts, Operator, facts_of
from converter.devices.fit import check, sentence
from converter.errors import ParameterError
from converter.planning.config import read_config
from converter.planning.planner import Plan, Planner
from converter.planning.profiles import Profile, profile, profiles
from converter.tflite.flatbuffer import schema

SCHEMA = json.loads((ROOT / "configs" / "report.schema.json").read_text())
LOAD = {"quantization": {"load": "train.npz"}}


def facts(**given) -> Facts:
    usual = {
        "extension": "tflite",
        "bytes": 1000,
        "operators": [Operator("CONV_2D", 3, 2, 0), Operator("SOFTMAX", 2, 1, 1)],
        "free": [],
        "oldest": {"runtime": "TensorFlow Lite", "release": "2.3.0", "reason": "CONV_2D version 3", "needs": []},
    }
    return Facts(**{**usual, **given})


def a_profile(**given) -> Profile:
    return Profile(**{"name": "d", "title": "D", "formats": ("tflite",), "source": "s", **given})


@pytest.mark.parametrize(
    ("given", "file", "misfit"),
    [
        ({"release": "2.2"}, {}, "it needs TensorFlow Lite 2.3.0 (CONV_2D version 3)"),
        ({"release": "2.3"}, {}, None),
        ({"release": "2.10"}, {}, None),  # numbers, not texts
        ({"opset": (9, 13)}, {"opset": 14}, "it has opset 14, and 9 to 13 are taken"),
        ({"opset": (9, 13)}, {"opset": 8}, "it has opset 8, and 9 to 13 are taken"),
        ({"opset": (9, 13)}, {"opset": 13}, None),
        ({"ir_version": 8}, {"ir_version": 9}, "it has IR version 9, and up to 8 are taken"),
        ({"fixed_shapes": True}, {"free": ["x"]}, "input x has a size that is free"),
        ({"integer_only": True}, {}, "SOFTMAX computes in float"),
        ({"operators": {"CONV_2D": None}}, {}, "the device has no operator SOFTMAX version 2"),
        ({"operators": {"CONV_2D": 2, "SOFTMAX": 2}}, {}, "the device has no operator CONV_2D version 3"),
        ({"operators": {"CONV_2D": 3, "SOFTMAX": None}}, {}, None),
        ({"max_bytes": 999}, {}, "the model takes 1,000 bytes of 999"),
        ({"max_arena": 10}, {"arena": 16}, "its tensors take 16 bytes of 10"),
        ({"max_arena": 16}, {"arena": 16}, None),
    ],
)
def test_each_limit(given: dict, file: dict, misfit: str | None):
    found = check(facts(**file), a_profile(**given))
    assert found["misfits"] == ([misfit] if misfit else []) and found["fits"] == (misfit is None)


def test_what_no_table_knows_does_not_fit_a_release():
    oldest = {
        "runtime": "TensorFlow Lite",
        "release": None,
        "reason": "not known: no published table has X",
        "needs": [],
    }
    found = check(facts(oldest=oldest), a_profile(release="2.20"))
    assert sentence(found).startswith("the file does not fit device d: which release it needs is not known")


def test_the_report_says_it_by_operator():
    found = check(facts(), a_profile(operators={"CONV_2D": None, "SOFTMAX": 1}))
    assert found["operators"] == [
        {"operator": "CONV_2D version 3", "count": 2, "fits": True},
        {"operator": "SOFTMAX version 2", "count": 1, "fits": False},
    ]
    assert check(facts(), a_profile())["operators"][0]["fits"] is None


def test_shipped_profiles_name_operators_that_there_are_and_sources():
    names = vars(schema.BuiltinOperator)
    page = (ROOT / "docs" / "devices.md").read_text()
    for name, entry in profiles().items():
        assert entry.source.startswith("https://") and entry.formats, name
        for operator, version in entry.operators.items():
            assert operator in names and (version is None or version > 0), (name, operator)
        assert name in page or f"`{name.rpartition('-')[0]}-" in page, f"docs/devices.md does not name {name}"


def test_facts_of_an_onnx_file(tmp_path: Path):
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "x.onnx")
    found = facts_of(tmp_path / "x.onnx", "onnx")
    assert (found.opset, found.ir_version, found.free) == (13, 8, ["x"])
    assert found.operators == [Operator("Relu", 0, 1, 0)]
    assert check(found, profile("onnxruntime-1.8"))["misfits"] == ["it has IR version 8, and up to 7 are taken"]
    assert check(found, profile("onnxruntime-1.10"))["fits"]


def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, **entry) -> Plan:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir(exist_ok=True)
    (tmp_path / "models" / "m.h5").touch()
    return Planner(read_config({"models": {"m": entry}}, ROOT / "configs" / "zoo.yaml")).plan(name)


@pytest.mark.parametrize(
    ("name", "entry", "exported", "imported"),
    [
        ("m.onnx", {"device": "rknn"}, {"onnx_opset": 17}, {}),
        ("m.onnx", {"device": "rknn", "onnx_opset": 12}, {"onnx_opset": 12}, {}),
        ("m.onnx", {"device": "onnxruntime-1.8"}, {}, {}),
        ("m.int8.tflite", {"device": "coral", **LOAD}, {}, {"batch": "usual"}),
        ("m.int8.tflite", {"device": "coral", "batch": 2, **LOAD}, {}, {"batch": "2"}),
        ("m.onnx", {"device": "coral"}, {}, {}),  # one of the model, for other targets
        ("m.cc", {}, {}, {"batch": "usual"}),
    ],
)
def test_a_file_is_made_to_fit(tmp_path, monkeypatch, name, entry, exported, imported):
    found = plan(tmp_path, monkeypatch, name, **entry)
    assert found.error is None
    assert {key: found.parameters.get(key) for key in exported} == exported
    assert found.source.parameters == imported
    if name == "m.onnx" and entry["device"] == "coral":
        assert "device" not in found.parameters


@pytest.mark.parametrize(
    ("name", "entry", "said"),
    [
        ("m.onnx", {"device": "rkn"}, "device rkn has no profile: did you mean rknn?"),
        (
            "m.onnx",
            {"device": "rknn", "onnx_opset": 11},
            "onnx_opset 11 is none that device rknn takes: write one from 12",
        ),
        ("m.tflite", {"device": "coral"}, "device coral computes in integers only: write quantization.type int8"),
        ("m.float16.tflite", {"device": "coral", **LOAD}, "device coral computes in integers only"),
    ],
)
def test_what_cannot_fit_is_refused_before_anything_runs(tmp_path, monkeypatch, name, entry, said):
    assert plan(tmp_path, monkeypatch, name, **entry).error.startswith(said)


def test_a_device_of_a_job_is_for_its_format(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "m.h5").touch()
    job = {"convert_from": "models/m.h5", "convert_to": "converted/m.onnx", "device": "coral"}
    planner = Planner(read_config({"jobs": [job]}, ROOT / "configs" / "zoo.yaml"))
    with pytest.raises(
        ParameterError, match=r"device coral takes \.tflite files, not \.onnx: name one of onnxruntime-1\.8"
    ):
        planner.require("m.onnx")


def test_files_for_devices_end_to_end(project: Project):
    """What fits is published and says so; what does not, is not; and the page of all profiles."""
    shutil.copyfile(ROOT / "models" / "digits.h5", project.folder / "models" / "digits.h5")
    values = np.random.default_rng(0).uniform(size=(120, 8, 8, 1)).astype(np.float32)
    np.savez(project.folder / "train.npz", image=values)
    jobs = [
        {"convert_from": "models/digits.h5", "convert_to": "converted/a.int8.tflite", "device": "coral", **LOAD},
        {"convert_from": "models/digits.h5", "convert_to": "converted/b.tflite", "device": "nnapi-android10"},
        {
            "convert_from": "models/digits.h5",
            "convert_to": "converted/c.tflite",
            "device": "coral",
            "quantization": {"load": "train.npz", "optimization": "default"},  # integers within, float in and out
        },
    ]
    names = ["converted/a.int8.tflite", "converted/b.tflite", "converted/c.tflite", "reports/digits.devices.html"]
    run = project.snakemake("--keep-going", *names, config={"jobs": jobs, "models": {"digits": LOAD}})
    assert run.returncode == 1
    assert last_line(run).startswith("converted/c.tflite: the file does not fit device coral: ")
    assert "the device has no operator DEQUANTIZE version 2" in last_line(run)
    assert {"a.int8.tflite", "b.tflite"} <= set(project.converted()) and "c.tflite" not in project.converted()
    for name, fits in (("a.int8.tflite", True), ("b.tflite", True), ("c.tflite", False)):
        report = project.report(name)
        jsonschema.Draft202012Validator(SCHEMA).validate(report)
        assert report["device"]["fits"] is fits and report["device"]["operators"]
        assert report["status"] == ("verified" if fits else "failed")
    assert project.report("a.int8.tflite")["inputs"][0]["shape"] == [1, 8, 8, 1]
    page = (project.folder / "reports" / "digits.devices.html").read_text()
    assert all(name in page for name in profiles()) and "digits.int8.tflite" in page
