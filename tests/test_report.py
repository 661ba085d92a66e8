"""Reports: composed the same way for success and failure, valid by their schema, one line for people."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from converter.contracts import ExportResult
from converter.evidence.bounds import below
from converter.hub.hub import Hub, Run, TensorSpec
from converter.hub.informative import write_evidence
from converter.hub.inspection import inspect_hub
from converter.planning.config import read_config
from converter.planning.planner import Planner
from converter.publishing import report
from converter.verification.verify import Tolerance, verify

X = TensorSpec("x", (None, 2), "float32", "x:0")
Y = TensorSpec("y", (None, 2), "float32", "y:0")
STEP = {"name": "export_onnx", "cpu_seconds": 1.0, "wall_seconds": 1.1, "peak_memory_mb": 100}
SOURCE = {"path": "models/a.h5", "format": "keras", "sha256": "0" * 64, "bytes": 5, "stat": [["a.h5", 5, 0]]}


def valid(value: dict, name: str = "report") -> dict:
    schema = json.loads((ROOT / "configs" / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(json.loads(json.dumps(value, allow_nan=False)))
    return value


def verified(error: float = 0.0):
    arrays = np.float32([[1, 2], [3, 4]])
    return verify([Y], [Run([arrays], [arrays])], lambda _: [arrays + np.float32(error)], Tolerance(), "onnxruntime 1")


def compose(
    tmp_path: Path, result: ExportResult | None, error: dict | None = None, coverage: dict | None = None, **parameters
) -> dict:
    staged = tmp_path / "staged"
    staged.write_bytes(b"model" if error is None else b"")
    hub = Hub(tmp_path, "tensorflow", [X], [Y], notes=["from the import"], source=SOURCE, parameters={"trusted": True})
    hub.coverage = coverage or {}
    return valid(
        report.compose(
            "converted/a.onnx", hub, parameters, "export_onnx", result, error, staged, [STEP, STEP], {"onnx": "1"}
        )
    )


def result(verification, **more) -> ExportResult:
    return ExportResult(["export_onnx"], [X], [Y], verification, notes=["from the export"], **more)


def test_verified(tmp_path):
    made = compose(tmp_path, result(verified(), opset=13, opset_reason="x"), onnx_opset=13)
    assert (made["status"], made["reason"]) == ("verified", None)
    assert made["source"] == {key: SOURCE[key] for key in ("path", "format", "sha256", "bytes")}
    assert made["route"] == ["import_keras", "export_onnx"] and (made["opset"], made["opset_reason"]) == (13, "x")
    assert made["parameters"] == {"onnx_opset": 13, "trusted": True}
    assert made["notes"] == ["from the import", "from the export"]
    assert made["inputs"] == [{"name": "x", "shape": [None, 2], "dtype": "float32"}]
    assert made["file"]["bytes"] == 5 and made["verification"]["samples"] == 2
    assert report.publishable(made)
    assert (
        report.line(made) == "converted/a.onnx  verified  5 bytes  opset 13  max difference 0.0e+00 (allowed 4.0e-04)"
    )


@pytest.mark.parametrize(
    ("rows", "looked_at", "weak"), [(0.3, 4, True), (0.6, 4, False), (0.3, 2, False), (0.1, 2, True)]
)
def test_evidence_is_weak_where_the_samples_exercise_too_little(rows, looked_at, weak, tmp_path):
    coverage = {"method": "gradients", "reason": None, "samples": 4, "samples_looked_at": looked_at, "samples_added": 0}
    coverage |= {"weights": 1.0, "rows": rows, "branches": None, "stuck": 0.25, "without_influence": []}
    coverage["below"] = below(coverage)
    made = compose(tmp_path, result(verified()), coverage=coverage)
    assert made["status"] == "verified" and made["verification"]["coverage"]["rows"] == rows
    assert made["verification"]["weak_evidence"] is weak
    lines = [line for line in report.decision_lines(made) if "weak evidence" in line]
    assert lines == ["    weak evidence: the samples exercise too few rows of the model"] * weak


def test_answers_that_hardly_vary_are_said_below_the_line_and_the_tested_range_in_the_report(tmp_path):
    still = np.float32([[1, 2], [1.0001, 2]])
    runs = [Run([np.float32([[-4, 0], [9, 7]])], [still])]
    made = result(verify([Y], runs, lambda _: [still], Tolerance()))
    hub = Hub(tmp_path, "tensorflow", [X], [Y], source=SOURCE)
    write_evidence(hub, runs, {"large": "the source does not take them"})
    (tmp_path / "staged").write_bytes(b"model")
    entry = valid(
        report.compose("converted/a.onnx", hub, {}, "export_onnx", made, None, tmp_path / "staged", [STEP], {})
    )
    assert entry["verification"]["weak_evidence"]
    assert any("hardly vary" in line for line in report.decision_lines(entry))
    evidence = entry["verification"]["evidence"]
    assert evidence["range"] == [{"input": "x", "smallest": -4.0, "largest": 9.0}]
    assert evidence["left_out"] == {"large": "the source does not take them"}


def test_agreement_that_proves_nothing_is_no_proof(tmp_path):
    staged = tmp_path / "staged"
    staged.write_bytes(b"model")
    hub = Hub(tmp_path, "tensorflow", [X], [Y], source=SOURCE, unproven="nothing could be compared: give verify.inputs")
    made = valid(
        report.compose("converted/a.onnx", hub, {}, "export_onnx", result(verified()), None, staged, [STEP], {})
    )
    assert (made["status"], made["reason"]) == ("unverified", "nothing could be compared: give verify.inputs")
    assert report.publishable(made) and "difference" not in report.line(made) and "verify.inputs" in report.line(made)
    wrong = valid(
        report.compose("converted/a.onnx", hub, {}, "export_onnx", result(verified(1.0)), None, staged, [STEP], {})
    )
    assert wrong["status"] == "inaccurate"


def test_decisions_stand_below_the_line(tmp_path):
    hub = Hub(tmp_path, "tensorflow", [X], [Y], source=SOURCE, batch_dynamic=True, decisions=["weights: params_ema"])
    staged = tmp_path / "staged"
    staged.write_bytes(b"model")
    fixed = TensorSpec("x", (1, 2), "float32")
    made = ExportResult(
        ["export_onnx"], [fixed], [Y], verified(), opset=13, opset_reason="why", decisions=["channels-last"]
    )
    entry = valid(report.compose("converted/a.onnx", hub, {}, "export_onnx", made, None, staged, [STEP], {}))
    assert entry["decisions"] == ["weights: params_ema", "channels-last", "opset 13", "batch fixed at 1"]
    assert report.decision_lines(entry)[0] == "    weights: params_ema"


def test_inaccurate_is_published_only_if_the_job_says_so(tmp_path):
    made = compose(tmp_path, result(verified(0.5)))
    assert made["status"] == "inaccurate" and not report.publishable(made)
    assert report.line(made) == (
        "converted/a.onnx: the file does not compute what the source computes: "
        "output y differs by 0.5, allowed 0.0004 (largest value 4)"
    )
    warned = compose(tmp_path, result(verified(0.5)), verify={"on_failure": "warn"})
    assert report.publishable(warned) and "converted/a.onnx  inaccurate" in report.line(warned)
    assert not report.publishable(compose(tmp_path, result(verified(0.5)), verify={"on_failure": "fail"}))


def test_unverified_says_why(tmp_path):
    made = compose(tmp_path, result(None, unverified_reason="no interpreter runs Select-TF operators"))
    assert made["status"] == "unverified" and report.publishable(made)
    assert "(no interpreter runs Select-TF operators)" in report.line(made)
    assert compose(tmp_path, result(None))["reason"]


def test_failed(tmp_path):
    error = {"kind": "UnsupportedError", "message": "converted/a.onnx: opset 7 cannot express it"}
    made = compose(tmp_path, None, error, verify={"on_failure": "warn"})
    assert (made["status"], made["file"], made["verification"]) == ("failed", None, None)
    assert made["route"] == ["import_keras"] and not report.publishable(made)
    assert report.line(made) == "converted/a.onnx: opset 7 cannot express it"


def test_a_target_whose_steps_were_killed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "a.h5").write_bytes(b"")
    planner = Planner(read_config({}))
    made = valid(report.unfinished("converted/a.onnx", planner.plan("a.onnx"), "killed"))
    assert (made["status"], made["reason"], made["source"]["path"]) == ("failed", "killed", "models/a.h5")
    assert valid(report.unfinished("converted/b.onnx", planner.plan("b.onnx"), "killed"))["source"]["path"] is None


def test_the_line_names_the_output_that_is_nearest_to_its_tolerance(tmp_path):
    made = compose(tmp_path, result(verified()))
    entry = made["verification"]["outputs"][0]
    made["verification"]["outputs"] = [
        {**entry, "max_abs_diff": 5.0, "tolerance": 10.0},
        {**entry, "max_abs_diff": 0.09, "tolerance": 0.1},
        {**entry, "max_abs_diff": None, "tolerance": None},
    ]
    assert "max difference 9.0e-02 (allowed 1.0e-01)" in report.line(made)


@given(st.integers(0, 10**12))
def test_sizes_are_short(count):
    text = report.size_text(count)
    assert len(text) <= 10 and text.split()[1] in ("bytes", "KB", "MB", "GB")
    value = float(text.split()[0]) * {"bytes": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9}[text.split()[1]]
    assert value == pytest.approx(count, rel=0.06)


def test_a_report_appears_whole(tmp_path):
    path = tmp_path / "deep" / "a b.onnx.json"
    report.write(path, {"target": "ö"})
    report.write(path, {"target": "ü"})
    assert report.read(path) == {"target": "ü"} and [file.name for file in path.parent.iterdir()] == ["a b.onnx.json"]


def test_inspection(tmp_path):
    hub = Hub(tmp_path, "tensorflow", [X], [Y], operators={"MatMul": 1}, parameters_count=4, source=SOURCE)
    hub.candidates = {"inputs": [X], "outputs": [Y, TensorSpec("hidden", None, "float32")]}
    shown = valid(inspect_hub(hub), "inspection")
    assert shown["targets"] == {"onnx": "ok", "tflite": "ok", "pb": "ok", "cc": "ok", "xml": "ok"}
    assert shown["candidates"]["outputs"][1] == {"name": "hidden", "shape": None, "dtype": "float32"}
    hub.inputs = [TensorSpec("text", (None,), "string")]
    assert "input text is text" in valid(inspect_hub(hub), "inspection")["targets"]["tflite"]
    hub.error = {"kind": "ParameterError", "message": "input_nodes is missing"}
    assert set(valid(inspect_hub(hub), "inspection")["targets"].values()) == {"input_nodes is missing"}
