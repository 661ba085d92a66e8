"""Accuracy on labelled samples: which outputs give classes, what labels are, and both in the report."""

from __future__ import annotations

import numpy as np
import pytest
from export_tflite import export_model
from quantized_models import blocks, images

from converter.contracts import ExportJob
from converter.errors import ParameterError
from converter.hub.hub import Run, TensorSpec
from converter.hub.reference import make_reference
from converter.quantization.labels import accuracies, read_labels

LABELS = np.array([0, 1, 2, 1])


def measure(before: np.ndarray, after: np.ndarray, labels: np.ndarray = LABELS) -> list[dict]:
    spec = TensorSpec("y", None, before.dtype.name)
    cut = [Run([], [before[:1]]), Run([], [before[1:]])]  # as a reference of the user's samples is
    return accuracies([spec], cut, [Run([], [after])], labels)


def test_class_scores():
    before = np.eye(3, dtype=np.float32)[LABELS]
    after = before.copy()
    after[0] = [0.1, 0.2, 0.0]
    assert measure(before, after) == [{"output": "y", "samples": 4, "before": 1.0, "after": 0.75}]


def test_yes_or_no_scores_are_probabilities_or_logits():
    labels = np.array([0, 1, 0, 1])
    probabilities = np.float32([[0.2], [0.9], [0.4], [0.8]])
    assert measure(probabilities, 1 - probabilities, labels)[0]["before"] == 1.0
    assert measure(probabilities, 1 - probabilities, labels)[0]["after"] == 0.0
    assert measure(probabilities - 0.5, probabilities - 0.5, labels)[0]["before"] == 1.0


def test_class_numbers():
    assert measure(LABELS, LABELS[::-1])[0] == {"output": "y", "samples": 4, "before": 1.0, "after": 0.0}


def test_outputs_that_are_no_classes():
    assert measure(np.zeros((4, 2, 2)), np.zeros((4, 2, 2))) == []
    assert measure(np.zeros((4, 2)), np.zeros((4, 2))) == []  # the labels go to 2


def test_as_many_labels_as_samples():
    with pytest.raises(ParameterError, match="3 labels for 4 samples"):
        measure(np.zeros((4, 3)), np.zeros((4, 3)), LABELS[:3])


@pytest.mark.parametrize("labels", [LABELS, LABELS[:, None], LABELS.astype(float), np.eye(3)[LABELS]])
def test_forms_of_labels(tmp_path, labels):
    np.savez(tmp_path / "x.npz", labels=labels)
    np.testing.assert_array_equal(read_labels(tmp_path / "x.npz"), LABELS)


def test_no_labels_and_wrong_ones(tmp_path):
    np.savez(tmp_path / "x.npz", x=LABELS)
    assert read_labels(tmp_path / "x.npz") is None
    for wrong in (np.zeros((2, 3, 4)), np.array(["a"]), np.array([0.5])):
        np.savez(tmp_path / "x.npz", labels=wrong)
        with pytest.raises(ParameterError, match="write one class number per sample"):
            read_labels(tmp_path / "x.npz")


@pytest.mark.parametrize("kind", ["float16", "float32", "int8"])
def test_the_report_gives_accuracy_before_and_after(tmp_path, kind):
    """Labels are what the source answers, a fifth of them spoilt: it is right in four of five samples."""
    hub = blocks(tmp_path / "hub")
    samples = np.load(images(tmp_path / "images.npz", 50))["image"]
    exported = ExportJob("converted/x.tflite")
    export_model(hub, exported, tmp_path / "float.tflite")
    from converter.verification.runtimes import TFLiteModel

    model = TFLiteModel(tmp_path / "float.tflite")
    labels = model.run([samples])[0].argmax(1)
    labels[::5] = (labels[::5] + 1) % 10
    np.savez(tmp_path / "labelled.npz", image=samples, labels=labels)
    hub.write_reference(
        make_reference(hub.inputs, True, lambda arrays: model.run(arrays), user_inputs={"image": samples})
    )
    block = {"optimization": "default", "opsset": "tflite", "type": kind}
    block |= {"load": str(images(tmp_path / "load.npz"))} if kind == "int8" else {}
    job = ExportJob("converted/x.tflite", quantization=block, reference_inputs=tmp_path / "labelled.npz")
    result = export_model(hub, job, tmp_path / "x.tflite")
    described = result.metadata["quantization"]
    assert described["evaluated_on"] == f"samples of {tmp_path / 'labelled.npz'}"
    assert result.verification.samples == 50
    (accuracy,) = described["accuracy"]
    assert (accuracy["output"], accuracy["samples"], accuracy["before"]) == ("scores", 50, 0.8)
    assert abs(accuracy["after"] - 0.8) <= 0.1
    agreement = result.verification.outputs[0]["top1_agreement"]
    assert accuracy["after"] <= 0.8 + (1 - agreement) and (kind != "float16" or accuracy["after"] == 0.8)
