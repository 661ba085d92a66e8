"""How much of each zoo model its reference exercises, in one table: zoo_proof.py FOLDER [--only NAME,...] [--page FILE]

Makes models from their recipes below FOLDER, imports them (`snakemake reports/NAME.inspect.json`), notes what their hubs
say of the proof, and removes what was made, since the zoo is far larger than most disks; `--together` of them at a time, so
that a framework is started once for all. A run that was ended goes on where it was. `--page` writes docs/zoo-proof.md from
what has been noted so far.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
_HEAD = """# Coverage of the proof over the zoo

Made by `python benchmarks/zoo_proof.py FOLDER --page docs/zoo-proof.md`: {count} of the zoo's {all} models, each made from
its recipe and imported once. What the columns mean: [design.md](design.md), "Coverage of the proof". Weights are random but
for scale, so that shares below 1 say how many units of such a network are dead on noise, not that samples are missing;
"looked at" counts the samples that the allowance sufficed for. {summary}

Where a share is below 99 %, the weights without influence are
- in VGG, AlexNet, SqueezeNet, DenseNet of TensorFlow 1 and what is built on them, and in the squeeze-and-excitation of
  MobileNetV3, its backbones, and RegNetY: those of units that ReLU holds at zero on every sample looked at, as random
  weights leave them ("stuck");
- in GoogLeNet and Inception v3 of torchvision: those of the auxiliary heads, which only training runs;
- in torchvision's ConvNeXt: those of blocks whose outputs are scaled by 1e-6, as they are before training: no float32 output
  tells their values;
- in DeepLabV3: the outer taps of kernels dilated by 24 and 36, which lie beside the feature map at this size of image;
- in SSD MobileNet and Inception v3 of TensorFlow 1, 2 to 4 %: of the last convolutions and the heads, probably units that ReLU
  holds at zero and taps over padding; not traced tensor by tensor;
- in Keras's ConvNeXt: of the pointwise convolutions around GELU in the last stage; not traced further.

| model | weights | rows | branches | stuck | samples looked at | hardest to notice | CPU s of the import |
|---|---|---|---|---|---|---|---|
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--together", type=int, default=6)
    parser.add_argument("--page", type=Path)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    notes = args.folder / "proof.jsonl"
    known = {entry["model"]: entry for entry in _read(notes)}
    recipes = list(yaml.safe_load((ROOT / "configs" / "zoo.yaml").read_text()))
    wanted = [n for n in recipes if n not in known and (not args.only or n in args.only.split(","))]
    for start in range(0, len(wanted), args.together):
        for entry in _measure(args.folder, wanted[start : start + args.together]):
            known[entry["model"]] = entry
            with notes.open("a") as file:
                file.write(json.dumps(entry) + "\n")
    if args.page:
        args.page.write_text(_page([known[name] for name in recipes if name in known], len(recipes)))
    return 0


def _read(notes: Path) -> list[dict]:
    return [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []


def _measure(folder: Path, names: list[str]) -> list[dict]:
    """What the models' hubs say; "error" where there is none."""
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--cores", "1", "--keep-going"]
    targets = [f"reports/{name}.inspect.json" for name in names]
    run = subprocess.run([*command, *targets], cwd=work, capture_output=True, text=True)
    hubs = [json.loads(path.read_text()) for path in work.glob("intermediate/*/hub.json")]
    entries = []
    for name in names:
        hub = next((hub for hub in hubs if Path(hub["source"]["path"]).stem == name), None)
        if hub is None or hub.get("error"):
            said = [line for line in run.stderr.splitlines() if name in line] or ["no hub"]
            entries.append({"model": name, "error": hub["error"]["message"] if hub else said[-1][:300]})
        else:
            entries.append(
                {"model": name, **{key: hub[key] for key in ("coverage", "weakest", "step", "parameters_count")}}
            )
    shutil.rmtree(work, ignore_errors=True)
    return entries


def _page(entries: list[dict], count: int) -> str:
    found = [entry for entry in entries if "error" not in entry]
    shares = [entry["coverage"]["weights"] for entry in found if entry["coverage"].get("weights") is not None]
    summary = (
        f"All weights but 1 % influence an output in {sum(share >= 0.99 for share in shares)} of {len(shares)}, "
        f"half of them at least in {sum(share >= 0.5 for share in shares)}."
    )
    lines = [_HEAD.format(count=len(found), all=count, summary=summary)]
    for entry in entries:
        if "error" in entry:
            lines.append(f"| {entry['model']} | {entry['error']} | | | | | | |\n")
            continue
        coverage, weakest = entry["coverage"], entry["weakest"]
        cells = [_share(coverage.get(key)) for key in ("weights", "rows", "branches", "stuck")]
        looked = coverage.get("samples_looked_at", "")
        hardest = ""
        if weakest:
            change = weakest[0]["smallest_change_noticed"]
            hardest = f"`{weakest[0]['tensor']}` by {'no change' if change is None else format(change, '.1g')}"
        lines.append(
            f"| {' | '.join([entry['model'], *cells, str(looked), hardest])} | {entry['step']['cpu_seconds']} |\n"
        )
    return "".join(lines)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}"


if __name__ == "__main__":
    sys.exit(main())
