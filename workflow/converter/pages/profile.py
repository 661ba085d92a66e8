"""The page that compares what was measured: benchmarks/*.json in tables and plots, by model, format and variant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from converter.pages.figures import COLORS, new_figure, svg
from converter.pages.page import Figure, Section, Table, render
from converter.publishing.report import size_text

__all__ = ["compared_page", "operators_by_type"]

_OPERATORS = 8
# More bars than this in one plot are not readable on a phone: the fastest are shown, the table has all.
_BARS = 40


def operators_by_type(entry: dict) -> list[tuple[str, int, float]]:
    """(type, how many, ms together) of a benchmark's operators, the most expensive first; unmeasured ones count 0 ms."""
    found: dict[str, list[float]] = defaultdict(list)
    for operator in entry["operators"]:
        found[operator["type"]].append(operator["ms"] or 0.0)
    return sorted(((kind, len(times), sum(times)) for kind, times in found.items()), key=lambda item: -item[2])


def compared_page(entries: Sequence[dict]) -> str:
    """The whole page. `entries`: contents of benchmarks/*.json (scripts/benchmark.py)."""
    entries = sorted(entries, key=lambda entry: entry["target"])
    sections = (
        [_overview(entries)]
        if entries
        else [Section("Nothing measured yet", ["Ask for benchmarks/{target}.json first."])]
    )
    sections += [_operators(entry, index) for index, entry in enumerate(entries)]
    devices = sorted({entry["device"]["name"] for entry in entries})
    lead = f"Measured on {'; '.join(devices)}." if devices else ""
    return render("Profile", sections, lead)


def _name(entry: dict) -> str:
    return entry["target"].removeprefix("converted/")


def _middle(entry: dict) -> float:
    """The median, or the mean where a phone's tool gives no median."""
    return entry["median_ms"] if entry["median_ms"] is not None else entry["mean_ms"]


def _overview(entries: Sequence[dict]) -> Section:
    columns = (
        "file",
        "device",
        "threads",
        "size",
        "start ms",
        "first ms",
        "median ms",
        "p90 ms",
        "p99 ms",
        "per second",
        "peak MB",
    )
    rows = [
        (
            _name(entry),
            entry["device"]["kind"],
            entry["threads"],
            size_text(entry["file"]["bytes"]),
            entry["init_ms"],
            entry["first_ms"],
            _middle(entry),
            entry["p90_ms"],
            entry["p99_ms"],
            entry["throughput_per_second"],
            entry["peak_memory_mb"],
        )
        for entry in entries
    ]
    note = (
        "Start: from the file's path to a model that is ready. First: the first run, with what runtimes put off until then. "
        "Median and percentiles: of the timed runs. Peak MB: the whole process, the runtime included."
    )
    fastest = sorted(entries, key=_middle)[:_BARS]
    return Section("Files compared", [note], [_bars(fastest), _sizes(entries), Table(columns, rows)])


def _bars(entries: Sequence[dict]) -> Figure:
    figure = new_figure(height=0.8 + 0.25 * len(entries))
    axes = figure.axes[0]
    medians = [_middle(entry) for entry in entries]
    colors = [COLORS[0] if entry["target"].endswith(".onnx") else COLORS[1] for entry in entries]
    axes.barh(range(len(entries)), medians, color=colors)
    for place, entry in enumerate(entries):
        if entry["p90_ms"] is not None:
            axes.plot([_middle(entry), entry["p90_ms"]], [place, place], color=COLORS[6], linewidth=1)
    axes.set_yticks(range(len(entries)), [_name(entry) for entry in entries])
    axes.invert_yaxis()
    axes.set_xlabel("median ms of a run (line: to the 90th percentile)")
    listed = "; ".join(f"{_name(entry)} {_middle(entry):.3g} ms" for entry in entries)
    return Figure(
        svg(figure, "latency"),
        f"Median latency of each file: {listed}.",
        "Latency. Blue: ONNX; orange: TensorFlow Lite.",
    )


def _sizes(entries: Sequence[dict]) -> Figure:
    figure = new_figure()
    axes = figure.axes[0]
    for suffix, color, label in ((".onnx", COLORS[0], "ONNX"), (".tflite", COLORS[1], "TensorFlow Lite")):
        points = [
            (entry["file"]["bytes"] / 1e6, _middle(entry)) for entry in entries if entry["target"].endswith(suffix)
        ]
        if points:
            axes.scatter(*zip(*points, strict=True), color=color, label=label, s=18)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("size of the file, MB")
    axes.set_ylabel("median ms of a run")
    axes.legend()
    return Figure(svg(figure, "sizes"), "Median latency of each file against its size.", "Size and latency.")


def _operators(entry: dict, index: int) -> Section:
    kinds = operators_by_type(entry)
    total = sum(ms for _, _, ms in kinds) or 1.0
    rows = [(kind, count, round(ms, 4), f"{100 * ms / total:.1f} %") for kind, count, ms in kinds[:_OPERATORS]]
    unmeasured = sum(operator["ms"] is None for operator in entry["operators"])
    note = f"Time by {entry['operators_measured']}" + (f"; not run alone: {unmeasured}" if unmeasured else "")
    if not kinds:
        return Section(_name(entry), ["No operator was measured."])
    figure = new_figure(height=0.7 + 0.22 * len(rows))
    axes = figure.axes[0]
    axes.barh(range(len(rows)), [row[2] for row in rows], color=COLORS[2])
    axes.set_yticks(range(len(rows)), [row[0] for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("ms")
    alt = f"Time by type of operator in {_name(entry)}: " + ", ".join(f"{row[0]} {row[3]}" for row in rows) + "."
    plot = Figure(svg(figure, f"operators-{index}"), alt)
    slowest = sorted(entry["operators"], key=lambda operator: -(operator["ms"] or 0.0))[:_OPERATORS]
    single = [(Path(operator["name"]).as_posix()[:60], operator["type"], operator["ms"]) for operator in slowest]
    tables = [
        Table(("operator", "how many", "ms", "share"), rows),
        Table(("slowest nodes", "operator", "ms"), single),
    ]
    return Section(_name(entry), [f"{note}."], [plot, *tables])
