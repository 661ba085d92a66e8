"""The same cases by onnx2tf, in an environment of its own: how many of its files give what the tests expect.

    PYTHONPATH=workflow:benchmarks:scripts python -m onnx_nodes.onnx2tf_baseline --work FOLDER [--count 150] [--only TEXT ...]

Makes the environment below FOLDER, converts there, and adds the outcomes to docs/onnx-nodes.json. onnx2tf is given each case
with the constants with which this project's own conversion came about, and again with all inputs but the first as constants;
its file gets the inputs in either layout, and its outputs are taken in either: what counts is whether any of these gives the
numbers that the test expects, within this project's tolerance.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from converter.hub.hub import Run, TensorSpec
from converter.onnx.constants import fix_constants
from converter.verification.verify import Tolerance, verify
from onnx_nodes.__main__ import RESULTS
from onnx_nodes.cases import Case, all_cases
from onnx_nodes.page import write_page

# 2.x needs Python 3.12; this is the newest that installs beside the Python of this project, 3.11.
_PACKAGES = (
    "onnx2tf==1.29.24",
    "tensorflow==2.19.0",
    "tf-keras==2.19.0",
    "onnx==1.19.1",
    "onnx-graphsurgeon==0.5.8",
    "sng4onnx==2.0.1",
    "ai-edge-litert==2.1.0",
    "onnxruntime==1.23.0",
    "psutil",
)
_WORKER = Path(__file__).with_name("onnx2tf_worker.py")


def main() -> None:
    parser = argparse.ArgumentParser(prog="onnx2tf_baseline", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="where the environment and the files lie")
    parser.add_argument("--count", type=int, help="so many cases, drawn by their names' hashes; left out, all")
    parser.add_argument("--only", nargs="*", default=None, help="parts of cases' names")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    python = _environment(args.work)
    results: dict[str, Any] = json.loads(args.results.read_text())
    wanted = {
        case.name: case
        for case in sorted(_possible(results), key=lambda case: hashlib.sha256(case.name.encode()).digest())
        if args.only is None or any(text in case.name for text in args.only)
    }
    drawn = list(wanted)[: args.count]
    cases = {name: wanted[name] for name in drawn if "onnx2tf" not in results[name]}
    for answer in _answers(python, args.work, cases, results):
        folder = Path(answer["folder"])
        name = folder.parent.name
        found = judged(cases[name], answer, folder / "outputs.npz")
        if results[name].get("onnx2tf", {}).get("outcome") != "right":
            results[name]["onnx2tf"] = found
        args.results.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
        print(name, found["outcome"], (found["reason"] or "")[:200], flush=True)
    if args.results == RESULTS:
        write_page(results)


def _possible(results: Mapping[str, Any]) -> Iterator[Case]:
    """Those that a TensorFlow Lite file can hold and onnxruntime has an answer to, for which this project was measured."""
    for case in all_cases():
        entry = results.get(case.name, {})
        if entry.get("cannot", {}).get("tflite") is None and entry.get("tflite", {}).get("outcome") not in (
            None,
            "no reference",
        ):
            yield case


def _environment(work: Path) -> Path:
    python = work / "venv" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(work / "venv")], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *_PACKAGES], check=True)
    return python


def _answers(
    python: Path, work: Path, cases: Mapping[str, Case], results: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """What the worker says of each form of each case, in whose folder it leaves outputs.npz."""
    folders = []
    for name, case in cases.items():
        own = sorted(results[name]["tflite"].get("constants") or [])
        for form, constants in enumerate(_forms(case, own)):
            folders.append(work / name / str(form))
            folders[-1].mkdir(parents=True, exist_ok=True)
            _write(case, constants, folders[-1])
    if not folders:
        return
    command = [str(python), str(_WORKER), *map(str, folders)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                yield json.loads(line)


def _forms(case: Case, own: list[str]) -> list[list[str]]:
    given = zip(case.model.graph.input[1:], case.inputs[1:], strict=True)
    rest = sorted(entry.name for entry, value in given if isinstance(value, np.ndarray))
    return [own] if own == rest else [own, rest]


def _write(case: Case, constants: list[str], folder: Path) -> None:
    """case.onnx, and inputs.npz with those that are left."""
    model = onnx.ModelProto.FromString(case.model.SerializeToString())
    given = dict(zip((entry.name for entry in model.graph.input), case.inputs, strict=True))
    fix_constants(model, folder / "case.onnx", {name: given[name] for name in constants})
    onnx.save(model, folder / "case.onnx")
    np.savez(folder / "inputs.npz", **{entry.name: given[entry.name] for entry in model.graph.input})


def judged(case: Case, answer: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """{"outcome": "right", "wrong" or "failed", "reason", "cpu_seconds"}: by the outputs of any of the layouts."""
    if answer["reason"] is not None:
        return {"outcome": "failed", "reason": answer["reason"], "cpu_seconds": answer["cpu_seconds"]}
    message = "its outputs have other shapes or names"
    with np.load(path) as stored:
        layouts = sorted({key.split("/")[0] for key in stored.files})
        for layout in layouts:
            count = sum(key.startswith(f"{layout}/") for key in stored.files)
            outputs = [stored[f"{layout}/{index}"] for index in range(count)]
            for order in _orders(len(outputs)):
                verdict = _verdict(case, [outputs[place] for place in order])
                if verdict is None:
                    return {"outcome": "right", "reason": None, "cpu_seconds": answer["cpu_seconds"]}
                message = verdict or message
    return {"outcome": "wrong", "reason": message, "cpu_seconds": answer["cpu_seconds"]}


def _orders(count: int) -> Iterator[tuple[int, ...]]:
    """Outputs of the file have names of their own: any order counts, of up to four."""
    yield from itertools.permutations(range(count)) if count <= 4 else [tuple(range(count))]


def _verdict(case: Case, outputs: list[np.ndarray]) -> str | None:
    """None where all are as expected; else what is not, empty for shapes."""
    expected = [np.asarray(array) for array in case.expected]
    if len(outputs) != len(expected):
        return ""
    fitted = []
    for array, wanted in zip(outputs, expected, strict=True):
        found = _fitted(array, wanted)
        if found is None:
            return ""
        fitted.append(found)
    names = [entry.name for entry in case.model.graph.output]
    specs = [
        TensorSpec(name, array.shape, array.dtype.name if array.dtype.kind != "f" else "float32")
        for name, array in zip(names, expected, strict=True)
    ]
    wide = [array.astype(np.float32) if array.dtype.kind == "f" else array for array in expected]
    verification = verify(specs, [Run([], wide, "typical")], lambda _: fitted, Tolerance(), "LiteRT")
    return None if verification.passed else verification.message


def _fitted(array: np.ndarray, wanted: np.ndarray) -> np.ndarray | None:
    """In the expected layout: as it is, or with its channels put back in front; the one of these that is nearer."""
    candidates = [array] if array.shape == wanted.shape else []
    if array.ndim >= 3:
        moved = np.moveaxis(array, -1, 1)
        candidates += [moved] if moved.shape == wanted.shape else []
    if not candidates and array.size == wanted.size == 1:
        candidates = [array.reshape(wanted.shape)]
    if not candidates:
        return None
    with np.errstate(all="ignore"):
        nearest = min(candidates, key=lambda x: float(np.sum(x.astype(np.float64) != wanted.astype(np.float64))))
    return nearest.astype(np.float32 if wanted.dtype.kind == "f" else wanted.dtype)


if __name__ == "__main__":
    main()
