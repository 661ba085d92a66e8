"""MobileNetV2 and resnet18, trained on digits: accuracy on 360 held-out digits before and after quantization."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, Project
from quantized_files import VARIANTS, check_variant, targets
from trained_models import digits, train_mobilenet_v2, train_resnet18

SCHEMA = json.loads((ROOT / "configs" / "report.schema.json").read_text())
pytestmark = pytest.mark.slow


def check(project: Project, name: str) -> None:
    """All four quantized files keep the accuracy of the source within one percentage point."""
    for variant in VARIANTS:
        report = check_variant(project, SCHEMA, name, variant)
        (accuracy,) = report["metadata"]["quantization"]["accuracy"]
        assert accuracy["samples"] == 360 and accuracy["before"] > 0.95
        assert accuracy["after"] >= accuracy["before"] - 0.01
        assert report["verification"]["outputs"][0]["top1_agreement"] > 0.98


def convert(project: Project, file: str, train: Callable[[Path], None], name: str, **entry) -> None:
    model = Path(file).stem
    train(project.folder / "models" / file)
    images, test, _, labels = digits(channels_first=file.endswith(".pt"))
    np.savez(project.folder / "train.npz", images[:250])
    np.savez(project.folder / "test.npz", **{name: test, "labels": labels})
    entry |= {"quantization": {"load": "train.npz"}, "verify": {"inputs": "test.npz"}}
    run = project.snakemake(*targets(model), config={"models": {model: entry}})
    assert run.returncode == 0, run.stderr


def test_resnet18(project: Project):
    convert(project, "resnet18.pt", train_resnet18, "x", input_shape="1,3,32,32")
    check(project, "resnet18")


def test_mobilenet_v2(project: Project):
    convert(project, "MobileNetV2.h5", train_mobilenet_v2, "input_layer")
    check(project, "MobileNetV2")
