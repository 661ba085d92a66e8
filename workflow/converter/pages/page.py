"""Render a page from a template of this folder (Jinja2, escaped), with tables and figures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
from markupsafe import Markup

from converter.escape import printable

__all__ = ["Figure", "Section", "Table", "cell", "render", "write"]


@dataclass(frozen=True)
class Table:
    """rows: one value per column; what is not text is formatted by `cell`."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""


@dataclass(frozen=True)
class Figure:
    """svg: what figures.svg returns. alt: what the plot shows, for those who cannot see it."""

    svg: Markup
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A heading, paragraphs, and then tables and figures in this order."""

    heading: str
    paragraphs: Sequence[str] = ()
    content: Sequence[Table | Figure] = field(default_factory=list)


def cell(value: object) -> str:
    """How a table shows a value: a dash for None, thousands apart, four significant digits."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
    return str(value)


def render(title: str, sections: Sequence[Section], lead: str = "", template: str = "page.html.j2") -> str:
    """The whole page. `lead`: the sentence below the title, which says what the reader sees."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters["cell"] = cell
    environment.tests["numeric"] = lambda value: value is None or isinstance(value, int | float)
    environment.tests["table"] = lambda value: isinstance(value, Table)
    return environment.get_template(template).render(title=title, lead=lead, sections=sections)


def _shown(value: object) -> object:
    """Texts without control characters, but for the ends of lines: a page may quote what a terminal shows."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return "\n".join(map(printable, value.split("\n")))
    return value


def write(path: Path, html: str) -> None:
    """Write under a temporary name and move, so that no reader sees half a page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(html, encoding="utf-8")
    os.replace(temporary, path)
