"""Files that TensorFlow 1.15 itself wrote (tests/data/make_tf1_15.py), against its own answers."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, Project

from converter.verification.runtimes import OnnxModel, TFLiteModel

DATA = ROOT / "tests" / "data" / "tf1_15"
# Two of a directory's checkpoints are there; each .meta means its own step, whatever the state file says.
ANSWERS = {"model-100": "scores_100", "model-200": "scores_200", "saved_model": "scores_100", "keras": "keras"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Path]:
    project = Project(tmp_path_factory.mktemp("tf1_15"))
    shutil.copytree(DATA, project.folder / "models", dirs_exist_ok=True)
    run = project.snakemake(*(f"converted/{model}.{kind}" for model in ANSWERS for kind in ("onnx", "tflite")))
    assert run.returncode == 0, run.stderr
    return project, project.folder / "converted"


@pytest.mark.parametrize("model", ANSWERS)
def test_answers_are_those_of_tensorflow_1_15(made, model: str) -> None:
    project, converted = made
    with np.load(DATA / "answers.npz") as answers:
        images, expected = answers["image"], answers[ANSWERS[model]]
    assert np.ptp(expected, axis=0).max() > 1e-2, "the answers vary"
    for runtime, kind in ((OnnxModel, "onnx"), (TFLiteModel, "tflite")):
        assert project.report(f"{model}.{kind}")["status"] == "verified"
        file = runtime(converted / f"{model}.{kind}")
        fixed = file.inputs[0].shape[0] == 1
        batches = [images[i : i + 1] for i in range(len(images))] if fixed else [images]
        actual = np.concatenate([file.run([batch])[0] for batch in batches])
        np.testing.assert_allclose(actual, expected, atol=2e-5)


def test_training_flag_is_off_and_said_so(made) -> None:
    project, _ = made
    report = project.report("model-100.onnx")
    assert [spec["name"] for spec in report["inputs"]] == ["image"]
    assert any("is_training" in note and "false" in note for note in report["notes"])
