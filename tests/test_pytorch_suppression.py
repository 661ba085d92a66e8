"""nms in TensorFlow Lite: a head of one stage with its post-processing, and the values at which the runtimes differ."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from special_hubs import export_to, program_hub

from converter.errors import UnsupportedError
from converter.torch.extensions.vision import import_torchvision

torchvision = import_torchvision()


class Head(torch.nn.Module):
    """Cells of a grid, each with a box around it and scores of three classes."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.SiLU(), torch.nn.Conv2d(8, 7, 3, 2, 1))

    def forward(self, image):
        raw = self.body(image)[0].flatten(1).T
        rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(8.0), indexing="ij")
        centre = torch.stack([columns.flatten(), rows.flatten()], 1) + raw[:, :2].sigmoid()
        half = raw[:, 2:4].exp()
        scores, classes = (raw[:, 4:] * 4).softmax(1).max(1)
        boxes = torch.cat([centre - half, centre + half], 1)
        keep = torchvision.ops.batched_nms(boxes, scores, classes, 0.45)
        return boxes[keep], scores[keep], classes[keep]


def test_a_head_with_its_post_processing(tmp_path):
    rng = np.random.default_rng(0)
    samples = {
        kind: [rng.normal(size=(1, 3, 24, 32)).astype(np.float32) * 2] for kind in ("typical", "another", "third")
    }
    hub = program_hub(tmp_path / "hub", Head(), samples)
    kept = {len(run.outputs[0]) for run in hub.reference()}
    assert len(kept) > 1 and max(kept) < 48
    result = export_to(hub, "tflite", tmp_path)
    assert result.verification.passed, result.verification.message
    assert result.route[-1] != "litert-torch"
    assert [spec.shape[0] for spec in result.outputs] == [None, None, None]
    with pytest.raises(UnsupportedError, match="torchvision.nms.default in .* no suppression of boxes"):
        export_to(hub, "keras", tmp_path)


class Classes(torch.nn.Module):
    """Rows and classes of the best scores above a bound, of which there may be fewer than asked for."""

    def forward(self, scores):
        flat = scores.flatten()
        keep = flat > 0.3
        found = torch.where(keep)[0]
        best, places = flat[keep].topk(torch.sym_min(4, found.shape[0]))
        found = found[places]
        return best, torch.div(found, 3, rounding_mode="floor"), found % 3


def test_places_are_divided_into_rows_and_classes(tmp_path):
    rng = np.random.default_rng(0)
    scores = rng.permutation(24).astype(np.float32).reshape(8, 3) / 24
    samples = {"typical": [scores], "other": [scores[::-1].copy()], "few": [scores[:2] * 0.5]}
    hub = program_hub(tmp_path / "hub", Classes(), samples)
    assert [len(run.outputs[0]) < 4 for run in hub.reference()] == [False, False, True]
    result = export_to(hub, "tflite", tmp_path)
    assert result.verification.passed, result.verification.message
    assert result.route[-1] != "litert-torch"


def suppressed(threshold):
    return lambda boxes, scores: torchvision.ops.nms(boxes, scores, threshold)


class Best(torch.nn.Module):
    """At most five of the boxes that stay, and their number."""

    def forward(self, boxes, scores):
        keep = torchvision.ops.nms(boxes, scores, 0.5)
        kept = scores[keep]
        best, places = kept.topk(torch.sym_min(5, kept.shape[0]))
        return (
            boxes[keep][places],
            best,
            keep[:3],
            keep[1:3],
            torch.full_like(kept, 1).cumsum(0),
            torch.arange(best.shape[0]),
        )


def test_the_best_of_an_unknown_number(tmp_path):
    scores = {"typical": [0.3, 0.8, 0.9, 0.6, 0.5, 0.4, 0.7, 0.2], "other": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]}
    samples = {kind: [BOXES, np.array(values, np.float32)] for kind, values in scores.items()}
    samples["few"] = [BOXES[:2], np.array([0.1, 0.9], np.float32)]
    hub = program_hub(tmp_path / "hub", Best(), samples, shared_batch=True)
    assert {len(run.outputs[0]) for run in hub.reference()} == {5, 2}
    result = export_to(hub, "tflite", tmp_path)
    assert result.verification.passed, result.verification.message


BOXES = np.array(
    [[0, 0, 1, 1], [0, 0, 1, 2], [5, 5, 4, 4], [4, 4, 5, 5], [0, 0, 1, 1], [2, 2, 2, 2], [8, 8, 9, 9], [8, 8, 9, 9.5]],
    np.float32,
)
SCORES = {
    "typical": [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2],
    "minus infinity": [0.9, -np.inf, 0.7, -1, 0.5, 0.4, 0.3, -0.5],
    "infinity": [0.9, np.inf, 0.7, 0.6, 0.5, 0.4, -0.3, -0.2],
    "nan": [0.1, 0.8, np.nan, 0.6, 0.5, 0.4, 0.3, 0.2],
}


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.5, 2 / 3, 0.7])
def test_overlaps_of_the_threshold_and_special_scores(tmp_path, threshold):
    """Overlaps of exactly 0.5, and of 2/3; corners that are exchanged; a box without an area."""
    samples = {kind: [BOXES, np.array(scores, np.float32)] for kind, scores in SCORES.items()}
    hub = program_hub(tmp_path / "hub", suppressed(threshold), samples, shared_batch=True)
    result = export_to(hub, "tflite", tmp_path)
    assert result.verification.passed, result.verification.message


@pytest.mark.parametrize("threshold", [-0.5, 1.0])
def test_thresholds_that_tensorflow_does_not_take(tmp_path, threshold):
    samples = {"typical": [BOXES, np.array(SCORES["typical"], np.float32)]}
    hub = program_hub(tmp_path / "hub", suppressed(threshold), samples, shared_batch=True)
    with pytest.raises(UnsupportedError, match="iou_threshold is"):
        export_to(hub, "tflite", tmp_path)
