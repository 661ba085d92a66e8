"""docs/onnx-operators.md from docs/onnx-nodes.json."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["write_page"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "onnx-operators.md"
_TARGETS = {
    "tflite": "TensorFlow Lite",
    "keras": "Keras",
    "onnx": "ONNX, opset below",
    "onnx2": "ONNX, opset above or two below",
}
_LONGEST = 300
_HEAD = """# Operators of ONNX sources

Every node test of the `onnx` package, converted as a model of its own and verified against onnxruntime, on seeded samples or,
where it takes no others, on the test's own inputs. Numbers that say sizes (shapes, axes, repetitions), and weights, are inputs
of many tests: where a file cannot have them as inputs, first these numbers and then all but the first input were given as
`constants`, as models have them. A case that was right in an earlier run is not run again with the others, unless asked for:
figures of a page may be of several states of the program. Made, and made again, by

    make onnx-nodes           # half an hour; docs/onnx-nodes.json, which is not kept, has all outcomes
    make onnx-nodes ONNX_NODES="--only test_resize --targets tflite"
"""


def write_page(results: Mapping[str, Any]) -> None:
    """All of it, from `results`, the contents of docs/onnx-nodes.json."""
    lines = [
        _HEAD,
        *_summary(results),
        *_baseline(results),
        *_operators(results),
        *_reasons(results),
        *_impossible(results),
    ]
    PAGE.write_text("\n".join(lines) + "\n")


def _found(entry: Mapping[str, Any], target: str) -> str | None:
    """What came of it; None where it was not tried, or no file can be the case."""
    return entry[target]["outcome"] if target in entry and not entry["cannot"][target] else None


def _summary(results: Mapping[str, Any]) -> Iterable[str]:
    yield f"{len(results)} cases. Impossible are those of the last section, with the reason.\n"
    yield "| target | impossible | without a reference | verified | refused | wrong | errors |"
    yield "|---|---|---|---|---|---|---|"
    for target, title in _TARGETS.items():
        counts = Counter(_found(entry, target) for entry in results.values())
        tried = sum(counts[outcome] for outcome in ("verified", "refused", "wrong", "error"))
        share = f" ({100 * counts['verified'] / tried:.1f} %)" if tried else ""
        impossible = sum(entry["cannot"][target] is not None for entry in results.values())
        yield (
            f"| {title} | {impossible} | {counts['no reference']} | {counts['verified']}{share} "
            f"| {counts['refused']} | {counts['wrong']} | {counts['error']} |"
        )
    yield "\nThe opset below is the next one below the test's own, the one above the next above; where one of these cannot hold"
    yield "the case or is none that is written (7 to 25), another next to it is taken. Without a reference: onnxruntime has no"
    yield "kernel for the operator, its types, or this opset. Wrong: what verification found to compute something else than the"
    yield "source, so that it is not published.\n"


def _baseline(results: Mapping[str, Any]) -> Iterable[str]:
    """onnx2tf_baseline.py's outcomes, where it was run."""
    tried = {name: entry for name, entry in results.items() if "onnx2tf" in entry}
    if not tried:
        return
    possible = sum(_found(entry, "tflite") not in (None, "no reference") for entry in results.values())
    drawn = "all" if len(tried) == possible else f"{len(tried)} of the {possible}, drawn by the hashes of their names"
    yield "## Beside onnx2tf\n"
    yield f"The cases that TensorFlow Lite can hold ({drawn}) through onnx2tf 1.29.24, the newest for Python 3.11, in an"
    yield "environment of its own (`python -m onnx_nodes.onnx2tf_baseline --work FOLDER`): with the constants that this program"
    yield "was given, and again with all inputs but the first as constants. Its float32 file counts as right where it gives what"
    yield "the test expects within the same tolerance, on the test's own inputs, in any layout and order; of this program's all"
    yield "samples count.\n"
    yield "| | right | wrong | no file, or none that runs |"
    yield "|---|---|---|---|"
    ours, theirs = (Counter(outcome(entry) for entry in tried.values()) for outcome in (_ours, _theirs))
    for title, counts in (("this program", ours), ("onnx2tf", theirs)):
        share = f"{counts['right']} ({100 * counts['right'] / len(tried):.1f} %)"
        yield f"| {title} | {share} | {counts['wrong']} | {counts['none']} |"
    both = sum(_theirs(entry) == "right" != _ours(entry) for entry in tried.values())
    yield f"\nRight by onnx2tf and not here: {both}. Here a wrong file is not published.\n"


def _ours(entry: Mapping[str, Any]) -> str:
    return {"verified": "right", "wrong": "wrong"}.get(entry["tflite"]["outcome"], "none")


def _theirs(entry: Mapping[str, Any]) -> str:
    return {"right": "right", "wrong": "wrong"}.get(entry["onnx2tf"]["outcome"], "none")


def _operators(results: Mapping[str, Any]) -> Iterable[str]:
    yield "## By operator\n\nVerified of those that could be, in the order of the targets above.\n"
    yield "| operator | TensorFlow Lite | Keras | ONNX below | ONNX above |"
    yield "|---|---|---|---|---|"
    groups = defaultdict(list)
    for entry in results.values():
        groups[entry["operator"]].append(entry)
    for name, entries in sorted(groups.items(), key=lambda item: item[0].lower()):
        cells = []
        for target in _TARGETS:
            found = [outcome for entry in entries if (outcome := _found(entry, target)) not in (None, "no reference")]
            cells.append(f"{found.count('verified')} of {len(found)}" if found else "")
        yield f"| {name} | {' | '.join(cells)} |"
    yield ""


def _reasons(results: Mapping[str, Any]) -> Iterable[str]:
    yield "## What is refused, by cause\n"
    for target, title in _TARGETS.items():
        causes = defaultdict(list)
        for name, entry in sorted(results.items()):
            found = entry.get(target)
            if found and not entry["cannot"][target] and found["outcome"] in ("refused", "wrong", "error"):
                causes[_cause(found["reason"] or found["outcome"])].append(name.removeprefix("test_"))
        if causes:
            yield f"### {title}\n"
            for cause, names in sorted(causes.items(), key=lambda item: (-len(item[1]), item[0])):
                yield f"- {cause}: {', '.join(names)}"
            yield ""


def _cause(reason: str) -> str:
    reason = re.sub(r"/\S*/case\.onnx", "the source", reason)
    reason = reason.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
    return reason if len(reason) <= _LONGEST else reason[:_LONGEST].rpartition(" ")[0]


def _impossible(results: Mapping[str, Any]) -> Iterable[str]:
    yield from _impossible_for(results, "tflite", "What TensorFlow Lite and Keras cannot hold")
    yield ""
    yield from _impossible_for(results, "onnx", "What the opset below cannot hold")
    yield ""
    yield from _impossible_for(results, "onnx2", "What the other opset cannot hold")


def _impossible_for(results: Mapping[str, Any], target: str, title: str) -> Iterable[str]:
    yield f"## {title}\n"
    reasons = defaultdict(list)
    for name, entry in sorted(results.items()):
        if entry["cannot"][target]:
            reasons[entry["cannot"][target]].append(name.removeprefix("test_"))
    for reason, names in sorted(reasons.items()):
        yield f"- {reason}: {', '.join(names)}"
