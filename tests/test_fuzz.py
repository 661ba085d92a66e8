"""A part of the fuzzer that fits into a test run; `make fuzz` does the rest."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT


def _fuzz(*arguments: str) -> tuple[int, int]:
    """Distinct cases, and places of the loaders that they reached; none of them ended as none may."""
    command = [sys.executable, "-m", "fuzz", "--seed", "7", *arguments]
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "workflow")}
    run = subprocess.run(command, cwd=ROOT / "tests", env=environ, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    count, places = map(int, re.search(r"(\d+) distinct cases reached (\d+) places", run.stdout).groups())
    return count, places


@pytest.mark.parametrize("kinds", ["keras,protobuf,checkpoint,savedmodel", "pytorch"])
def test_malformed_files(kinds: str) -> None:
    """Another seed than the long campaign's, so that the two do not see the same files."""
    count, places = _fuzz("--cases", "300", "--seconds", "12", "--kinds", kinds)
    assert count >= 10 and places >= 5


def test_names_that_are_code() -> None:
    count, _ = _fuzz(
        "--cases", "60", "--kinds", "pytorch program,pytorch module,pytorch old", "--ways", "name", "--export"
    )
    assert count >= 40
