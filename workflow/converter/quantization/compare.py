"""A model as float32 file and as every kind of quantized file of a format, side by side: made, measured and timed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from converter.contracts import Export, ExportJob, ExportResult
from converter.errors import ConverterError
from converter.hub.hub import Hub
from converter.profiling.latency import Latency, latencies
from converter.quantization.export import export_quantized
from converter.quantization.kinds import kind_of

__all__ = ["Variant", "compare"]


@dataclass
class Variant:
    """A kind of file. `bytes`, `result` where it was made, `latency` where it runs here; else `reason` says why not."""

    name: str
    bytes: int | None = None
    result: ExportResult | None = None
    latency: Latency | None = None
    reason: str | None = None

    @property
    def status(self) -> str:
        """As in a report's `status`, or "not made"."""
        if self.result is None:
            return "not made"
        if self.result.verification is None:
            return "unverified"
        return "verified" if self.result.verification.passed else "inaccurate"

    def worst(self, key: str) -> float | None:
        """The lowest value of `key` ("cosine", "sqnr_db", "top1_agreement") over the outputs that have one."""
        verification = self.result.verification if self.result else None
        values = [entry[key] for entry in (verification.outputs if verification else []) if entry.get(key) is not None]
        return min(values, default=None)

    @property
    def accuracy(self) -> dict | None:
        """Of the first output with labels: {"output", "samples", "before", "after"}."""
        described = self.result.metadata.get("quantization", {}) if self.result else {}
        return next(iter(described.get("accuracy", [])), None)


def compare(
    hub: Hub, job: ExportJob, blocks: Mapping[str, dict | str], export_float: Export, folder: Path, *, runs: int = 30
) -> list[Variant]:
    """Make each kind of file in `folder` and time those that run, in turns, on one thread.

    `blocks`: by name of the kind the resolved quantization block, or the sentence that says why there is none.
    """
    extension = Path(job.target).suffix
    export = _once_per_form(export_float, folder, extension)
    variants, paths = [], {}
    for name in blocks:
        variant, path = Variant(name), folder / f"{name}{extension}"
        variants.append(variant)
        block = blocks[name]
        if isinstance(block, str):
            variant.reason = block
            continue
        asked = replace(job, quantization=block)
        try:
            kind = kind_of(block)
            variant.result = export_quantized(hub, asked, path, kind, export) if kind else export(hub, asked, path)
        except ConverterError as error:
            variant.reason = str(error)
            continue
        variant.bytes = path.stat().st_size
        if variant.result.verification is None:
            variant.reason = variant.result.unverified_reason
        else:
            paths[name] = path
            variant.reason = variant.result.verification.message
    timed = dict(zip(paths, latencies(list(paths.values()), runs=runs), strict=True))
    for variant in variants:
        variant.latency = timed.get(variant.name)
    return variants


def _once_per_form(export_float: Export, folder: Path, extension: str) -> Export:
    """`export_float`, which takes most of the time, called once for all blocks that start from the same float file."""
    known: dict[tuple, tuple[Path, ExportResult]] = {}

    def export(hub: Hub, job: ExportJob, staged: Path) -> ExportResult:
        kind = kind_of(job.quantization)
        form = kind is not None and kind.form == "dynamic", job.quantization.get("opsset")
        if form not in known:
            kept = folder / f"float{len(known)}{extension}"
            known[form] = kept, export_float(hub, job, kept)
        path, result = known[form]
        shutil.copyfile(path, staged)
        return replace(result, notes=list(result.notes))

    return export
