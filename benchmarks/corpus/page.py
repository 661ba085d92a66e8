"""docs/corpus.md from docs/corpus.json."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["write_page"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "corpus.md"
_TARGETS = {"onnx": "ONNX", "tflite": "TensorFlow Lite", "keras": "Keras"}
_OFFICIAL = {"onnx": "torch.onnx.export(dynamo=True)", "tflite": "litert_torch.convert"}
_HEAD = """# The corpus: models that nobody here wrote

Small models of transformers' types, the smallest registered one of every file of timm, and those of torchvision,
segmentation_models_pytorch (smp) and torchaudio, all with seeded random weights (running statistics of what goes through them),
each converted as people hold it: directories, and state dicts with the network's name. Without parameters but `input_shape`
and the name's arguments for those that are state dicts. The official routes had the same models on this machine, forked from a
process with the libraries imported as Converter's steps are, and are judged by the same rule on the example that they were
exported with and one more of its size. Random weights make some networks that amplify rounding beyond the tolerance, whoever
converts them: they count as not verified, for both sides. Made, and made again, by

    make corpus                                                   # hours; adds to what docs/corpus.json has
    PYTHONPATH=workflow:benchmarks python -m corpus --families timm --models rexnetr_100 --work /tmp/corpus

CPU s are of the export, and of Converter's import in a column of its own, which its targets share. Whole runs: for Converter
a run of Snakemake for some dozens of models and all their targets, with everything that it starts; for the official routes
a script for each model and route, as their pages show them, that imports the libraries first.
"""


def write_page(results: Mapping[str, Any]) -> None:
    """All of it, from `results`, the contents of docs/corpus.json."""
    lines = [_HEAD, *_summary(results), *_costs(results), *_refusals(results), *_models(results)]
    PAGE.write_text("\n".join(lines) + "\n")


def _by_family(results: Mapping[str, Any]) -> dict[str, list[Any]]:
    families = defaultdict(list)
    for entry in results.values():
        families[entry["family"]].append(entry)
    return {**families, "all": list(results.values())}


def _summary(results: Mapping[str, Any]) -> Iterable[str]:
    yield "## Verified\n"
    yield "| family | models | " + " | ".join(_TARGETS.values()) + " | " + " | ".join(_OFFICIAL.values()) + " |"
    yield "|---|---|" + "---|" * (len(_TARGETS) + len(_OFFICIAL))
    for family, entries in _by_family(results).items():
        cells = [_share(Counter(_status(e, target) for e in entries)) for target in _TARGETS]
        cells += [_share(Counter(_outcome(e, route) for e in entries)) for route in _OFFICIAL]
        yield f"| {family} | {len(entries)} | {' | '.join(cells)} |"
    yield "\nWrong: files that the route wrote without a complaint, and that compute something else.\n"


def _status(entry: Mapping[str, Any], target: str) -> str | None:
    found = entry["converter"].get(target)
    return found and found["status"]


def _outcome(entry: Mapping[str, Any], route: str) -> str | None:
    found = entry.get("official", {}).get(route)
    return found and found["outcome"]


def _share(counts: Counter) -> str:
    tried = sum(count for status, count in counts.items() if status is not None)
    if not tried:
        return "not tried"
    text = f"{counts['verified']} of {tried} ({100 * counts['verified'] / tried:.1f} %)"
    return text + (f", {counts['wrong']} wrong" if counts["wrong"] else "")


def _costs(results: Mapping[str, Any]) -> Iterable[str]:
    """Sums over the models that both routes made right files of."""
    yield "## CPU seconds and memory\n"
    yield "Sums over the models of which both made a right file.\n"
    yield "| family | target | models | Converter | its imports | official | peak MB, median: Converter | official |"
    yield "|---|---|---|---|---|---|---|---|"
    for family, entries in _by_family(results).items():
        for target in _OFFICIAL:
            both = [e for e in entries if _status(e, target) == _outcome(e, target) == "verified"]
            if not both:
                continue
            own = sum(e["converter"][target]["cpu_seconds"] for e in both)
            imports = sum(e["converter"].get("import", {}).get("cpu_seconds", 0.0) for e in both)
            other = sum(e["official"][target]["cpu_seconds"] for e in both)
            memory = [_median(e[side][target]["peak_memory_mb"] for e in both) for side in ("converter", "official")]
            yield (
                f"| {family} | {_TARGETS[target]} | {len(both)} | {own:.0f} | {imports:.0f} | {other:.0f} | {memory[0]:.0f} "
                f"| {memory[1]:.0f} |"
            )
    yield from _whole_runs(results)
    yield ""


def _whole_runs(results: Mapping[str, Any]) -> Iterable[str]:
    yield "\nWhole runs, CPU seconds a model, whatever came of it: all of Converter's targets, both official routes.\n"
    yield "| family | models | Converter, 3 targets | official, 2 routes | of those start-up |"
    yield "|---|---|---|---|---|"
    for family, entries in _by_family(results).items():
        both = [
            entry
            for entry in entries
            if len(entry["converter"].get("whole_run", {}).get("targets", [])) == len(_TARGETS)
            and all("start_up_seconds" in entry.get("official", {}).get(route, {}) for route in _OFFICIAL)
        ]
        if not both:
            continue
        own = sum(entry["converter"]["whole_run"]["cpu_seconds"] for entry in both) / len(both)
        starts = sum(entry["official"][r]["start_up_seconds"] for entry in both for r in _OFFICIAL) / len(both)
        work = sum(entry["official"][r]["cpu_seconds"] for entry in both for r in _OFFICIAL) / len(both)
        yield f"| {family} | {len(both)} | {own:.1f} | {starts + work:.1f} | {starts:.1f} |"


def _median(values: Iterable[float]) -> float:
    ordered = sorted(value for value in values if value)
    return ordered[len(ordered) // 2] if ordered else 0.0


def _refusals(results: Mapping[str, Any]) -> Iterable[str]:
    """Reasons without what differs between models, most frequent first, with the models."""
    yield "## What is refused, by cause\n"
    for target, title in _TARGETS.items():
        causes = defaultdict(list)
        for name, entry in sorted(results.items()):
            if _status(entry, target) not in (None, "verified"):
                causes[_cause(entry["converter"][target].get("reason") or "no report")].append(name)
        if causes:
            yield f"### {title}\n"
            for cause, names in sorted(causes.items(), key=lambda item: (-len(item[1]), item[0])):
                yield f"- {_escaped(cause)}: {', '.join(names)}"
            yield ""


def _cause(reason: str) -> str:
    reason = re.sub(r"in module [\w.]+", "in a module", reason)
    reason = re.sub(r"\([\w.]+ line \d+: .*?\)(?= cannot|;|$)", "", reason)
    return re.sub(r"models/[\w.-]+", "the source", reason)[:240]


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _models(results: Mapping[str, Any]) -> Iterable[str]:
    yield "## Models\n"
    yield "Of a verified file: the share that the largest difference takes of what is allowed, and CPU s.\n"
    yield "| model | import | " + " | ".join(_TARGETS.values()) + " | " + " | ".join(_OFFICIAL.values()) + " |"
    yield "|---|---|" + "---|" * (len(_TARGETS) + len(_OFFICIAL))
    for name, entry in sorted(results.items()):
        cells = [str(entry["converter"].get("import", {}).get("cpu_seconds", ""))]
        for target in _TARGETS:
            found = entry["converter"].get(target)
            if not found or found["status"] != "verified":
                cells.append((found and found["status"]) or "")
            else:
                cells.append(f"{100 * found['share_of_tolerance']:.0f} %, {found['cpu_seconds']:.1f} s")
        for route in _OFFICIAL:
            found = entry.get("official", {}).get(route)
            cells.append(f"{found['outcome']}, {found.get('cpu_seconds', 0.0):.1f} s" if found else "")
        yield f"| {name} | {' | '.join(cells)} |"
