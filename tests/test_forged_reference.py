"""Whoever owns an import writes the hub and its reference: one that is not the hub's own is refused by every export.

An export makes its file of the hub's model, in a process that has never loaded the source, and compares it with the whole
reference: quantized files too, whose float file comes first.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tf_hub import dense, make_hub

from converter.hub.hub import Hub, Run
from converter.running.step_runner import run_export


class Net(tf.Module):
    """(N, 8) -> (N, 10), of 12,000 weights."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.hidden, self.last = dense(rng, 8, 600), dense(rng, 600, 10)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu(x @ self.hidden) @ self.last


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return make_hub(tmp_path / "hub", Net(), [tf.TensorSpec([None, 8], tf.float32, "x")], ["y"])


def forge(hub: Hub, share: float) -> None:
    """Answers that are off by `share` of the largest one, in the last run alone."""
    runs = hub.reference()
    last = runs[-1]
    outputs = [array + np.float32(share * np.abs(array).max()) for array in last.outputs]
    hub.write_reference([*runs[:-1], Run(last.inputs, outputs, last.kind)])


def export(hub: Hub, step: str, staged: Path, **quantization: object) -> dict:
    report = staged.with_suffix(".json")
    flags = [f"--report={report}", f"--target=converted/{staged.name}"]
    if quantization:
        flags.append(f"--quantization={json.dumps(quantization)}")
    export_model = importlib.import_module(step).export_model
    assert run_export(step, export_model, [*flags, "--", str(hub.path), str(staged)]) == 0
    return json.loads(report.read_text())


TARGETS = {
    "onnx": ("export_onnx", {}),
    "pb": ("export_protobuf", {}),
    "tflite": ("export_tflite", {}),
    "dynamic": ("export_tflite", {"type": "float32"}),
    "int8": ("export_tflite", {"type": "int8"}),
}


@pytest.mark.parametrize("target", TARGETS)
def test_answers_of_another_model(hub: Hub, tmp_path: Path, target: str) -> None:
    step, quantization = TARGETS[target]
    if quantization.get("type") == "int8":
        np.savez(tmp_path / "data.npz", x=np.random.default_rng(1).standard_normal((120, 8)).astype(np.float32))
        quantization = {**quantization, "load": str(tmp_path / "data.npz")}
    staged = tmp_path / f"net{'.tflite' if 'tflite' in step else '.' + target}"
    assert export(hub, step, staged, **quantization)["status"] == "verified"
    forge(hub, 0.003)
    report = export(hub, step, staged, **quantization)
    assert report["status"] == "inaccurate" and "does not compute what the source computes" in report["reason"], report


def test_no_answers_at_all(hub: Hub, tmp_path: Path) -> None:
    hub.write_reference([])
    assert export(hub, "export_onnx", tmp_path / "net.onnx")["status"] == "failed"


def test_answers_to_questions_that_prove_nothing(hub: Hub, tmp_path: Path) -> None:
    """They are the model's own, and hub.json says nothing of it."""
    nothing = np.full((3, 8), np.nan, np.float32)
    hub.write_reference([Run([nothing], [np.full((3, 10), np.nan, np.float32)])])
    report = export(hub, "export_onnx", tmp_path / "net.onnx")
    assert report["status"] == "unverified" and "output y is NaN or infinite everywhere" in report["reason"], report
    zeros = np.zeros((3, 8), np.float32)
    hub.write_reference([Run([zeros], [np.zeros((3, 10), np.float32)])])
    report = export(hub, "export_onnx", tmp_path / "net.onnx")
    assert report["status"] == "unverified" and "output y is 0.0 everywhere" in report["reason"], report


def test_no_answers_to_ordinary_questions(hub: Hub, tmp_path: Path) -> None:
    hub.write_reference([run for run in hub.reference() if run.kind != "typical"])
    report = export(hub, "export_onnx", tmp_path / "net.onnx")
    assert report["status"] == "unverified" and "output y is empty" in report["reason"], report
