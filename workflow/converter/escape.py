"""Texts from files (names of models, layers, operators; sentences with them) where a program would take parts for its own.

HTML is escaped by the pages' templates (pages/page.py), which show every text as `printable` leaves it.
"""

from __future__ import annotations

import json
import re

__all__ = ["json_text", "markdown", "printable", "rest"]

_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def printable(text: str) -> str:
    """For a terminal: escape, control and bidirectional characters are shown as text, `\\x1b`."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def json_text(value: object) -> str:
    """As JSON that people read too, also at a terminal: what `printable` would not leave is `\\u202e` in it."""
    lines = json.dumps(value, indent=2, ensure_ascii=False).split("\n")
    return "\n".join(
        line if line.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)
        for line in lines
    )


def markdown(text: str) -> str:
    """For a cell of a table in Markdown: no markup, no HTML, on one line."""
    escaped = re.sub(r"([\\`*|~\[\]])", r"\\\1", printable(text))
    return re.sub("[&<>]", lambda match: _HTML[match[0]], escaped)


def rest(text: str) -> str:
    """For a cell of a table in CSV that Snakemake's report reads as reStructuredText: no markup and no directive in it.

    Nor a formula of a spreadsheet's: what could begin one has a backslash before it.
    """
    escaped = re.sub(r"([\\`*|<>\[\]]|_(?!\w)|:(?!\s))", r"\\\1", printable(text))
    return "\\" + escaped if re.match(r"[^\w\\\s–]", escaped) else escaped
