"""The page of one model: its files with their verification, sizes and speed, and where everything comes from."""

from __future__ import annotations

from collections.abc import Sequence

from converter.pages.figures import COLORS, new_figure, svg
from converter.pages.page import Figure, Section, Table, render
from converter.pages.profile import operators_by_type
from converter.publishing import report

__all__ = ["model_page"]


def model_page(model: str, reports: Sequence[dict], benchmarks: dict[str, dict]) -> str:
    """`reports`: of the model's targets. `benchmarks`: those of its files that were measured, by target."""
    reports = sorted(reports, key=lambda entry: entry["target"])
    sections = [_files(reports)]
    made = [entry for entry in reports if entry["file"]]
    if made:
        sections.append(Section("Sizes", [], [_sizes(made)]))
    if any(entry["verification"] for entry in reports):
        sections.append(_verification(reports))
    measured = [benchmarks[entry["target"]] for entry in reports if entry["target"] in benchmarks]
    if measured:
        sections.append(_speed(measured))
    sections.append(_provenance(reports))
    return render(
        model, sections, f"{sum(entry['status'] == 'verified' for entry in reports)} of {len(reports)} files verified."
    )


def _files(reports: Sequence[dict]) -> Section:
    rows = []
    for entry in reports:
        size = report.size_text(entry["file"]["bytes"]) if entry["file"] else None
        seconds = round(sum(step["cpu_seconds"] for step in entry["steps"]), 1)
        oldest = entry.get("oldest_runtime") or {}
        runtime = f"{oldest['runtime']} {oldest['release'] or 'not known'}" if oldest else None
        rows.append((entry["target"], entry["status"], size, runtime, seconds, entry["reason"] or ""))
    notes = sorted({note for entry in reports for note in entry["notes"]})
    return Section("Files", notes, [Table(("file", "status", "size", "oldest runtime", "CPU s", "reason"), rows)])


def _sizes(reports: Sequence[dict]) -> Figure:
    names = ["source", *(entry["target"].rsplit("/", 1)[-1] for entry in reports)]
    sizes = [(reports[0]["source"]["bytes"] or 0) / 1e6, *(entry["file"]["bytes"] / 1e6 for entry in reports)]
    figure = new_figure(height=0.8 + 0.3 * len(names))
    axes = figure.axes[0]
    axes.barh(range(len(names)), sizes, color=[COLORS[6], *[COLORS[0]] * len(reports)])
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("MB")
    listed = ", ".join(f"{name} {size:.3g} MB" for name, size in zip(names, sizes, strict=True))
    return Figure(svg(figure, "sizes"), f"Sizes: {listed}.")


def _verification(reports: Sequence[dict]) -> Section:
    rows = [
        (
            entry["target"].rsplit("/", 1)[-1],
            output["name"],
            output["max_abs_diff"],
            output["mean_abs_diff"],
            output["cosine"],
            output["max_abs_reference"],
            output["tolerance"],
        )
        for entry in reports
        if entry["verification"]
        for output in entry["verification"]["outputs"]
    ]
    runtimes = sorted({entry["verification"]["runtime"] for entry in reports if entry["verification"]})
    note = f"In {' and '.join(runtimes)}, against the source's own answers to the same inputs."
    columns = ("file", "output", "largest difference", "mean difference", "cosine", "largest value", "allowed")
    return Section("Verification", [note], [Table(columns, rows)])


def _speed(measured: Sequence[dict]) -> Section:
    rows = []
    for entry in measured:
        kinds = ", ".join(kind for kind, _, _ in operators_by_type(entry)[:3])
        middle = entry["median_ms"] if entry["median_ms"] is not None else entry["mean_ms"]
        rows.append((entry["target"].rsplit("/", 1)[-1], middle, entry["init_ms"], entry["peak_memory_mb"], kinds))
    columns = ("file", "median ms", "start ms", "peak MB", "most expensive operators")
    return Section("Speed", [f"On {measured[0]['device']['name']}."], [Table(columns, rows)])


def _provenance(reports: Sequence[dict]) -> Section:
    sources = sorted({(entry["source"]["path"] or "", entry["source"]["sha256"] or "") for entry in reports})
    versions = {name: version for entry in reports for name, version in entry["versions"].items()}
    rows = [
        (
            entry["target"].rsplit("/", 1)[-1],
            " → ".join(entry["route"]),
            entry["opset"],
            ", ".join(f"{name}: {value}" for name, value in entry["parameters"].items()),
            entry["file"]["sha256"] if entry["file"] else None,
        )
        for entry in reports
    ]
    return Section(
        "Where it comes from",
        [", ".join(f"{name} {version}" for name, version in sorted(versions.items()))],
        [
            Table(("source", "SHA-256"), sources),
            Table(("file", "steps", "opset", "parameters", "SHA-256"), rows),
        ],
    )
