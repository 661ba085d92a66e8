"""The real environments: models that their frameworks wrote become verified files here (make test-legacy)."""

from __future__ import annotations

import json
import subprocess

import numpy as np
import pytest
from conftest import ROOT, Project

from converter import __main__ as command
from converter.errors import ConverterError
from converter.hub.hub import Hub
from converter.planning import toolchains

pytestmark = pytest.mark.legacy

NETWORK = {"network_script": str(ROOT / "tests" / "legacy_network.py"), "network_name": "Net", "network_args": [7]}
OUTPUTS_OF_KERAS = """
import os, sys
import numpy as np
import tensorflow as tf
source, inputs, outputs = sys.argv[1:]
keras = tf.keras
model = keras.models.load_model(source, compile=False)
results = {}
with np.load(inputs) as stored:
    for run in sorted({name.split("_")[0] for name in stored.files}):
        answers = model.predict([stored[run + "_0"], stored[run + "_1"]])
        results.update({"%s_%d" % (run, at): answer for at, answer in enumerate(answers)})
np.savez(outputs, **results)
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


def project(written, tmp_path_factory) -> Project:
    """A new folder with these models."""
    project = Project(tmp_path_factory.mktemp("project"))
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
            "gone": {"input_shape": shape},
        },
        "jobs": [
            {"convert_from": "models/lambda.h5", "convert_to": "converted/backend.onnx", "backend": "keras2onnx"},
            {"convert_from": "models/net.pt", "convert_to": "converted/backend.h5", "backend": "pytorch2keras"},
        ],
    }


def expected_files(toolchain: str) -> list[str]:
    models = ["lambda", "plain", "counts", "frozen", "saved", "net", "weights", "moved", "gone"]
    models += ["lambda_keras"] if toolchain == "tf1.15" else []
    names = [f"{model}.{extension}" for model in models for extension in ("onnx", "tflite")]
    # pytorch2keras needs tf.keras of TensorFlow 2.
    return sorted(names + ["backend.onnx", *(["backend.h5"] if toolchain == "tf2.3" else [])])


@pytest.fixture(scope="session")
def converted(toolchain, written, tmp_path_factory) -> Project:
    """Everything that the environment wrote, converted in one run; the tests below look at what came of it."""
    folder = project(written, tmp_path_factory)
    names = [f"converted/{name}" for name in expected_files(toolchain)]
    run = folder.snakemake(*names, config=configuration(toolchain))
    assert run.returncode == 0, run.stderr
    return folder


def test_what_an_old_framework_wrote_becomes_verified_files(toolchain, converted):
    assert converted.converted() == expected_files(toolchain)
    for name in converted.converted():
        report = converted.report(name)
        assert report["status"] == "verified", report
        assert not report["verification"]["weak_evidence"], name
        assert all(np.isfinite(entry["max_abs_reference"]) for entry in report["verification"]["outputs"])
        assert any(key.startswith(f"{toolchain}/") for key in report["versions"])
    assert converted.report("backend.onnx")["route"] == ["import_keras", "export_onnx", "keras2onnx"]
    assert [entry["name"] for entry in converted.report("lambda.onnx")["inputs"]] == ["signal", "bias"]
    assert [entry["name"] for entry in converted.report("net.onnx")["inputs"]] == ["x"]
    note = converted.report("plain.onnx")["notes"][0]
    assert note.startswith(f"read in the environment of toolchain {toolchain}")


def test_the_reference_is_what_the_old_keras_says(toolchain, converted):
    """Asked here without any of this project's code."""
    (path,) = (converted.folder / "intermediate").glob("lambda-keras-*")
    runs = Hub.read(path).reference()
    inputs, outputs = converted.folder / "inputs.npz", converted.folder / "outputs.npz"
    np.savez(
        inputs, **{f"{index}_{at}": array for index, run in enumerate(runs) for at, array in enumerate(run.inputs)}
    )
    command = [str(toolchains.python(toolchain)), "-W", "ignore", "-c", OUTPUTS_OF_KERAS]
    source = converted.folder / "models" / "lambda.h5"
    subprocess.run([*command, str(source), str(inputs), str(outputs)], check=True, capture_output=True, timeout=300)
    with np.load(outputs) as stored:
        for index, run in enumerate(runs):
            for at, expected in enumerate(run.outputs):
                np.testing.assert_allclose(stored[f"{index}_{at}"], expected, rtol=1e-5, atol=1e-6)


def test_the_modern_import_says_which_toolchain_to_set(toolchain, written, tmp_path_factory):
    """And, without `trusted`, that code in a file waits for that."""
    folder = project(written, tmp_path_factory)
    config = {"models": {name: configuration(toolchain)["models"][name] for name in ("lambda", "counts", "gone")}}
    targets = [f"converted/{name}.onnx" for name in ("lambda", "gone", *(["counts"] if toolchain == "tf1.15" else []))]
    run = folder.snakemake(*targets, config=config)
    assert run.returncode != 0 and not folder.converted()
    said = dict(line.split(": ", 1) for line in run.stderr.splitlines()[-len(targets) :])
    assert sorted(said) == sorted(targets)
    assert f"set toolchain: {toolchain}" in said["converted/lambda.onnx"] or (
        f"need toolchain: {toolchain}" in said["converted/lambda.onnx"]
    )
    assert "torchvision.ops.misc.ConvTranspose2d" in said["converted/gone.onnx"]
    assert "set toolchain: tf2.3" in said["converted/gone.onnx"]
    if toolchain == "tf1.15":  # contrib's Resampler
        assert "(Resampler)" in said["converted/counts.onnx"]
        assert "toolchain: tf1.15" in said["converted/counts.onnx"]


def test_code_in_a_file_waits_for_trust(toolchain, written, tmp_path_factory):
    folder = project(written, tmp_path_factory)
    config = {"defaults": {"toolchain": toolchain}, "models": {"net": {"input_shape": "1,3,8,8"}}}
    run = folder.snakemake("converted/lambda.onnx", "converted/net.onnx", config=config)
    assert run.returncode != 0 and not folder.converted()
    assert all("trusted: true" in line for line in run.stderr.splitlines()[-2:]), run.stderr


def test_the_same_source_gives_the_same_bytes(toolchain, written, converted, tmp_path_factory):
    again = project(written, tmp_path_factory)
    names = ["lambda.onnx", "lambda.tflite", "backend.onnx"]
    run = again.snakemake(*(f"converted/{name}" for name in names), config=configuration(toolchain))
    assert run.returncode == 0, run.stderr
    for name in names:
        assert again.report(name)["file"] == converted.report(name)["file"], name


def test_a_converted_file_is_checked_against_its_old_source(toolchain, converted, monkeypatch, capsys):
    """The import script alone, without Snakemake: what `python -m converter check` runs for a source."""
    monkeypatch.chdir(converted.folder)
    flags = ["--toolchain", toolchain, "--trusted", "true"]
    assert command.main(["check", "models/lambda.h5", "converted/backend.onnx", *flags]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["status"], result["reference"]) == ("verified", "models/lambda.h5")
    tensorflow = toolchain.removeprefix("tf")
    assert result["verification"]["runtime"].endswith(
        f"against tensorflow {tensorflow}.{'4' if tensorflow == '2.3' else '5'}"
    )
