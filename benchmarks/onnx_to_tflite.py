"""CPU seconds and memory of ONNX models to TensorFlow Lite, beside onnx2tf's: onnx_to_tflite.py MODELS WORK

MODELS: a folder of .onnx files. This program converts all of them in one run of Snakemake, verification and report included, as
somebody who has them would; onnx2tf converts each in a process of its own, as its command line does, and verifies nothing.
WORK/venv: onnx2tf's environment (onnx_nodes/onnx2tf_baseline.py makes it). Prints a table of docs/onnx.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

from measure import measure

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", type=Path)
    parser.add_argument("work", type=Path)
    args = parser.parse_args()
    names = sorted(path.stem for path in args.models.glob("*.onnx"))
    ours, statuses = _ours(args.models, args.work / "ours", names)
    theirs = {name: _onnx2tf(args.models / f"{name}.onnx", args.work, name) for name in names}
    print("| model | this program | onnx2tf | its CPU s | its MB |")
    print("|---|---|---|---|---|")
    for name in names:
        seconds, megabytes, made = theirs[name]
        print(f"| {name} | {statuses[name]} | {'a file' if made else 'fails'} | {seconds:.1f} | {megabytes:.0f} |")
    total = sum(seconds for seconds, _, _ in theirs.values())
    print(
        f"\nAll {len(names)}: {ours[0]:.1f} CPU s and at most {ours[1]:.0f} MB here, {total:.1f} CPU s and at most",
        end=" ",
    )
    print(
        f"{max(megabytes for _, megabytes, _ in theirs.values()):.0f} MB by onnx2tf: {ours[0] / total:.2f} of its CPU s."
    )
    return 0


def _ours(models: Path, work: Path, names: list[str]) -> tuple[tuple[float, float], dict[str, str]]:
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    shutil.copytree(models, work / "models")
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--cores", "1", "--keep-going"]
    usage = _measured([*command, *(f"converted/{name}.tflite" for name in names)], work)
    reports = {name: work / "reports" / f"{name}.tflite.json" for name in names}
    return usage, {n: json.loads(p.read_text())["status"] if p.exists() else "no report" for n, p in reports.items()}


def _onnx2tf(model: Path, work: Path, name: str) -> tuple[float, float, bool]:
    folder = work / f"theirs-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copyfile(model, folder / "case.onnx")
    command = [str(work / "venv" / "bin" / "onnx2tf"), "-i", "case.onnx", "-o", "made", "-n"]
    seconds, megabytes = _measured(command, folder)
    return seconds, megabytes, any((folder / "made").glob("*_float32.tflite"))


def _measured(command: list[str], folder: Path) -> tuple[float, float]:
    """CPU seconds of the command and all that it started, and the most memory that these had together, in MB."""
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environ["PATH"] = f"{Path(command[0]).parent}:{environ['PATH']}"
    cost = measure(command, folder, cap_mb=16_000, environment=environ)
    return cost.cpu_seconds, cost.peak_mb


if __name__ == "__main__":
    sys.exit(main())
