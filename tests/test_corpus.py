"""The corpus (benchmarks/corpus): a budgeted part of it, and its page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

BENCHMARKS = ROOT / "benchmarks"


def run(work: Path, *arguments: str) -> dict:
    environ = {**os.environ, "PYTHONPATH": f"{ROOT / 'workflow'}:{BENCHMARKS}"}
    command = [sys.executable, "-m", "corpus", "--work", str(work), "--results", str(work / "results.json"), *arguments]
    subprocess.run(command, env=environ, check=True, capture_output=True)
    return json.loads((work / "results.json").read_text())


@pytest.mark.slow
def test_models_of_three_families(tmp_path):
    chosen = [("transformers", "gpt2", "onnx,tflite"), ("timm", "repghostnet_050", "onnx"),
              ("torchvision", "squeezenet1_1", "onnx")]  # fmt: skip
    results = {}
    for family, name, targets in chosen:
        results |= run(tmp_path / family, "--families", family, "--models", name, "--targets", targets)
    found = {name: {t: r["status"] for t, r in e["converter"].items() if t != "import"} for name, e in results.items()}
    assert found == {
        "transformers-gpt2": {"onnx": "verified", "tflite": "verified"},
        "timm-repghostnet_050": {"onnx": "verified"},
        "torchvision-squeezenet1_1": {"onnx": "verified"},
    }
    official = results["timm-repghostnet_050"]["official"]["onnx"]
    assert official["outcome"] == "verified" and official["cpu_seconds"] > 0
    # Exported with a mask of ones, it is for such masks only.
    assert results["transformers-gpt2"]["official"]["onnx"]["outcome"] == "wrong"


def entry(family, name, onnx, official):
    made = {"status": onnx, "reason": f"add in module {name} is unknown", "share_of_tolerance": 0.25, "cpu_seconds": 2.0,
            "peak_memory_mb": 100}  # fmt: skip
    outcome = {"outcome": official, "reason": None, "cpu_seconds": 8.0, "peak_memory_mb": 200}
    imported = {"cpu_seconds": 3.0, "peak_memory_mb": 90}
    return {
        "family": family,
        "name": name,
        "converter": {"onnx": made, "import": imported},
        "official": {"onnx": outcome},
    }


def test_the_page_counts_what_is_right_and_groups_what_is_refused(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from corpus import page

    monkeypatch.setattr(page, "PAGE", tmp_path / "corpus.md")
    names = [
        ("a", "verified", "verified"),
        ("b", "verified", "wrong"),
        ("c", "failed", "failed"),
        ("d", "failed", "failed"),
    ]
    page.write_page({name: entry("timm", name, own, other) for name, own, other in names})
    text = (tmp_path / "corpus.md").read_text()
    assert "| timm | 4 | 2 of 4 (50.0 %) | not tried | not tried | 1 of 4 (25.0 %), 1 wrong | not tried |" in text
    assert "| timm | ONNX | 1 | 2 | 3 | 8 | 100 | 200 |" in text  # of a alone
    assert "- add in a module is unknown: c, d" in text
    assert "| b | 3.0 | 25 %, 2.0 s |  |  | wrong, 8.0 s |  |" in text
