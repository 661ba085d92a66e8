"""python -m mutation [--models 0] [--faults 40] [--seed 1] [--folder DIR] [--json FILE] [--write] [--blind].

Puts seeded faults into the exported ONNX and TensorFlow Lite files of small models of every source format, and gives each
mutant to the verification that its exporter calls. Prints a table per kind of fault, and the survivors: mutants that are
verified and compute something else on many inputs within the model's range.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from mutation.campaign import cases_of, judgements, preload
from mutation.keras_models import RECIPES as KERAS
from mutation.pytorch_models import RECIPES as PYTORCH
from mutation.recipes import choose
from mutation.table import page, score, summary
from mutation.tensorflow_models import RECIPES as TENSORFLOW

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="mutation", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--models", type=int, default=0, help="so many of the models; 0: all")
    parser.add_argument("--only", default="", help="models whose names begin so, separated by commas")
    parser.add_argument("--faults", type=int, default=40, help="for each file; 0: all that there are")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keep models and files here, and take those that lie there")
    parser.add_argument("--json", type=Path, help="write every mutant and its end here")
    parser.add_argument("--write", action="store_true", help="write docs/reliability.md and docs/mutation.json")
    parser.add_argument("--blind", action="store_true", help="verify on zeros alone, to see mutants survive")
    args = parser.parse_args()
    started = time.monotonic()
    preload()
    recipes = choose([*KERAS, *TENSORFLOW, *PYTORCH], args.models, args.seed)
    if args.only:
        recipes = [recipe for recipe in recipes if recipe.name.startswith(tuple(args.only.split(",")))]
    entries, missing = [], {}
    with tempfile.TemporaryDirectory(prefix="converter-mutation-") as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for recipe in recipes:
            cases, without = cases_of(recipe, folder)
            missing |= {name: why.replace(f"{folder}/", "") for name, why in without.items()}
            for case in cases:
                about = {"model": case.model, "format": case.format, "target": case.target}
                results = judgements(case, args.faults, args.seed, args.blind)
                entries += [about | asdict(result) for result in results]
                print(summary(case, results), flush=True)
    times = os.times()
    cpu = times.user + times.system + times.children_user + times.children_system
    facts = {"models": len(recipes), "faults": args.faults, "seed": args.seed, "cpu_seconds": round(cpu)}
    facts |= {"wall_seconds": round(time.monotonic() - started), "without_file": missing}
    if args.json:
        args.json.write_text(json.dumps(facts | {"mutants": entries}, indent=1, default=str) + "\n")
    for name, why in missing.items():
        print(f"no file: {name}: {why}")
    text = page(entries, facts)
    print(text)
    if args.write:
        _write(ROOT / "docs" / "reliability.md", text)
        hidden = ("outcome", "message")  # messages of the runtimes name files of this machine
        survivors = [
            {key: value for key, value in entry.items() if key not in hidden}
            for entry in entries
            if entry["outcome"] == "survived"
        ]
        kept = {key: facts[key] for key in ("models", "faults", "seed", "without_file")} | {"survivors": survivors}
        (ROOT / "docs" / "mutation.json").write_text(json.dumps(kept, indent=1) + "\n")
    caught, effective = score(entries)
    print(f"{caught} of {effective} faults that change an output were caught")
    return 0


def _write(path: Path, text: str) -> None:
    """Between the markers of the page."""
    begin, end = "<!-- mutation: written by make mutation -->\n", "<!-- mutation: end -->"
    before, found, rest = path.read_text().partition(begin)
    if not found or end not in rest:
        raise SystemExit(f"{path} has no place for the table: {begin.strip()} and {end}")
    path.write_text(f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}")


if __name__ == "__main__":
    sys.exit(main())
