"""The real environments: models that their frameworks wrote become verified files here (make test-legacy)."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, Project, last_line

from converter import toolchains
from converter.errors import ConverterError
from converter.hub import Hub

pytestmark = pytest.mark.legacy

NETWORK = {"network_script": str(ROOT / "tests" / "legacy_network.py"), "network_name": "Net", "network_args": [7]}
OUTPUTS_OF_KERAS = """
import os, sys
import numpy as np
import tensorflow as tf
source, inputs, outputs = sys.argv[1:]
keras = tf.keras
model = keras.models.load_model(source, compile=False)
with np.load(inputs) as stored:
    results = model.predict([stored["0"], stored["1"]])
np.savez(outputs, *results)
"""


@pytest.fixture(scope="session", params=sorted(toolchains.PYTHONS))
def toolchain(request):
    """Its name, once it is built: in the user's cache, or in $CONVERTER_TOOLCHAINS."""
    try:
        toolchains.check_available(request.param)
    except ConverterError as error:
        pytest.skip(str(error))
    toolchains.ensure(request.param)
    return request.param


@pytest.fixture(scope="session")
def written(toolchain, tmp_path_factory):
    """The folder of models that the environment's own frameworks wrote."""
    folder = tmp_path_factory.mktemp(toolchain)
    command = [str(toolchains.python(toolchain)), "-W", "ignore", str(ROOT / "tests" / "legacy_models.py"), str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    return folder


@pytest.fixture
def folder(written, tmp_path):
    project = Project(tmp_path)
    for path in written.iterdir():
        (project.folder / "models" / path.name).symlink_to(path)
    return project


def configuration(toolchain: str) -> dict:
    shape = "1,3,8,8"
    return {
        "defaults": {"toolchain": toolchain},
        "models": {
            "lambda": {"trusted": True},
            "lambda_keras": {"trusted": True},
            "counts": {"output_nodes": "out"},
            "net": {"input_shape": shape, **NETWORK},
            "weights": {"input_shape": shape, **NETWORK},
            "moved": {"input_shape": "-1,3,16,16"},
        },
        "jobs": [
            {"convert_from": "models/lambda.h5", "convert_to": "converted/backend.onnx", "backend": "keras2onnx"},
            {"convert_from": "models/net.pt", "convert_to": "converted/backend.h5", "backend": "pytorch2keras"},
        ],
    }


def test_what_an_old_framework_wrote_becomes_verified_files(toolchain, folder):
    models = ["lambda", "plain", "counts", "frozen", "saved", "net", "weights", "moved"]
    models += ["lambda_keras"] if toolchain == "tf1.15" else []
    names = [f"{model}.{extension}" for model in models for extension in ("onnx", "tflite")]
    # pytorch2keras needs tf.keras of TensorFlow 2.
    names += ["backend.onnx", *(["backend.h5"] if toolchain == "tf2.3" else [])]
    run = folder.snakemake(*(f"converted/{name}" for name in names), config=configuration(toolchain))
    assert run.returncode == 0, run.stderr
    assert folder.converted() == sorted(names)
    for name in names:
        report = folder.report(name)
        assert report["status"] == "verified", report
        assert not report["verification"]["weak_evidence"], name
        assert all(np.isfinite(entry["max_abs_reference"]) for entry in report["verification"]["outputs"])
        assert any(key.startswith(f"{toolchain}/") for key in report["versions"])
    assert folder.report("backend.onnx")["route"] == ["import_keras", "export_onnx", "keras2onnx"]
    assert [entry["name"] for entry in folder.report("lambda.onnx")["inputs"]] == ["signal", "bias"]
    assert [entry["name"] for entry in folder.report("net.onnx")["inputs"]] == ["x"]
    _check_reference(toolchain, folder)


def _check_reference(toolchain: str, folder: Project) -> None:
    """What the files were compared with is what the old Keras says, asked here without any of this project's code."""
    (path,) = (folder.folder / "intermediate").glob("lambda-keras-*")
    for index, run in enumerate(Hub.read(path).reference()):
        inputs, outputs = folder.folder / f"in{index}.npz", folder.folder / f"out{index}.npz"
        np.savez(inputs, **{str(position): array for position, array in enumerate(run.inputs)})
        command = [str(toolchains.python(toolchain)), "-W", "ignore", "-c", OUTPUTS_OF_KERAS]
        source = folder.folder / "models" / "lambda.h5"
        subprocess.run([*command, str(source), str(inputs), str(outputs)], check=True, capture_output=True, timeout=300)
        with np.load(outputs) as stored:
            for position, expected in enumerate(run.outputs):
                np.testing.assert_allclose(stored[f"arr_{position}"], expected, rtol=1e-5, atol=1e-6)


def test_the_modern_import_says_which_toolchain_to_set(toolchain, folder):
    config = {"models": {"lambda": {"trusted": True}, "counts": {"output_nodes": "out"}}}
    run = folder.snakemake("converted/lambda.onnx", config=config)
    assert run.returncode != 0
    assert f"set toolchain: {toolchain}" in last_line(run) or f"need toolchain: {toolchain}" in last_line(run)
    if toolchain == "tf1.15":  # contrib's Resampler
        run = folder.snakemake("converted/counts.onnx", config=config)
        assert "(Resampler)" in last_line(run)
        assert "toolchain: tf1.15" in last_line(run)


def test_code_in_a_file_waits_for_trust(toolchain, folder):
    config = configuration(toolchain)
    config["models"] = {"net": {"input_shape": "1,3,8,8"}}
    config["jobs"] = []
    for name in ("lambda", "net"):
        run = folder.snakemake(f"converted/{name}.onnx", config=config)
        assert run.returncode != 0
        assert "trusted: true" in last_line(run), run.stderr
        assert not folder.converted()


def test_the_same_source_gives_the_same_bytes(toolchain, folder, tmp_path):
    first = json.loads(json.dumps(_made_alone(toolchain, folder, tmp_path / "a")))
    assert first == _made_alone(toolchain, folder, tmp_path / "b")


def _made_alone(toolchain: str, folder: Project, place) -> dict:
    place.mkdir()
    other = Project(place)
    (other.folder / "models" / "lambda.h5").symlink_to(folder.folder / "models" / "lambda.h5")
    config = configuration(toolchain)
    config["jobs"] = config["jobs"][:1]
    run = other.snakemake("converted/lambda.onnx", "converted/lambda.tflite", "converted/backend.onnx", config=config)
    assert run.returncode == 0, run.stderr
    return {name: other.report(name)["file"]["sha256"] for name in other.converted()}


def test_a_script_alone_imports_too(toolchain, folder):
    """Each step is usable from a shell, without Snakemake."""
    command = [sys.executable, str(ROOT / "scripts" / "import_keras.py"), "--toolchain", toolchain]
    run = subprocess.run(
        [*command, "models/plain.h5", "hub"],
        cwd=folder.folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    hub = Hub.read(folder.folder / "hub")
    assert hub.error is None
    assert hub.inputs[0].shape == (None, 8, 8, 3)
    assert not hub.notes[0].startswith("tensorflow") and toolchain in hub.notes[0]
