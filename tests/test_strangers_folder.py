"""A stranger's folder, converted from another one with `-d`: its profile and the configuration in that are left alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Project
from text_graphs import linear


@pytest.mark.parametrize("inside", [True, False])
def test_a_planted_profile(inside: bool, project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    """It is the user's own to Snakemake where the run starts in the folder, and is not looked at with `-d`."""
    folder = project.folder
    (folder / "models" / "good.pbtxt").write_text(linear())
    (folder / "models" / "other.pbtxt").write_text(linear((9, 9, 9, 9)))
    (folder / "planted.yaml").write_text("models:\n  good: {convert_from: models/other.pbtxt}\n")
    for place in ("profiles/default", "default", "workflow/profiles/default", ".config/snakemake/default"):
        (folder / place).mkdir(parents=True)
        (folder / place / "config.yaml").write_text("cores: 1\nquiet: [all]\nconfigfile: [planted.yaml]\n")
    elsewhere: Path = tmp_path_factory.mktemp("elsewhere")
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "converted/good.onnx"]
    command += [] if inside else ["--directory", str(folder)]
    run = subprocess.run(command, cwd=folder if inside else elsewhere, capture_output=True, text=True, timeout=1200)
    assert run.returncode == 0, run.stderr[-3000:]
    assert project.report("good.onnx")["source"]["path"] == f"models/{'other' if inside else 'good'}.pbtxt"
    assert not list(elsewhere.rglob("good.onnx"))
