"""Accuracy on labelled samples (`verify.inputs` with an array `labels`): of the source, and of the quantized file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from converter.errors import ParameterError
from converter.hub.hub import Run, TensorSpec

__all__ = ["LABELS", "accuracies", "read_labels"]

LABELS = "labels"


def read_labels(path: Path) -> np.ndarray | None:
    """The true classes, int64 of shape (samples,), from class numbers or one-hot rows; None without `labels`.

    Raises ParameterError for an array that is neither.
    """
    with np.load(path, allow_pickle=False) as stored:  # the import has read it
        if LABELS not in stored.files:
            return None
        labels = stored[LABELS]
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and labels.dtype.kind in "biuf" and (labels.sum(1) == 1).all():
        return labels.argmax(1)
    if labels.ndim != 1 or labels.dtype.kind not in "biuf" or (labels != np.rint(labels)).any():
        raise ParameterError(
            f"verify.inputs: labels of {path} is {labels.dtype} {list(labels.shape)}; write one class number per sample"
        )
    return labels.astype(np.int64)


def accuracies(
    outputs: Sequence[TensorSpec], before: Sequence[Run], after: Sequence[Run], labels: np.ndarray
) -> list[dict]:
    """Per output that gives a class for each sample: its name, the samples, and the share that is right before and after.

    `before`, `after`: runs over the same samples in the order of the labels; class scores have shape (rows, classes), the
    score of a yes-or-no question (rows,) or (rows, 1), class numbers (rows,). Raises ParameterError where the samples
    are not as many as the labels.
    """
    found = []
    for position, spec in enumerate(outputs):
        old, new = ([run.outputs[position] for run in runs] for runs in (before, after))
        if any(array.ndim not in (1, 2) for array in [*old, *new]):
            continue
        old, new = np.concatenate(old), np.concatenate(new)
        if len(old) != len(labels):
            raise ParameterError(f"verify.inputs: there are {len(labels)} labels for {len(old)} samples")
        threshold = _threshold(old)
        if old.ndim == 2 and old.shape[1] > 1 and old.shape[1] <= labels.max(initial=0):
            continue  # fewer classes than the labels name
        shares = [float((_classes(array, threshold) == labels).mean()) for array in (old, new)]
        found.append({"output": spec.name, "samples": len(labels), "before": shares[0], "after": shares[1]})
    return found


def _threshold(scores: np.ndarray) -> float:
    """Of a yes-or-no score: 0.5 for probabilities, 0 for logits."""
    return 0.5 if ((scores >= 0) & (scores <= 1)).all() else 0.0


def _classes(scores: np.ndarray, threshold: float) -> np.ndarray:
    if scores.ndim == 2 and scores.shape[1] > 1:
        return scores.argmax(1)
    flat = scores.reshape(-1)
    return flat if flat.dtype.kind in "iu" else (flat > threshold).astype(np.int64)
