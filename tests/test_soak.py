"""A thousand conversions in one run: nothing grows, and nothing is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT


@pytest.mark.slow
def test_a_thousand_conversions(tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT / "workflow")])}
    run = subprocess.run(
        [sys.executable, "-m", "soak", str(tmp_path / "soak")], env=environ, capture_output=True, text=True
    )
    print(run.stdout)
    result = json.loads(run.stdout)
    assert result["exit"] == 0 and result["conversions"] == 1000
    assert result["temporary"] == [] and result["staged"] == [] and result["processes"] == []
    (early,), (late,) = result["early"]["preloaded"], result["late"]["preloaded"]
    assert late["mb"] <= early["mb"] * 1.05 + 5 and late["threads"] == early["threads"]
    assert late["files"] <= early["files"] + 4  # a few steps at once
    (early,), (late,) = result["early"]["snakemake"], result["late"]["snakemake"]
    assert late["mb"] <= early["mb"] * 1.5 + 50 and late["files"] <= early["files"] + 20
