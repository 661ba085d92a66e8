"""make corpus: PYTHONPATH=workflow:benchmarks python -m corpus [--families timm] [--models NAME ...] [--targets onnx,keras].

Writes the models, converts them with one run of Snakemake for some dozens of them, tries the official routes on the same
models, and merges what came of it into docs/corpus.json and docs/corpus.md. Hours for all of it: with --no-official the
imported models stay in --work, and --only-official tries the other routes on those later.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import yaml
from measure import measure

from corpus.page import write_page
from corpus.sources import FAMILIES, Model

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "corpus.json"
TARGETS = ("onnx", "tflite", "keras")
_AT_ONCE = 20
_OFFICIAL_SECONDS = 600


def main() -> None:
    parser = argparse.ArgumentParser(prog="corpus", description=__doc__)
    parser.add_argument("--families", type=_list, default=list(FAMILIES))
    parser.add_argument("--models", nargs="*", default=None, help="names within their families; all where left out")
    parser.add_argument("--targets", type=_list, default=list(TARGETS))
    parser.add_argument("--work", type=Path, default=Path("corpus"), help="where models and converted files go")
    parser.add_argument("--no-official", action="store_true", help="leave the official routes out")
    parser.add_argument("--only-official", action="store_true", help="those that the results say nothing about yet")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    work = args.work.resolve()
    (work / "models").mkdir(parents=True, exist_ok=True)
    results = json.loads(args.results.read_text()) if args.results.exists() else {}
    for family in args.families:
        for group in _groups(FAMILIES[family](work / "models", args.models), _AT_ONCE):
            entries = {m.stem: results.setdefault(m.stem, {"family": m.family, "name": m.name}) for m in group}
            if not args.only_official:
                _convert_group(group, entries, args.targets, work)
            if not args.no_official:
                _try_official([model for model in group if not entries[model.stem].get("official")], entries, work)
            for stem, entry in entries.items():
                print(stem, json.dumps(entry), flush=True)
            args.results.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
            if args.results == RESULTS:
                write_page(results)


def _convert_group(group: Sequence[Model], entries: dict[str, Any], targets: Sequence[str], work: Path) -> None:
    for model in group:
        entries[model.stem].setdefault("converter", {}).update(dict.fromkeys(targets))
    whole = _convert(group, targets, work)
    for model in group:
        entries[model.stem]["converter"] |= _outcomes(model, targets, work)
        entries[model.stem]["converter"]["whole_run"] = {
            "cpu_seconds": round(whole / len(group), 2),
            "targets": targets,
        }
    for name in ("converted", "rejected"):
        shutil.rmtree(work / name, ignore_errors=True)


def _try_official(group: Sequence[Model], entries: dict[str, Any], work: Path) -> None:
    for model, hub, results in _official(group, work):
        entries[model.stem]["official"] = results
        shutil.rmtree(hub, ignore_errors=True)  # a hundred of them fill a disk


def _list(text: str) -> list[str]:
    return text.split(",")


def _groups(models: Iterable[Model], size: int) -> Iterator[list[Model]]:
    rest = iter(models)
    while group := list(islice(rest, size)):
        yield group


def _convert(models: Sequence[Model], targets: Sequence[str], work: Path) -> float:
    """CPU seconds of the whole run: Snakemake, the processes that import libraries once for all, and all steps."""
    jobs = [
        {"convert_from": f"models/{m.source}", "convert_to": f"converted/{m.stem}.{target}", **m.parameters}
        for m in models
        for target in targets
    ]
    (work / "jobs.yaml").write_text(yaml.safe_dump({"jobs": jobs}))
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(ROOT / "Snakefile"),
        "--keep-going",
        "--quiet",
        "all",
    ]
    command += ["--cores", str(os.cpu_count()), "--configfile", "jobs.yaml", "--", *(job["convert_to"] for job in jobs)]
    cost = measure(command, work, cap_mb=20_000, limit_seconds=4 * 3600)
    with open(work / "snakemake.log", "ab") as log:
        log.write((work / "output.txt").read_bytes())
    return cost.cpu_seconds


def _outcomes(model: Model, targets: Sequence[str], work: Path) -> dict[str, Any]:
    """By target: the report's status and reason, the largest difference as a share of what is allowed, CPU s, and MB.

    CPU seconds are of the export alone; those of the imports stand below "import": two of a text, of which ONNX files take any
    length and others one, else one for all targets.
    """
    found: dict[str, Any] = {}
    imports: set[tuple[float, int]] = set()
    for target in targets:
        path = work / "reports" / f"{model.stem}.{target}.json"
        if not path.exists():
            found[target] = {"status": "no report"}
            continue
        report = json.loads(path.read_text())
        verification = report["verification"] or {"outputs": []}
        shares = [
            o["max_abs_diff"] / o["tolerance"] for o in verification["outputs"] if o["max_abs_diff"] and o["tolerance"]
        ]
        found[target] = {
            "status": report["status"],
            "reason": report["reason"],
            "share_of_tolerance": round(max(shares, default=0.0), 4),
            "cpu_seconds": sum(s["cpu_seconds"] for s in report["steps"] if s["name"].startswith("export")),
            "peak_memory_mb": max((s["peak_memory_mb"] for s in report["steps"]), default=None),
        }
        imports |= {
            (step["cpu_seconds"], step["peak_memory_mb"])
            for step in report["steps"]
            if step["name"].startswith("import")
        }
    if imports:
        found["import"] = {
            "cpu_seconds": round(sum(seconds for seconds, _ in imports), 2),
            "peak_memory_mb": max(memory for _, memory in imports),
        }
    return found


def _official(models: Sequence[Model], work: Path) -> Iterator[tuple[Model, Path, dict[str, Any]]]:
    """Each model with its hub and its results by route; nothing of those that Converter did not import."""
    from corpus.official import ROUTES, Task, run_routes, start_up_seconds

    hubs: dict[str, Path] = {}
    for model in models:
        stem = Path(model.source).stem
        places = [path.parent for path in (work / "intermediate").glob(f"{stem}-*/hub.json")]
        places = [
            place for place in places if place.name.rsplit("-", 2)[0] == stem
        ]  # not of a model whose name goes on
        if places:
            hubs[model.stem] = places[0]
    tasks = [Task(m, route, work / "models", hubs[m.stem]) for m in models if m.stem in hubs for route in ROUTES]
    results = run_routes(tasks, _OFFICIAL_SECONDS, os.cpu_count() or 1)
    for model in models:
        if model.stem in hubs:
            found = {
                route: {**results[model.stem, route], "start_up_seconds": start_up_seconds(model.family, route)}
                for route in ROUTES
            }
            yield model, hubs[model.stem], found


if __name__ == "__main__":
    main()
