"""A part of the fuzzer that fits into a test run; `make fuzz` does the rest."""

from __future__ import annotations

import itertools
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT

from converter.contracts import ImportSpec
from converter.errors import ConverterError, UntrustedError
from converter.hub.hub import Run, TensorSpec
from converter.torch.program.flat import Call, Slot
from converter.torch.sources.inputs import Inputs
from converter.torch.sources.loading import load_source
from converter.torch.sources.tracing import TraceError, export_program


@pytest.mark.parametrize("kinds", ["keras,protobuf,checkpoint,savedmodel", "pytorch", "onnx,tflite"])
def test_malformed_files(kinds: str) -> None:
    """Another seed than the long campaign's, so that the two do not see the same files."""
    command = [sys.executable, "-m", "fuzz", "--seed", "7", "--cases", "30", "--kinds", kinds]
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "workflow")}
    run = subprocess.run(command, cwd=ROOT / "tests", env=environ, capture_output=True, text=True, timeout=1800)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    count, places = map(int, re.search(r"(\d+) distinct cases reached (\d+) places", run.stdout).groups())
    assert count >= 15 and places >= 5


@pytest.mark.parametrize("kind", ["module", "old format", "program"])
def test_names_that_are_code(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, where nothing but the code itself stops them: loaded, and traced as an import would."""
    from fuzz.name_cases import name_cases
    from fuzz.seeds import pytorch_seeds

    cases = name_cases(pytorch_seeds(tmp_path)[f"pytorch {kind}"], random.Random(f"7 {kind}"))
    monkeypatch.chdir(tmp_path)
    Path("hub").mkdir()
    Path("case").mkdir()
    refused = 0
    for index, (_, build) in enumerate(itertools.islice(cases, 60)):
        path = build(Path("case"))
        try:
            source = load_source(ImportSpec(path, "pytorch"))
            if source.program is None:
                with suppress(TraceError):
                    export_program(source, *_flat_call(source.module))
        except ConverterError as error:
            refused += isinstance(error, UntrustedError)
        assert not os.listdir("hub"), f"case {index} was run"
    assert refused >= 15


def _flat_call(module: torch.nn.Module) -> tuple[Inputs, list[TensorSpec], list[Run], Callable[[], list[Run]], bool]:
    image = torch.zeros(1, 2, 6, 6)
    runs = [Run([image.numpy()], [np.zeros((1, 3), np.float32)])]
    inputs = Inputs(Call((Slot(0),), {}), [TensorSpec("x", (1, 2, 6, 6), "float32")])
    return inputs, [TensorSpec("y", (1, 3), "float32")], runs, lambda: runs, True
