"""The campaign's table, its score, and what is said of survivors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mutation.convert import TARGETS, Case
from mutation.fault import KINDS
from mutation.judge import Judgement

__all__ = ["page", "score", "summary"]


def score(entries: Sequence[dict]) -> tuple[int, int]:
    """(faults caught by verification, faults that change an output by more than the tolerance)."""
    counts = Counter(entry["outcome"] for entry in entries)
    return counts["caught"], counts["caught"] + counts["survived"]


def summary(case: Case, results: Sequence[Judgement]) -> str:
    counts = Counter(result.outcome for result in results)
    text = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    lines = [f"{case.model}.{case.target}: {text}"]
    for result in results:
        if result.outcome == "survived":
            lines.append(
                f"    survived: {result.kind}: {result.words} ({_times(result.excess)} x tolerance on {result.on})"
            )
    return "\n".join(lines)


def page(entries: Sequence[dict], facts: dict) -> str:
    """Markdown: a row per kind of fault, and the survivors."""
    caught, effective = score(entries)
    share = 100 * caught / effective if effective else 0.0
    counts = Counter(entry["outcome"] for entry in entries)
    judged = sum(counts.values()) - counts["none"]
    files = len({(entry["model"], entry["target"]) for entry in entries})
    lines = [
        f"{judged} mutants of {files} files of {facts['models']} models (seed {facts['seed']}): {counts['refused']} did not run, "
        f"{counts['equivalent']} compute the same within the tolerance, and of the {effective} others verification refused "
        f"{caught}, {share:.1f} %.",
        "",
        "| fault | "
        + " | ".join(f"{name}: mutants | that matter | caught" for name in ("ONNX", "TensorFlow Lite"))
        + " |",
        "|---|" + "---|" * 6,
    ]
    for kind in KINDS:
        of_kind = [entry for entry in entries if entry["kind"] == kind]
        row = [kind]
        for target in TARGETS:
            ends = Counter(entry["outcome"] for entry in of_kind if entry["target"] == target)
            row += [sum(ends.values()) - ends["none"], ends["caught"] + ends["survived"], ends["caught"]]
        if any(row[1:]):
            lines.append("| " + " | ".join(str(cell) for cell in row) + " |")
    survivors = [entry for entry in entries if entry["outcome"] == "survived"]
    if survivors:
        lines += ["", "| survivor | fault | times the tolerance | on inputs that are |", "|---|---|---|---|"]
        for entry in survivors:
            place, _, what = entry["words"].rpartition(": ")
            words = f"{entry['kind']}: {place[:60]}: {what}".replace("|", "\\|")
            lines.append(
                f"| {entry['model']}.{entry['target']} | {words} | {_times(entry['excess'])} | {entry['on']} |"
            )
    return "\n".join(lines)


def _times(excess: float | None) -> str:
    return "any" if excess is None else f"{excess:.3g}"
