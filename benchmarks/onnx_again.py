"""ONNX files that this program wrote, as its sources again: onnx_again.py FOLDER [--only NAME,...] [--together 5]

Makes models of the zoo and their ONNX files below FOLDER, puts these into the models/ of another working directory, and converts
them to TensorFlow Lite there; notes the outcomes in FOLDER/again.jsonl, removes what was made, and prints the table of
docs/onnx.md. A run that was ended goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
# Small ones of every recipe: a few seconds each.
_SAMPLE = (
    *("lstm", "gru", "lstm_torch", "gru_torch", "lstm_pb", "gru_pb", "lstm_ckpt", "gru_ckpt"),
    *("lstm_savedmodel", "gru_savedmodel", "mobilenet_v1_0.25_224", "mobilenet_v1_0.25_224_ckpt", "squeezenet_tf1"),
    *("squeezenet1_0", "squeezenet1_1", "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "mnasnet0_5", "mnasnet0_75"),
    *("mobilenet_v2", "mobilenet_v3_small", "resnet18", "regnet_y_400mf"),
    *("MobileNet", "MobileNetV2", "MobileNetV3Small"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default=",".join(_SAMPLE))
    parser.add_argument("--together", type=int, default=5)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    notes = args.folder / "again.jsonl"
    known = [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []
    recipes = yaml.safe_load((ROOT / "configs" / "zoo.yaml").read_text())
    wanted = [n for n in args.only.split(",") if n in recipes and n not in {entry["model"] for entry in known}]
    for start in range(0, len(wanted), args.together):
        for entry in _measure(args.folder, wanted[start : start + args.together]):
            known.append(entry)
            with notes.open("a") as file:
                file.write(json.dumps(entry) + "\n")
    print(_table(known))
    return 0


def _measure(folder: Path, names: list[str]) -> list[dict[str, Any]]:
    first, second = folder / "first", folder / "second"
    for work in (first, second):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
    _snakemake(first, [f"converted/{name}.onnx" for name in names])
    (second / "models").mkdir()
    made = [name for name in names if (first / "converted" / f"{name}.onnx").exists()]
    for path in first.glob("converted/*.onnx*"):
        shutil.move(path, second / "models" / path.name)
    _snakemake(second, [f"converted/{name}.tflite" for name in made])
    entries = []
    for name in names:
        earlier, later = (_report(work, f"{name}.{suffix}") for work, suffix in ((first, "onnx"), (second, "tflite")))
        entries.append({"model": name, "onnx": _outcome(earlier), "tflite": _outcome(later)})
    for work in (first, second):
        shutil.rmtree(work, ignore_errors=True)
    return entries


def _snakemake(work: Path, targets: list[str]) -> None:
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--cores", "2", "--keep-going"]
    if targets:
        run = subprocess.run([*command, *targets], cwd=work, capture_output=True, text=True)
        (work.parent / f"{work.name}.log").write_text(run.stdout + run.stderr)


def _report(work: Path, target: str) -> dict[str, Any] | None:
    path = work / "reports" / f"{target}.json"
    return json.loads(path.read_text()) if path.exists() else None


def _outcome(report: dict[str, Any] | None) -> dict[str, Any]:
    if report is None:
        return {"status": "no report"}
    verification = report.get("verification") or {}
    outputs = verification.get("outputs") or []
    shares = [o["max_abs_diff"] / o["max_abs_reference"] for o in outputs if o.get("max_abs_reference")]
    return {
        "status": report["status"],
        "reason": report.get("reason"),
        "difference": max(shares, default=None),
        "route": report.get("route"),
    }


def _table(known: list[dict[str, Any]]) -> str:
    lines = ["| model | to ONNX | that to TensorFlow Lite | largest difference, of the largest value | both together |"]
    lines.append("|---|---|---|---|---|")
    for entry in known:
        parts = [entry["onnx"].get("difference"), entry["tflite"].get("difference")]
        shown = "" if parts[1] is None else f"{parts[1]:.1e}"
        both = "" if None in parts else f"{sum(parts):.1e}"
        lines.append(
            f"| {entry['model']} | {entry['onnx']['status']} | {entry['tflite']['status']} | {shown} | at most {both} |"
        )
    verified = sum(entry["tflite"]["status"] == "verified" for entry in known)
    return "\n".join([*lines, f"\n{verified} of {len(known)} verified."])


if __name__ == "__main__":
    sys.exit(main())
