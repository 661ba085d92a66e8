"""The coverage table: every target that has a report, and what became of it, as Markdown, CSV and a page.

Targets below converted/tested_models/ stand for the 84 jobs with which the original tool's authors tested it
(configs/tested_models.yaml): they are listed by list and position, everything else by model and target.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from converter import escape
from converter.pages.page import Section, Table, render
from converter.planning.sources import model_name
from converter.publishing import report

__all__ = ["Row", "collect", "markdown", "page", "table"]

_TESTED = re.compile(r"converted/tested_models/(?P<list>[^/]+)/(?P<position>\d+)_(?P<name>.+)")
# One word each, in the order of the summary.
STATUSES = ("verified", "inaccurate", "unverified", "failed")
_SHARES = ("weights", "rows", "branches", "stuck")
_COLUMNS = ("model", "source", "target", "status", "difference", "allowed", *_SHARES, "size", "CPU s", "reason")


@dataclass(frozen=True)
class Row:
    """One target. `listed`: (list, position) of one of the original's jobs; `kind`: where the source comes from.

    difference and allowed: of the output nearest to its tolerance. bytes: of the file. seconds: CPU seconds of its steps.
    shares: of weights, rows, branches and stuck activations, as in the report's verification.coverage.
    """

    target: str
    model: str
    listed: tuple[str, int] | None
    source_format: str
    kind: str
    status: str
    reason: str | None = None
    difference: float | None = None
    allowed: float | None = None
    bytes: int | None = None
    seconds: float | None = None
    weak: bool = False
    shares: tuple[float | None, ...] = (None,) * len(_SHARES)


def collect(folder: Path, recipes: dict[str, dict]) -> list[Row]:
    """A row for each report below `folder`. `recipes`: those of configs/zoo.yaml."""
    rows = []
    for path in sorted(folder.rglob("*.json")):
        entry = json.loads(path.read_text(encoding="utf-8"))
        if "target" in entry and "status" in entry:  # not an inspection
            rows.append(_row(entry, recipes))
    return sorted(rows, key=lambda row: (row.listed or ("~", 0), row.model.lower(), row.target))


def _row(entry: dict, recipes: dict[str, dict]) -> Row:
    source = entry["source"]["path"] or ""
    worst = report.worst_output(entry) or {}
    return Row(
        target=entry["target"],
        model=model_name(source) if source else Path(entry["target"]).stem,
        listed=_listed(entry["target"]),
        source_format=entry["source"]["format"] or "",
        kind=_kind(source, recipes),
        status=entry["status"],
        reason=entry["reason"],
        difference=worst.get("max_abs_diff"),
        allowed=worst.get("tolerance"),
        bytes=entry["file"]["bytes"] if entry["file"] else None,
        seconds=round(sum(step["cpu_seconds"] for step in entry["steps"]), 1) if entry["steps"] else None,
        weak=bool((entry["verification"] or {}).get("weak_evidence")),
        shares=tuple((entry["verification"] or {}).get("coverage", {}).get(name) for name in _SHARES),
    )


def _listed(target: str) -> tuple[str, int] | None:
    match = _TESTED.fullmatch(target)
    return (match["list"], int(match["position"])) if match else None


def _kind(source: str, recipes: dict[str, dict]) -> str:
    """Where a source comes from: the user's file, a library's own model, or an architecture rebuilt after a download."""
    recipe = next((recipe for recipe in recipes.values() if recipe["file"] == source), None)
    if recipe is None:
        return "file"
    return "rebuilt architecture" if "stands_for" in recipe else "library model"


def _summary(rows: Sequence[Row]) -> str:
    counts = Counter(row.status for row in rows)
    listed = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    return f"{len(rows)} target{'' if len(rows) == 1 else 's'}: {listed or 'none'}"


def _target(row: Row) -> str:
    """What was asked for: the format, with its variant if it has one."""
    parts = row.target.rsplit("/", 1)[-1].split(".")
    variants = ("float16", "dynamic", "int8", "uint8")
    return ".".join(parts[-2:]) if len(parts) > 2 and parts[-2] in variants else parts[-1]


def _number(value: float | None) -> str:
    return "–" if value is None else "0" if value == 0 else f"{value:.1e}"


def _share(value: float | None) -> str:
    """In percent, without rounding a part up to all of it or down to nothing."""
    return "–" if value is None else f"{100 * value:.4g} %"


def _cells(row: Row) -> list[str]:
    status = row.status + (" (weak evidence)" if row.weak else "")
    size = "–" if row.bytes is None else report.size_text(row.bytes)
    seconds = "–" if row.seconds is None else f"{row.seconds:.1f}"
    source = f"{row.source_format or 'unknown'}, {row.kind}"
    difference, allowed = _number(row.difference), _number(row.allowed)
    shares = map(_share, row.shares)
    return [row.model, source, _target(row), status, difference, allowed, *shares, size, seconds, row.reason or ""]


def _tables(rows: Sequence[Row]) -> Iterable[tuple[str, str, tuple[str, ...], list[list[str]]]]:
    """(heading, summary, columns, rows of cells) of each part of the table that has rows."""
    listed = [row for row in rows if row.listed]
    others = [row for row in rows if not row.listed]
    if listed:
        cells = [[f"{row.listed[0]} {row.listed[1]}", *_cells(row)] for row in listed]
        yield "The original tool's jobs", _summary(listed), ("list and position", *_COLUMNS), cells
    if others:
        yield "Models and targets", _summary(others), _COLUMNS, [_cells(row) for row in others]


def _legend() -> str:
    return (
        "A file is verified when it computes what its source computes: per output, the largest difference over the samples is "
        "at most the allowed one. Shown is the output nearest to its limit. Weights, rows, branches: the shares of weights that "
        "influence an output on the samples, of tables' rows that were read, and of sides of branches that were taken; stuck: "
        "of activations that never moved. CPU s: of the file's steps, the import of its source "
        "included."
    )


def markdown(rows: Sequence[Row], made: str) -> str:
    """The table as Markdown. `made`: when and with what, one sentence."""
    lines = ["# Coverage", "", made, "", _legend()]
    for heading, summary, columns, cells in _tables(rows):
        lines += ["", f"## {heading}", "", f"{summary}.", ""]
        lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        lines += ["| " + " | ".join(map(escape.markdown, row)) + " |" for row in cells]
    return "\n".join(lines) + "\n"


def table(rows: Sequence[Row]) -> str:
    """The narrow table that opens Snakemake's report, as CSV with reStructuredText in it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("model", "target", "status", "difference", *_SHARES))
    for row in rows:
        model = f"{row.listed[0]} {row.listed[1]}: {row.model}" if row.listed else row.model
        cells = (model, _target(row), row.status, _number(row.difference), *map(_share, row.shares))
        writer.writerow(map(escape.rest, cells))
    return text.getvalue()


def page(rows: Sequence[Row], made: str) -> str:
    """The table as a page."""
    sections = [
        Section(heading, [f"{summary}."], [Table(columns, cells)]) for heading, summary, columns, cells in _tables(rows)
    ]
    return render(
        "Coverage", sections or [Section("No targets yet", ["No report has been written."])], f"{made} {_legend()}"
    )
