"""A part of the mutation campaign that fits into a test run (`make mutation` does the rest), and that it can fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import ROOT
from mutation.fault import weight_changes
from mutation.onnx_faults import onnx_faults
from onnx import TensorProto, helper, numpy_helper


def _campaign(folder: Path, *arguments: str) -> dict:
    written = folder / "mutants.json"
    command = [sys.executable, "-m", "mutation", "--only", "torch_perceptron,pb_heads", "--faults", "25", "--seed", "7"]
    command += ["--folder", str(folder / "models"), "--json", str(written), *arguments]
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "workflow")}
    run = subprocess.run(command, cwd=ROOT / "tests", env=environ, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    return json.loads(written.read_text())


def test_faults_in_exported_files_are_caught(tmp_path: Path) -> None:
    """And where the reference proves nothing, the same faults survive and are seen to: the score can fall."""
    found = _campaign(tmp_path)
    assert not found["without_file"]
    assert {(entry["model"], entry["target"]) for entry in found["mutants"]} == {
        (model, target) for model in ("torch_perceptron", "pb_heads") for target in ("onnx", "tflite")
    }
    ends = Counter(entry["outcome"] for entry in found["mutants"])
    assert ends["caught"] >= 50, ends
    assert ends["survived"] <= 0.01 * (ends["caught"] + ends["survived"]), [
        entry for entry in found["mutants"] if entry["outcome"] == "survived"
    ]
    blind = _campaign(tmp_path, "--blind")["mutants"]
    assert [entry["words"] for entry in blind] == [entry["words"] for entry in found["mutants"]]
    survivors = [entry for entry in blind if entry["outcome"] == "survived"]
    assert len(survivors) >= 10
    # What only verification on real inputs had caught; each is effective by numbers that verification never sees.
    caught = {(e["model"], e["target"], e["words"]) for e in found["mutants"] if e["outcome"] == "caught"}
    seen = [entry for entry in survivors if (entry["model"], entry["target"], entry["words"]) in caught]
    assert len(seen) >= 0.9 * len(survivors)


def _graph() -> onnx.ModelProto:
    weights = numpy_helper.from_array(np.linspace(-1, 1.1, 6, dtype=np.float32).reshape(2, 3), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])
    return helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], [weights]), opset_imports=[helper.make_opsetid("", 13)], ir_version=8
    )


def test_a_fault_changes_what_it_names() -> None:
    """Every fault of a small graph gives a valid model that answers otherwise."""
    import onnxruntime

    x = np.array([[1.0, -2.0], [-1.0, 0.5], [8.0, 9.0]], np.float32)

    def answer(model: onnx.ModelProto) -> np.ndarray:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return session.run(None, {"x": x})[0]

    expected, seen = answer(_graph()), Counter()
    for fault in onnx_faults(_graph(), 1):
        model = _graph()
        fault.apply(model)
        assert model != _graph(), fault.words
        try:
            changed = answer(model)
        except Exception:  # noqa: S112 - swapped and missing operators whose shapes do not fit
            seen["refused"] += 1
            continue
        differs = changed.shape != expected.shape or bool(np.abs(changed - expected).max() > 0)
        assert differs or fault.kind == "weights: rounded to bfloat16", (
            fault.words
        )  # small whole numbers have no more digits
        seen[fault.kind] += 1
    assert {"weights: all of a tensor by 1 %", "activation", "operator missing"} <= set(seen)
    assert seen["refused"] <= 3


@pytest.mark.parametrize("shape", [(4, 3), (3, 3, 2, 5), (6,)])
def test_changes_of_weights_are_as_large_as_they_say(shape: tuple[int, ...]) -> None:
    value = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    for kind, words, changed in weight_changes(value, np.random.default_rng(1)):
        assert (changed.shape, changed.dtype) == (value.shape, value.dtype)
        differing = changed != value
        share = np.abs(changed - value)[differing] / np.abs(value)[differing]
        if kind.endswith("all of a tensor by 1 %"):
            assert differing.all() and np.allclose(share, 0.01, atol=1e-5)
        elif kind.endswith("one channel by 1 %"):
            assert 0 < differing.sum() < value.size and np.allclose(share, 0.01, atol=1e-5), words
        elif kind.endswith("one value by its own size"):
            assert differing.sum() == 1 and np.allclose(share, 1)
        elif kind.endswith("bfloat16"):
            assert share.max() < 2**-7
        else:
            assert np.array_equal(np.sort(changed, axis=None), np.sort(value, axis=None))
