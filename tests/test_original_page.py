"""The examples of the original tool's page, letter by letter: the jobs as written there, in a file and as a dictionary."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from converter.hub.hub import TensorSpec
from converter.quantization.representative import RepresentativeData

# With the trailing comma and the indentation of the page, which is not JSON.
ONNX_JOB = """\
    {
        "convert_from":"test_models/VGG16.h5",
        "convert_to":"converted_models/VGG16_keras.onnx",
    }
"""
QUANTIZED_JOB = """\
   {
        "convert_from":"test_models/VGG16.h5",
        "convert_to":"converted_models/VGG16_keras.tflite",
        "quantization": {
            "optimization":"default",
            "type":"float16",
            "opsset":"tf",
            "load":"repdata.py"
        }
    }
"""
# What the page points to for `load`: a generator of (image, label) pairs with numpy() methods.
REPDATA = """\
import numpy as np


class Tensor:
    def __init__(self, data):
        self.data = data

    def numpy(self):
        return self.data[np.newaxis]


def get_dataset():
    for seed in range(2):
        label = np.array(seed).astype(np.float)  # gone from NumPy since
        yield Tensor(np.random.default_rng(seed).random((224, 224, 3))), Tensor(label)
"""
ONNX, TFLITE = "converted_models/VGG16_keras.onnx", "converted_models/VGG16_keras.tflite"


def test_its_representative_data_are_read(tmp_path: Path):
    """Integer types use them; float16, above, does not."""
    (tmp_path / "repdata.py").write_text(REPDATA)
    data = RepresentativeData(
        tmp_path / "repdata.py", [TensorSpec("image", (None, 224, 224, 3), "float32")], by_row=True
    )
    assert data.count == 2
    first, _ = data.calibration()
    assert first[0].shape == (1, 224, 224, 3)
    np.testing.assert_array_equal(first[0][0], np.random.default_rng(0).random((224, 224, 3)).astype(np.float32))


def dlconvert(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "aup.dlconvert", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "workflow")},
        capture_output=True,
        text=True,
        timeout=1200,
    )


def run_examples(folder: Path) -> dict[str, dict]:
    """Run the page's three commands in a folder that has test_models/VGG16.h5. Returns the reports by target."""
    (folder / "repdata.py").write_text(REPDATA)
    (folder / "vgg16.json").write_text(ONNX_JOB)
    (folder / "quantized.json").write_text(QUANTIZED_JOB)
    for arguments, target in ((("-f", "vgg16.json"), ONNX), (("-f", "quantized.json"), TFLITE)):
        run = dlconvert(folder, *arguments)
        assert run.returncode == 0, run.stdout + run.stderr
        assert run.stdout.splitlines()[1].split()[:2] == [target, "verified"]
    # "Alternatively, you can also write the configuration in a json dictionary format": the same jobs.
    (folder / ONNX).unlink()
    for text, target, is_there in ((ONNX_JOB, ONNX, False), (QUANTIZED_JOB, TFLITE, True)):
        run = dlconvert(folder, "-d", text)
        assert run.returncode == 0, run.stdout + run.stderr
        assert run.stdout.splitlines()[1].split()[:2] == [target, "verified"]
        assert run.stdout.rstrip().endswith("up to date") == is_there
        assert (folder / target).is_file()
    return {target: json.loads((folder / "reports" / f"{target}.json").read_text()) for target in (ONNX, TFLITE)}


def check_examples(folder: Path) -> None:
    reports = run_examples(folder)
    assert all(report["status"] == "verified" for report in reports.values())
    assert not any(report["verification"]["weak_evidence"] for report in reports.values())
    assert reports[ONNX]["opset"] == 10
    assert reports[TFLITE]["parameters"]["quantization"]["type"] == "float16"
    # float16 uses no representative data, and the report says that `load` was left aside.
    assert any("load" in note for note in reports[TFLITE]["notes"]), reports[TFLITE]["notes"]
    weights = reports[ONNX]["file"]["bytes"]
    assert 0.45 * weights < reports[TFLITE]["file"]["bytes"] < 0.6 * weights


def test_with_a_small_model_of_that_name(tmp_path: Path):
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((224, 224, 3)),
            layers.Conv2D(16, 3, strides=4, activation="relu"),
            layers.MaxPooling2D(4),
            layers.Flatten(),
            layers.Dense(40, activation="softmax", name="predictions"),
        ]
    )
    (tmp_path / "test_models").mkdir()
    model.save(tmp_path / "test_models" / "VGG16.h5", include_optimizer=False)
    check_examples(tmp_path)


@pytest.mark.slow
def test_with_the_real_vgg16(tmp_path: Path):
    """553 MB, from the zoo's recipe."""
    (tmp_path / "test_models").mkdir()
    recipe = [sys.executable, ROOT / "scripts" / "zoo_keras.py", "--recipe=application", "--name=VGG16"]
    subprocess.run(
        [*recipe, "--weights=random", "test_models/VGG16.h5"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        timeout=600,
    )
    assert (tmp_path / "test_models" / "VGG16.h5").stat().st_size > 550_000_000
    check_examples(tmp_path)
