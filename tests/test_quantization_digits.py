"""The digits classifier in all its forms: accuracy on 360 held-out digits before and after, and the page that compares."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, Project
from quantized_files import VARIANTS, check_variant, targets
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SCHEMA = json.loads((ROOT / "configs" / "report.schema.json").read_text())
SCRIPT = """
import numpy as np

def get_dataset():
    for image in np.load("data/train.npz")["image"]:
        yield image[None]
"""


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Project:
    """models/digits.h5 with its own training and test digits, as models/train_digits.py splits them; converted."""
    project = Project(tmp_path_factory.mktemp("digits"))
    shutil.copyfile(ROOT / "models" / "digits.h5", project.folder / "models" / "digits.h5")
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype("float32").reshape(-1, 8, 8, 1)
    train, test, _, truth = train_test_split(images, labels, test_size=360, random_state=1, stratify=labels)
    (project.folder / "data").mkdir()
    np.savez(project.folder / "data" / "train.npz", image=train[:500])
    np.savez(project.folder / "data" / "test.npz", image=test, labels=truth)
    (project.folder / "data" / "digits.py").write_text(SCRIPT)
    entry = {"quantization": {"load": "data/digits.py"}, "verify": {"inputs": "data/test.npz"}}
    run = project.snakemake(
        *targets("digits"), "reports/digits.quantization.html", config={"models": {"digits": entry}}
    )
    assert run.returncode == 0, run.stderr
    return project


@pytest.mark.parametrize("variant", VARIANTS)
def test_held_out_digits(digits: Project, variant):
    report = check_variant(digits, SCHEMA, "digits", variant)
    described = report["metadata"]["quantization"]
    assert described["evaluated_on"] == "samples of data/test.npz" and report["verification"]["samples"] == 360
    (accuracy,) = described["accuracy"]
    assert accuracy["samples"] == 360 and accuracy["before"] > 0.97
    assert accuracy["after"] >= accuracy["before"] - 0.01
    if variant in ("int8", "uint8"):
        assert described["calibration_samples"] == 400  # of 500, a fifth is held out
        assert not any("samples; 100 or more" in note for note in report["notes"])


def test_the_page_shows_what_the_reports_say(digits: Project):
    html = (digits.folder / "reports" / "digits.quantization.html").read_text()
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", html)
    for variant in VARIANTS:
        size = digits.report(f"digits.{variant}.tflite")["file"]["bytes"]
        assert f'<td class="number">{size:,}</td>' in html  # made apart, and the same bytes
    accuracies = table(html, "accuracy on labels")
    assert list(accuracies) == ["float32", *VARIANTS]
    described = digits.report("digits.int8.tflite")["metadata"]["quantization"]["accuracy"][0]
    assert float(accuracies["int8"][-1]) == pytest.approx(described["after"], rel=1e-3)
    assert float(accuracies["float32"][-1]) == pytest.approx(described["before"], rel=1e-3)
    sizes = table(html, "median ms")
    assert sizes["int8"][-2:] == ["int8", "int8"] and sizes["dynamic"][-2:] == ["float32", "float32"]
    assert all(float(row[4]) > 0 and float(row[5]) >= float(row[4]) * 0.99 for row in sizes.values())
    assert html.count("<svg") == 1 and "accuracy on labels" in html


def table(html: str, column: str) -> dict[str, list[str]]:
    """The cells of the table that has this column, by the first one of each row."""
    (text,) = [text for text in re.findall(r"<table>.*?</table>", html, re.DOTALL) if f">{column}</th>" in text]
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr><td.*?</tr>", text)]
    return {row[0]: row for row in rows}


def test_without_data_the_page_says_why_there_is_no_integer_file(tmp_path: Path):
    project = Project(tmp_path)
    shutil.copyfile(ROOT / "models" / "digits.h5", project.folder / "models" / "digits.h5")
    config = {
        "jobs": [
            {
                "convert_from": "models/digits.h5",
                "convert_to": "converted/digits.dynamic.tflite",
                "quantization": {"type": "int8"},
                "skip": True,
            }
        ]
    }
    run = project.snakemake("reports/digits.quantization.html", config=config)
    assert run.returncode == 0, run.stderr
    html = (project.folder / "reports" / "digits.quantization.html").read_text()
    rows = table(html, "why")
    assert set(rows) == {"dynamic", "int8", "uint8"}
    assert "needs representative data" in rows["int8"][2] and "contradicts" in rows["dynamic"][2]
    assert table(html, "median ms")["int8"][1:3] == ["not made", "–"]
