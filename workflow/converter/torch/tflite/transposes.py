"""How many TRANSPOSE operators a file has: what channels-first sources cost in a channels-last one."""

from __future__ import annotations

from pathlib import Path

from converter.contracts import ExportResult
from converter.tflite.flatbuffer import operators, read

__all__ = ["note_transposes"]


def note_transposes(path: Path, result: ExportResult) -> None:
    """Put their number into the metadata of the file's report, and into its notes where there are any."""
    count = sum(name == "TRANSPOSE" for _, _, name in operators(read(path.read_bytes())))
    result.metadata = {**result.metadata, "transposes": count}
    if count:
        result.notes.append(f"{count} TRANSPOSE operator{'s' if count > 1 else ''} in the file")
