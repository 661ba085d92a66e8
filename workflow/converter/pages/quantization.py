"""The page reports/{model}.quantization.html: what each kind of quantization costs and gains, for one model, here."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from converter.hub.hub import Hub
from converter.pages.figures import COLORS, new_figure, svg
from converter.pages.page import Figure, Section, Table, render
from converter.publishing.report import size_text
from converter.quantization.compare import Variant

__all__ = ["quantization_page"]

_UNVERIFIED = "#bbbbbb"


def quantization_page(model: str, hub: Hub, variants: Sequence[Variant], title: str) -> str:
    """The HTML text. `variants`: of all kinds, whether made or not. title: the format's."""
    made = [variant for variant in variants if variant.bytes is not None]
    sections = [Section("At a glance", [], [_figure(made)])] if made else []
    sections.append(Section("Size and latency", [_machine(made)], [_sizes(variants)]))
    sections.append(Section("Accuracy", _measured_on(made), [_accuracy(made)]))
    missing = [variant for variant in variants if variant.reason]
    if missing:
        rows = [[variant.name, variant.status, variant.reason] for variant in missing]
        sections.append(Section("Not made, or not as good as it must be", [], [Table(["file", "status", "why"], rows)]))
    notes = [[variant.name, note] for variant in made for note in variant.result.notes]
    if notes:
        sections.append(Section("Notes", [], [Table(["file", "note"], notes)]))
    lead = (
        f"{hub.source.get('path') or model} as {title} files: 32-bit floats, and {len(variants) - 1} kinds of quantization. "
        "Each file is compared with the float32 one, which was compared with the source."
    )
    return render(f"{model}: quantization", sections, lead)


def _sizes(variants: Sequence[Variant]) -> Table:
    base = next((variant for variant in variants if variant.name == "float32" and variant.bytes), None)
    rows = []
    for variant in variants:
        latency, result = variant.latency, variant.result
        speed = base.latency.median_ms / latency.median_ms if base and base.latency and latency else None
        rows.append(
            [
                variant.name,
                variant.status,
                variant.bytes,
                variant.bytes / base.bytes if base and variant.bytes else None,
                latency.median_ms if latency else None,
                latency.p90_ms if latency else None,
                speed,
                latency.init_ms if latency else None,
                latency.peak_memory_mb if latency else None,
                ", ".join(spec.dtype for spec in result.inputs) if result else "",
                ", ".join(spec.dtype for spec in result.outputs) if result else "",
            ]
        )
    columns = ["file", "status", "bytes", "of float32", "median ms", "90 % ms", "times as fast", "load ms", "peak MB"]
    return Table([*columns, "inputs", "outputs"], rows)


def _accuracy(made: Sequence[Variant]) -> Table:
    labelled = any(variant.accuracy for variant in made)
    rows = []
    for variant in made:
        row = [variant.name, variant.worst("cosine"), variant.worst("sqnr_db"), variant.worst("top1_agreement")]
        rows.append([*row, _accuracy_of(variant, made)] if labelled else row)
    columns = ["file", "cosine similarity", "signal to noise, dB", "same best class"]
    return Table([*columns, "accuracy on labels"] if labelled else columns, rows, "Of the output that lost most.")


def _accuracy_of(variant: Variant, made: Sequence[Variant]) -> float | None:
    """On the labelled samples; of float32 the source's own."""
    if variant.accuracy:
        return variant.accuracy["after"]
    if variant.name != "float32":
        return None
    return next((other.accuracy["before"] for other in made if other.accuracy), None)


def _measured_on(made: Sequence[Variant]) -> list[str]:
    groups: dict[str, list[str]] = {}
    for variant in made:
        if variant.result.verification is not None:
            described = variant.result.metadata.get("quantization", {})
            on = described.get("evaluated_on", "those of the reference, against the source")
            count = variant.result.verification.samples
            text = f"{count} {on}" if on.startswith("samples of ") else f"{count} samples, {on}"
            groups.setdefault(text, []).append(variant.name)
    return [f"Measured on {text}: {', '.join(names)}." for text, names in groups.items()]


def _machine(made: Sequence[Variant]) -> str:
    timed = [variant.latency for variant in made if variant.latency]
    if not timed:
        return "No file was run for its latency."
    first = timed[0]
    return (
        f"Latency on {_processor()}, {first.threads} thread, batch {first.batch}, {first.runtime}: {first.runs} runs of each "
        f"file in turns, each turn in a process of its own after {first.warmup} runs to warm up."
    )


def _processor() -> str:
    """The processor's name (Linux), else its architecture."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _figure(made: Sequence[Variant]) -> Figure:
    measures = [("size", [variant.bytes for variant in made], size_text)]
    if any(variant.latency for variant in made):
        medians = [variant.latency.median_ms if variant.latency else None for variant in made]
        measures.append(("median latency", medians, lambda value: f"{value:.3g} ms"))
    measures.append(_quality(made))
    figure = new_figure(0.5 + 1.35 * len(measures), rows=len(measures))
    for axes, (title, values, text) in zip(figure.axes, measures, strict=True):
        _bars(axes, title, made, values, text)
    shown = "; ".join(
        f"{title}: " + ", ".join(f"{v.name} {text(x)}" for v, x in zip(made, values, strict=True) if x is not None)
        for title, values, text in measures
    )
    return Figure(svg(figure, "quantization"), shown, "Grey: not verified, or below its thresholds.")


def _quality(made: Sequence[Variant]) -> tuple:
    """The measure of accuracy that says most: on labels, else the best class, else the cosine similarity."""
    for title, values in (
        ("accuracy on labels", [_accuracy_of(variant, made) for variant in made]),
        ("same best class as float32", [_agreement(variant, "top1_agreement") for variant in made]),
    ):
        if any(value is not None for variant, value in zip(made, values, strict=True) if variant.name != "float32"):
            return title, values, lambda value: f"{value:.1%}"
    return "cosine similarity to float32", [_agreement(variant, "cosine") for variant in made], lambda v: f"{v:.4f}"


def _agreement(variant: Variant, key: str) -> float | None:
    return 1.0 if variant.name == "float32" else variant.worst(key)


def _bars(axes: Any, title: str, made: Sequence[Variant], values: Sequence[float | None], text: Any) -> None:
    names = [variant.name for variant in made]
    colors = [COLORS[0] if variant.status == "verified" else _UNVERIFIED for variant in made]
    widths = [value or 0 for value in values]
    axes.barh(names, widths, color=colors, height=0.65)
    axes.invert_yaxis()
    axes.set_title(title, loc="left", fontsize=9)
    axes.set_xlim(0, 1.25 * max(widths) or 1)  # room for the labels
    axes.set_xticks([])
    axes.tick_params(left=False)
    for side in ("bottom", "left"):
        axes.spines[side].set_visible(False)
    for position, value in enumerate(values):
        label = "not measured" if value is None else text(value)
        axes.text(widths[position], position, f" {label}", va="center", fontsize=8)
