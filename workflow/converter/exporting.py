"""From a hub to a file: which exporter writes it, by the declarations of formats/target_formats/."""

from __future__ import annotations

from pathlib import Path

from converter import formats
from converter.contracts import ExportJob, ExportResult
from converter.errors import UnsupportedError
from converter.hub.hub import Hub

__all__ = ["export_model", "functions_of"]


def export_model(hub: Hub, job: ExportJob, staged: Path) -> ExportResult:
    """Write `staged`, a file of the format of `job.target`, from `hub`, and compare it with the source.

    Raises UnsupportedError where sources of the hub's framework do not become this format, and what its exporter raises.
    """
    target = formats.target(job.target.rpartition(".")[2])
    if job.backend != "default":
        return formats.load(target.backends[job.backend].function)(hub, job, staged)
    if hub.framework not in target.exporters:
        title = formats.framework(hub.framework).title
        others = [entry.extensions[0] for entry in formats.targets().values() if hub.framework in entry.exporters]
        raise UnsupportedError(f"a {title} model does not become {target.title}: ask for .{', .'.join(others)}")
    export = formats.load(target.exporters[hub.framework].function)
    if target.variants:
        return formats.load(target.variants)(hub, job, staged, export)
    return export(hub, job, staged)


def functions_of(target: formats.TargetFormat, framework: str) -> tuple[str, ...]:
    """All that `export_model` may call for sources of this framework, as "module:name"."""
    exporter = [target.exporters[framework].function] if framework in target.exporters else []
    backends = [
        backend.function
        for backend in target.backends.values()
        if any(formats.source(name).framework == framework for name in backend.sources)
    ]
    return (*exporter, *([target.variants] if target.variants else []), *backends)
