"""Parts of sentences that more than one module says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["TRUST", "channels_last_note", "counted", "first_line", "listed", "quoted", "shape_text", "shortened"]

TRUST = "write `trusted: true` if you know where the file comes from"
_LONGEST = 300
_LONGEST_QUOTED = 120


def shape_text(shape: Sequence[int | None] | None) -> str:
    """ "[-1,224,224,3]": -1 for an unknown size, "[...]" for an unknown rank."""
    return "[...]" if shape is None else "[" + ",".join("-1" if dim is None else str(dim) for dim in shape) + "]"


def first_line(error: object) -> str:
    """The first line with text of what an exception, or another object, says; its type's name where it says nothing.

    A line that ends with a colon only announces the next one, which is added.
    """
    lines = [stripped for line in str(error).splitlines() if (stripped := line.strip())]
    if len(lines) > 1 and lines[0].endswith(":"):
        lines[0] = f"{lines[0]} {lines[1]}"
    return lines[0][:_LONGEST] if lines else type(error).__name__


def counted(counts: Mapping[str, int]) -> str:
    """ "Conv (2), Relu": names in their order, with numbers from 2 on."""
    return ", ".join(f"{name} ({count})" if count > 1 else name for name, count in sorted(counts.items()))


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def quoted(value: object) -> str:
    """What somebody wrote, as Python writes it, shortened."""
    return shortened(repr(value))


def shortened(text: str) -> str:
    """Of a long text its ends."""
    half = _LONGEST_QUOTED // 2
    return text if len(text) <= _LONGEST_QUOTED else f"{text[:half]}...{text[-half:]}"


def channels_last_note(kind: str, name: str, order: Sequence[int]) -> str:
    """On an input or output ("input", "output") of a file whose axes are axes `order` of the source's."""
    return f"{kind} {name} is channels-last: its axes are axes {list(order)} of the source's"
