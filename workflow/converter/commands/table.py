"""The table at the end of a run: one line per job."""

from __future__ import annotations

from collections.abc import Sequence

from converter.jobs import Row
from converter.publishing.report import decision_lines, size_text, worst_output

__all__ = ["table"]

_HEAD = ("job", "status", "size", "max difference", "seconds", "reason")
_NUMBERS = (2, 3, 4)


def table(rows: Sequence[Row]) -> str:
    """Columns aligned, numbers to the right; the last one is as long as its sentence. Decisions stand below their row."""
    cells = [_HEAD, *(tuple(_one_line(cell) for cell in _cells(row)) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEAD) - 1)]
    lines = [_line(cells[0], widths)]
    for row, line in zip(rows, cells[1:], strict=True):
        lines += [_line(line, widths), *(decision_lines(row.report) if row.report and row.reason is None else [])]
    return "\n".join(lines)


def _line(line: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        text.rjust(width) if column in _NUMBERS else text.ljust(width)
        for column, (text, width) in enumerate(zip(line, widths, strict=False))
    ]
    return "  ".join([*padded, line[-1]]).rstrip()


def _cells(row: Row) -> tuple[str, ...]:
    result = row.report or {}
    made = row.reason is None or row.status == "inaccurate"
    file, worst = result.get("file") if made else None, worst_output(result) if result and made else None
    seconds = sum(step.get("wall_seconds", 0) for step in result.get("steps", []))
    reason = row.reason or (result.get("reason") if row.status != "verified" else None)
    return (
        row.target,
        row.status,
        size_text(file["bytes"]) if file else "",
        f"{worst['max_abs_diff']:.1e}" if worst else "",
        f"{seconds:.1f}" if seconds else "",
        reason or ("up to date" if row.was_there else ""),
    )


def _one_line(text: str) -> str:
    return " ".join(str(text).splitlines())
