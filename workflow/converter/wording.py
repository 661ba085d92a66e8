"""Parts of sentences that more than one module says."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["TRUST", "channels_last_note", "first_line", "shape_text"]

TRUST = "write `trusted: true` if you know where the file comes from"
_LONGEST = 300


def shape_text(shape: Sequence[int | None] | None) -> str:
    """ "[-1,224,224,3]": -1 for an unknown size, "[...]" for an unknown rank."""
    return "[...]" if shape is None else "[" + ",".join("-1" if dim is None else str(dim) for dim in shape) + "]"


def first_line(error: object) -> str:
    """The first line with text of what an exception, or another object, says; its type's name where it says nothing."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line[:_LONGEST] for line in lines if line), type(error).__name__)


def channels_last_note(kind: str, name: str, order: Sequence[int]) -> str:
    """On an input or output ("input", "output") of a file whose axes are axes `order` of the source's."""
    return f"{kind} {name} is channels-last: its axes are axes {list(order)} of the source's"
