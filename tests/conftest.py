"""Shared by all tests: where the repository lies, and a folder in which Snakemake runs as a user would run it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from commands import SNAKEMAKE

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")


# Files that take minutes, the longest first: two processes share the tests by files, and none should be left with one of these.
_LONG = (
    "test_pytorch_acceptance", "test_rebuild_user_code", "test_perturbation", "test_faults", "test_fuzz", "test_determinism",
    "test_strange_sources", "test_confinement", "test_acceptance", "test_huggingface", "test_check", "test_rebuild",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(_LONG)}
    items.sort(key=lambda item: places.get(item.path.stem, len(_LONG)))


class Project:
    """A user's folder: models/ to fill, and `snakemake` to call in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "models").mkdir()

    def snakemake(self, *arguments: str, config: dict | None = None) -> subprocess.CompletedProcess:
        """Run Snakemake here. `config` is given with --configfile."""
        command = [*SNAKEMAKE, *arguments]
        if config is not None:
            path = self.folder / "test-config.json"
            path.write_text(json.dumps(config))
            command += ["--configfile", str(path)]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=1200)

    def report(self, name: str) -> dict:
        return json.loads((self.folder / "reports" / f"{name}.json").read_text())

    def converted(self) -> list[str]:
        """All files below converted/, relative to it, sorted."""
        folder = self.folder / "converted"
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def last_line(run: subprocess.CompletedProcess) -> str:
    return (run.stderr.strip().splitlines() or [""])[-1]
