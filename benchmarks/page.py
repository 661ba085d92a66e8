"""docs/benchmark.md and docs/benchmark.svg from docs/benchmark.json: the targets, the tables, the plot."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

__all__ = ["write"]

_PACKAGES = (
    "snakemake",
    "tensorflow",
    "keras",
    "tf2onnx",
    "onnx",
    "onnxruntime",
    "torch",
    "litert-torch",
    "ai-edge-litert",
)
_INTRODUCTION = """# What conversions cost

Converter against what a user would write today, on the same files, one side after the other:
`make bench`, or `make bench BENCH="bulk sizes"` for some of the sections. This page is made by it.

- **official**: one process for each file, without any verification: `python -m tf2onnx.convert --keras`,
  `TFLiteConverter.from_keras_model`, `torch.onnx.export`, `litert_torch.convert` (`benchmarks/official.py`).
- **Converter**: `snakemake converted/...` in a folder with nothing but the sources; every file verified.

CPU seconds are the kernel's sum over all processes; memory is the largest sum of their proportional set sizes
(`benchmarks/measure.py`). Other work on the machine stretches wall seconds many times over, and CPU seconds by some tens
of percent on both sides; *load* is the number of processes that wanted one of the CPUs when a command began.
"""


def write(results: Path) -> None:
    """Beside the results, which are read once more."""
    stored = json.loads(results.read_text())
    notes = [stored["note"] + "\n"] if "note" in stored else []
    parts = [_INTRODUCTION, _machine(stored), *notes, *_targets(stored)]
    for section, build in _TABLES.items():
        if section in stored:
            parts.append(build(stored[section]))
    if {"sizes", "counts"} & set(stored):
        _plot(stored, results.with_suffix(".svg"))
        parts.append(f"![CPU seconds against model size and against number of models]({results.stem}.svg)\n")
    results.with_suffix(".md").write_text("\n".join(parts))


def _machine(stored: dict) -> str:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    with open("/proc/cpuinfo", encoding="ascii") as file:
        model = next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    dates = sorted(section["date"] for name, section in stored.items() if name != "note")
    return (
        f"Machine: {os.cpu_count()} CPUs ({model}), {memory:.0f} GB, Linux {platform.release()}, "
        f"Python {platform.python_version()}; {dates[0]} to {dates[-1]}. {versions}.\n"
    )


def _costs(section: dict) -> dict[tuple[str, str], dict]:
    """{(case, who): cost}: of several repeats the one with the median CPU seconds."""
    found = defaultdict(list)
    for row in section["rows"]:
        found[row["case"], row["who"]].append(row)
    return {key: sorted(rows, key=lambda row: row["cpu_seconds"])[(len(rows) - 1) // 2] for key, rows in found.items()}


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _table(*header: str) -> list[str]:
    return [_row(*header), "|" + "---|" * len(header)]


def _gb(row: dict) -> str:
    return "–" if row["peak_mb"] is None else f"{row['peak_mb'] / 1024:.1f}"


def _outcome(row: dict) -> str:
    if row.get("killed"):
        return f"killed {row['killed']}" + (f" ({row['note']})" if row.get("note") else "")
    if row["who"] == "official":
        return ("done" if row["status"] == 0 else "failed") + (f" ({row['note']})" if row.get("note") else "")
    return f"{row['verified']} of {row['files']} verified" if "files" in row else ""


def _numbers(row: dict) -> list[str]:
    cpu, wall, load = (row[key] for key in ("cpu_seconds", "wall_seconds", "load"))
    return [f"{cpu:.1f}", "–" if wall is None else f"{wall:.1f}", _gb(row), "–" if load is None else f"{load:.0f}"]


def _totals(section: dict) -> tuple[dict, dict]:
    """The official side added up, and ours."""
    costs = _costs(section)
    official = [row for (_, who), row in costs.items() if who == "official"]
    total = {
        "cpu_seconds": sum(row["cpu_seconds"] * row.get("stands_for", 1) for row in official),
        "wall_seconds": _sum(
            row["wall_seconds"] and row["wall_seconds"] * row.get("stands_for", 1) for row in official
        ),
        "peak_mb": max((row["peak_mb"] for row in official if row["peak_mb"] is not None), default=None),
        "load": statistics.median([row["load"] for row in official if row["load"] is not None] or [None]),
    }
    return total, costs["all", "converter"]


def _sum(values: Iterable[float | None]) -> float | None:
    values = list(values)
    return None if None in values else sum(values)


def _set(title: str):
    def build(section: dict) -> str:
        lines = [f"## {title}\n", *_table("file", "by", "CPU s", "wall s", "peak GB", "load", "outcome")]
        costs = _costs(section)
        official = [row for (_, who), row in costs.items() if who == "official"]
        if len(official) <= 14:
            lines += [_row(row["case"], "official", *_numbers(row), _outcome(row)) for row in official]
        total, ours = _totals(section)
        done = sum(row["status"] == 0 and not row["killed"] for row in official)
        scaled = {row.get("stands_for", 1) for row in official} - {1}
        outcome = f"{done} of {len(official)} done" + "".join(f", each counted {times} times" for times in scaled)
        lines.append(_row("all", "official", *_numbers(total), outcome))
        lines.append(_row("all", "Converter", *_numbers(ours), _outcome(ours)))
        ratios = [
            f"{ours[key] / total[key]:.2f}" if total[key] else "–" for key in ("cpu_seconds", "wall_seconds", "peak_mb")
        ]
        lines.append(_row("", "ratio", *ratios, "", ""))
        return "\n".join(lines) + "\n"

    return build


def _rows(title: str):
    def build(section: dict) -> str:
        lines = [f"## {title}\n", *_table("case", "by", "CPU s", "wall s", "peak GB", "load", "outcome")]
        for (case, who), row in _costs(section).items():
            lines.append(_row(case, "Converter" if who == "converter" else who, *_numbers(row), _outcome(row)))
        return "\n".join(lines) + "\n"

    return build


def _clean(section: dict) -> str:
    lines = [
        "## The files themselves\n",
        "Operators of ours and of the official route's file, what a converter should have computed itself and did not\n"
        "(nodes with constant inputs only), and CPU milliseconds of one run on one thread, both files by turns in one\n"
        "process (median of the ratios).\n",
        *_table("file", "operators ours / official", "leftovers", "ms ours / official", "ratio"),
    ]
    for row in section["rows"]:
        if "error" in row:
            lines.append(_row(row["case"], row["error"][:100], "", "", ""))
            continue
        lines.append(
            _row(
                row["case"],
                " / ".join(map(str, row["operators"])),
                len(row["leftovers"]),
                " / ".join(f"{value:.2f}" for value in row["milliseconds"]),
                f"{row['ratio']:.3f}",
            )
        )
    return "\n".join(lines) + "\n"


_TABLES = {
    "applications": _set("Seven Keras applications to ONNX and TensorFlow Lite"),
    "single": _rows("One target a run"),
    "torchvision": _set("Five torchvision classifiers to ONNX and TensorFlow Lite"),
    "lstm": _set("A small LSTM"),
    "bulk": _set("Forty small Keras models to ONNX and TensorFlow Lite"),
    "sizes": _rows("Keras models of growing size (MB) to ONNX; loading: Keras alone opens the file"),
    "counts": _rows("Growing numbers of small Keras models to ONNX"),
    "idle": _rows("Little or nothing to do"),
    "clean": _clean,
}


def _targets(stored: dict) -> list[str]:
    lines = ["## Targets\n", *_table("what", "target", "measured", "")]

    def add(what: str, target: str, measured: str, met: bool) -> None:
        lines.append(_row(what, target, measured, "met" if met else "**not met**"))

    def ratio(row: dict, other: dict, key: str = "cpu_seconds") -> float:
        return row[key] / other[key]

    single = _costs(stored["single"]) if "single" in stored else {}
    official = _costs(stored["applications"]) if "applications" in stored else {}
    if ours := single.get(("VGG16.onnx", "converter")):
        measured = f"{ours['cpu_seconds']:.1f} CPU s, {_gb(ours)} GB"
        add("VGG16.h5 to ONNX", "<= 12 CPU s, <= 5 GB", measured, ours["cpu_seconds"] <= 12 and ours["peak_mb"] <= 5120)
    for name, limit in (("ResNet50.onnx", 0.30), ("VGG16.tflite", 0.60)):
        if (ours := single.get((name, "converter"))) and (theirs := official.get((name, "official"))):
            cpu, memory = ratio(ours, theirs), ratio(ours, theirs, "peak_mb")
            add(
                f"{name}: share of the official route",
                f"<= {limit:.2f} of both",
                f"{cpu:.2f} of the CPU s, {memory:.2f} of the memory",
                max(cpu, memory) <= limit,
            )
    for section, what, limit in (
        ("applications", "seven applications x 2", 0.35),
        ("torchvision", "five torchvision classifiers x 2", 0.60),
    ):
        if section in stored:
            total, ours = _totals(stored[section])
            share = ratio(ours, total)
            add(f"{what}: share of the CPU s", f"<= {limit:.2f}", f"{share:.2f}", share <= limit)
    if "bulk" in stored:
        total, ours = _totals(stored["bulk"])
        share = ratio(ours, total, "wall_seconds")
        add(
            "bulk set: share of the wall s",
            "<= 0.25",
            f"{share:.2f} ({ratio(ours, total):.2f} of the CPU s)",
            share <= 0.25,
        )
    if "sizes" in stored:
        costs = _costs(stored["sizes"])
        if (ours := costs.get(("1000", "converter"))) and (loading := costs.get(("1000", "loading"))):
            beyond = (ours["peak_mb"] - loading["peak_mb"]) / 1024
            add("1 GB to ONNX: memory beyond what loading takes", "<= 3 GB", f"{beyond:.1f} GB", beyond <= 3)
    if "idle" in stored:
        costs = _costs(stored["idle"])
        ours, trivial = (costs["1000 models x 2, nothing to do", who] for who in ("converter", "snakemake"))
        share = ratio(ours, trivial)
        add(
            "nothing to do, 1,000 models x 2: Snakemake's own time",
            "<= 1.3",
            f"{share:.2f} ({ours['cpu_seconds']:.1f} CPU s)",
            share <= 1.3,
        )
        named = next((row for (case, _), row in costs.items() if case.startswith("1 target")), None)
        if named:
            add("one target of 5,000 models", "< 3 CPU s", f"{named['cpu_seconds']:.1f}", named["cpu_seconds"] < 3)
    return ["\n".join(lines) + "\n"]


def _plot(stored: dict, path: Path) -> None:
    from converter.pages.figures import COLORS, new_figure, svg

    figure = new_figure(height=3.0, columns=2)
    for axes, section, label in zip(figure.axes, ("sizes", "counts"), ("model size, MB", "models"), strict=True):
        lines = defaultdict(list)
        for (case, who), row in _costs(stored[section]).items() if section in stored else []:
            if not row["killed"]:
                lines[who].append((float(case), row["cpu_seconds"]))
        if section == "counts" and (measured := max(lines.get("official", []), default=None)):
            count, seconds = measured
            lines["official, scaled"] = [(count, seconds), (1000, seconds * 1000 / count)]
        for color, (who, points) in zip(COLORS, lines.items(), strict=False):
            style = "--" if "scaled" in who else "o-"
            axes.plot(*zip(*sorted(points), strict=True), style, color=color, label=who, markersize=3)
        axes.set(xscale="log", yscale="log", xlabel=label, ylabel="CPU seconds")
        axes.legend(frameon=False, fontsize=7)
    path.write_text(str(svg(figure, "benchmark")) + "\n")
