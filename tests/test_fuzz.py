"""A part of the fuzzer that fits into a test run; `make fuzz` does the rest."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.parametrize("kinds", ["keras,protobuf,checkpoint,savedmodel", "pytorch"])
def test_malformed_files(kinds: str) -> None:
    """Another seed than the long campaign's, so that the two do not see the same files."""
    command = [sys.executable, "-m", "fuzz", "--seed", "7", "--cases", "300", "--seconds", "12", "--kinds", kinds]
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "workflow")}
    run = subprocess.run(command, cwd=ROOT / "tests", env=environ, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    count, places = map(int, re.search(r"(\d+) distinct cases reached (\d+) places", run.stdout).groups())
    assert count >= 10 and places >= 5
