"""A wrong weight must never be published: one weight changed by 1 % behind the importer's back, and nothing appears."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, Project, last_line

from converter.hub.weights import Weights, write_weights


def _perturb(project: Project, model: str, place: float) -> str:
    """Scale the weight at that place (0 first, 1 last, in the source's order) by 1 %; returns its name."""
    (hub,) = (project.folder / "intermediate").glob(f"{model}-*")
    path = hub / "weights.safetensors"
    stored = Weights(path)
    arrays = {name: np.array(stored[name]) for name in stored}
    floats = [name for name in arrays if arrays[name].dtype.kind == "f" and arrays[name].ndim > 1]
    name = floats[round(place * (len(floats) - 1))]
    arrays[name] = (arrays[name] * 1.01).astype(arrays[name].dtype)
    del stored
    write_weights(path, arrays)
    return name


def _digits(folder: Path) -> Path:
    return ROOT / "models" / "digits.h5"


def _recurrent(folder: Path) -> Path:
    import keras

    keras.utils.set_random_seed(3)
    inputs = keras.Input((12,), dtype="int32", name="tokens")
    hidden = keras.layers.Embedding(50, 16, embeddings_initializer="random_normal")(inputs)
    hidden = keras.layers.Bidirectional(keras.layers.LSTM(8, return_sequences=True))(hidden)
    outputs = keras.layers.Dense(3, name="scores")(keras.layers.GRU(8)(hidden))
    keras.Model(inputs, outputs).save(folder / "source.keras")
    return folder / "source.keras"


def _module(folder: Path) -> Path:
    import tensorflow as tf

    class Scorer(tf.Module):
        def __init__(self) -> None:
            rng = np.random.default_rng(5)
            self.first = tf.Variable(rng.normal(size=(3, 3, 2, 6)).astype(np.float32))
            self.second = tf.Variable(rng.normal(size=(6, 4)).astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec((None, 9, 9, 2), tf.float32, name="image")])
        def __call__(self, image):  # noqa: ANN001, ANN204
            hidden = tf.nn.relu(tf.nn.conv2d(image, self.first, 2, "SAME"))
            return {"scores": tf.reduce_mean(hidden, [1, 2]) @ self.second}

    module = Scorer()
    tf.saved_model.save(module, str(folder / "source"), signatures=module.__call__)
    return folder / "source"


def test_perturbed_weights_are_not_published(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    """An early, a middle and the last weight of three models; and the same models untouched, so that the test can fail."""
    names = {}
    for kind, make in {"dense": _digits, "recurrent": _recurrent, "module": _module}.items():
        source = make(tmp_path_factory.mktemp(kind))
        for name in (f"{kind}_early", f"{kind}_middle", f"{kind}_last", f"{kind}_right"):
            target = project.folder / "models" / f"{name}{source.suffix}"
            shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
            names[name] = {"early": 0.0, "middle": 0.5, "last": 1.0}.get(name.partition("_")[2])
    inspected = project.snakemake(*(f"reports/{name}.inspect.json" for name in names))
    assert inspected.returncode == 0, inspected.stderr
    weights = {name: _perturb(project, name, place) for name, place in names.items() if place is not None}
    run = project.snakemake(*(f"converted/{name}.{extension}" for name in names for extension in ("onnx", "tflite")))
    assert run.returncode == 1
    assert project.converted() == sorted(
        f"{kind}_right.{extension}" for kind in ("dense", "recurrent", "module") for extension in ("onnx", "tflite")
    )
    for name, weight in weights.items():
        for extension in ("onnx", "tflite"):
            report = project.report(f"{name}.{extension}")
            assert report["status"] == "inaccurate", (weight, report["reason"])
            assert (project.folder / "rejected" / f"{name}.{extension}").is_file()
    assert "does not compute what the source computes" in last_line(run)


def _perturb_program(project: Project, model: str, place: float) -> None:
    """The same for a PyTorch model's exported program."""
    import torch

    (hub,) = (project.folder / "intermediate").glob(f"{model}-*")
    program = torch.export.load(hub / "program.pt2")
    weights = [tensor for tensor in program.state_dict.values() if tensor.ndim > 1]
    with torch.no_grad():
        weights[round(place * (len(weights) - 1))].mul_(1.01)
    torch.export.save(program, hub / "program.pt2")


def test_perturbed_pytorch_weights_are_not_published(project: Project) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    layers = [torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8 * 36, 9)]
    module = torch.nn.Sequential(*layers, torch.nn.Tanh(), torch.nn.Linear(9, 5)).eval()
    names = {"early": 0.0, "middle": 0.5, "last": 1.0, "right": None}
    for name in names:
        torch.save(module, project.folder / "models" / f"{name}.pt")
    config = {"models": {name: {"input_shape": "1,3,8,8"} for name in names}}
    inspected = project.snakemake(*(f"reports/{name}.inspect.json" for name in names), config=config)
    assert inspected.returncode == 0, inspected.stderr
    for name, place in names.items():
        if place is not None:
            _perturb_program(project, name, place)
    targets = [f"{name}.{extension}" for name in names for extension in ("onnx", "tflite", "keras")]
    run = project.snakemake(*(f"converted/{target}" for target in targets), config=config)
    assert run.returncode == 1
    assert project.converted() == ["right.keras", "right.onnx", "right.tflite"]
    for target in targets:
        status = "verified" if target.startswith("right") else "inaccurate"
        assert project.report(target)["status"] == status, project.report(target)["reason"]
