"""The same sources, parameters and versions give the same bytes and the same reports but for times: whatever the order,
with one core or many, in one process or in many."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from faults.harness import fingerprint

# Sources by model name, and what each becomes.
_SUFFIXES = {
    "legacy": ["onnx", "tflite", "float16.tflite", "dynamic.tflite", "int8.tflite", "pb"],
    "modern": ["onnx", "tflite", "pb"],
    "frozen": ["onnx", "tflite", "float16.tflite"],
    "model": ["onnx", "tflite", "pb"],
    "saved_v1": ["onnx", "tflite", "pb"],
    "saved_v2": ["onnx", "tflite", "int8.tflite", "pb"],
    "module": ["onnx", "tflite", "keras", "h5", "int8.tflite"],
    "script": ["onnx"],
    "program": ["onnx", "tflite"],
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder models/ with a small model of every format; made in another process, which may start frameworks."""
    folder = tmp_path_factory.mktemp("sources")
    code = f"import sys; sys.path[:0] = [{str(ROOT / 'tests')!r}]\nfrom pathlib import Path\nfrom fuzz.seeds import write_seeds"
    subprocess.run(
        [sys.executable, "-c", f"{code}\nwrite_seeds(Path({str(folder)!r}))"], check=True, capture_output=True
    )
    for path in (folder / "checkpoint").iterdir():
        path.rename(folder / path.name)
    (folder / "checkpoint").rmdir()
    for name in ("old.pt", "frozen.pbtxt", "modern.h5"):
        (folder / name).unlink()
    np.savez(folder / "images.npz", images=np.random.default_rng(1).standard_normal((8, 6, 6, 2)).astype(np.float32))
    np.savez(folder / "planes.npz", planes=np.random.default_rng(1).standard_normal((8, 2, 6, 6)).astype(np.float32))
    np.savez(folder / "rows.npz", rows=np.random.default_rng(1).standard_normal((8, 4)).astype(np.float32))
    return folder


def convert(folder: Path, sources: Path, names: list[str], cores: int) -> dict[str, str]:
    shutil.copytree(sources, folder / "models")
    config = {"models": {name: {} for name in _SUFFIXES}}
    config["models"]["legacy"] = {"quantization": {"load": "models/images.npz"}}
    config["models"]["saved_v2"] = {"quantization": {"load": "models/rows.npz"}}
    config["models"]["module"] = {"input_shape": "-1,2,6,6", "quantization": {"load": "models/planes.npz"}}
    config["models"]["script"] = {"input_shape": "-1,2,6,6"}
    (folder / "test.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), *names]
    command += ["--cores", str(cores), "--configfile", "test.json"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=3000)
    assert run.returncode == 0, run.stderr[-3000:]
    return fingerprint(folder)


def test_everything_twice(sources: Path, tmp_path: Path) -> None:
    names = [f"converted/{model}.{suffix}" for model, suffixes in _SUFFIXES.items() for suffix in suffixes]
    first = convert(tmp_path / "one", sources, names, cores=1)
    again = convert(tmp_path / "many", sources, names[::-1], cores=4)
    assert sorted(name for name in first if name.startswith("converted/")) == sorted(names)
    assert {name for name in first if first[name] != again.get(name)} == set()
    assert first.keys() == again.keys()
