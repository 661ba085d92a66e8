"""What a step needs of the file system, by what it is asked for (sandbox.Access)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from converter.hub.hub import Hub
from converter.planning.source_files import source_files
from converter.safety.sandbox import Access

if TYPE_CHECKING:
    from converter.contracts import ExportJob, ImportSpec

__all__ = ["export_access", "import_access"]


def import_access(spec: ImportSpec, hub: Path) -> Access:
    """What an import reads and writes. The user's own code, or the file's with the user's consent, may run in it."""
    readable = [spec.source] if spec.source.is_dir() else source_files(spec.source)
    return Access(
        readable=readable if spec.reference_inputs is None else [*readable, spec.reference_inputs],
        # TensorFlow, and the comparison afterwards, look for a checkpoint's files by the names beside it.
        listed=[spec.source.parent] if spec.source.suffix == ".meta" else [],
        writable=[hub],
        user_code=spec.network_script is not None or spec.trusted,
    )


def export_access(hub: Hub, job: ExportJob, folders: Sequence[Path], blocks: Sequence[Mapping] = ()) -> Access:
    """What an export reads, and writes in `folders`. A script for representative data is the user's own code.

    blocks: quantization blocks of further files that are made.
    """
    loads = [Path(block["load"]) for block in (job.quantization, *blocks) if block.get("load")]
    readable = [hub.path, *loads, *([job.reference_inputs] if job.reference_inputs else [])]
    if job.backend != "default":  # the original tool's libraries read the source itself
        readable += source_files(Path(hub.source["path"]))
        arguments = hub.parameters.get("network_args")
        readable += [Path(arguments)] if isinstance(arguments, str) else []
    script = any(load.suffix != ".npz" for load in loads)
    return Access(readable=readable, writable=folders, user_code=script or _runs_trusted_source(hub, job))


def _runs_trusted_source(hub: Hub, job: ExportJob) -> bool:
    """Whether the source itself is opened again, with the user's code or with code in it that the user trusts."""
    return job.backend != "default" and bool(hub.parameters.get("network_script") or hub.parameters.get("trusted"))
