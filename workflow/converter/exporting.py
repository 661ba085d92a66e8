"""From a hub to a file: which exporter writes it, by the declarations of formats/target_formats/."""

from __future__ import annotations

from pathlib import Path

from converter import formats
from converter.contracts import Export, ExportJob, ExportResult
from converter.errors import UnsupportedError
from converter.hub.hub import Hub
from converter.planning.profiles import profile

__all__ = ["export_model", "exporter_of", "functions_of"]

# As an exporter's, with the exporter as a fourth argument. Named as exporters are: most files are of no quantized format.
_QUANTIZING = "converter.quantization.export:export_variant"


def exporter_of(hub: Hub, job: ExportJob) -> Export:
    """What writes the float file of `job` from `hub`.

    Raises UnsupportedError where sources of the hub's framework do not become this format.
    """
    target = formats.target(job.target.rpartition(".")[2])
    if job.backend != "default":
        return formats.load(target.backends[job.backend].function)
    if hub.framework not in target.exporters:
        title = formats.framework(hub.framework).title
        others = [entry.extensions[0] for entry in formats.targets().values() if hub.framework in entry.exporters]
        raise UnsupportedError(f"a {title} model does not become {target.title}: ask for .{', .'.join(others)}")
    return formats.load(target.exporters[hub.framework].function)


# What looks at files of formats that take the parameter `device`; no other export is stale when they change.
_DEVICES = ("converter.devices.facts:facts_of", "converter.devices.fit:check")


def export_model(hub: Hub, job: ExportJob, staged: Path) -> ExportResult:
    """Write `staged`, a file of the format of `job.target`, from `hub`, and compare it with the source.

    Raises what `exporter_of` raises, and what the exporter does.
    """
    export = exporter_of(hub, job)
    target = formats.target(job.target.rpartition(".")[2])
    writer = target.writer or (_QUANTIZING if target.quantized else None)
    result = formats.load(writer)(hub, job, staged, export) if writer else export(hub, job, staged)
    if target.oldest_runtime and staged.is_file():
        result.oldest_runtime = formats.load(target.oldest_runtime)(staged)
    if job.device is not None and staged.is_file():
        extension = job.target.rpartition(".")[2]
        arena = result.metadata.get("micro", {}).get("arena_bytes")
        facts_of, check = map(formats.load, _DEVICES)
        result.device = check(facts_of(staged, extension, arena), profile(job.device))
    return result


def functions_of(target: formats.TargetFormat, framework: str) -> tuple[str, ...]:
    """All that `export_model` may call for sources of this framework, as "module:name"."""
    exporter = [target.exporters[framework].function] if framework in target.exporters else []
    backends = [
        backend.function
        for backend in target.backends.values()
        if any(formats.source(name).framework == framework for name in backend.sources)
    ]
    quantizing = [_QUANTIZING, target.quantized.files, *target.quantized.needs] if target.quantized else []
    always = [name for name in (target.writer, target.oldest_runtime) if name]
    devices = _DEVICES if "device" in target.parameters else ()
    return (*exporter, *quantizing, *always, *devices, *backends)
