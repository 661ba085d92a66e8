"""Pages: one file without network, the same bytes for the same data, readable on a phone, escaped."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import markupsafe
import pytest

from converter.pages import page
from converter.pages.figures import new_figure, svg
from converter.pages.page import Figure, Section, Table

VOID = {"meta", "br", "path", "use", "rect", "line", "circle"}


def plot(height: float = 2.0):
    figure = new_figure(height)
    (axes,) = figure.axes
    axes.bar(["float32", "int8"], [100, 26])
    axes.plot([0, 1], [100, 26], marker="o")
    axes.set_ylabel("KB")
    return figure


def rendered() -> str:
    table = Table(["file", "bytes", "ms"], [["a<b>.tflite", 1234567, 0.123456], ["none", None, None]], "sizes")
    figures = [Figure(svg(plot(), "sizes"), "sizes as bars"), Figure(svg(plot(3), "again"), "again", "twice")]
    return page.render("Sizes of <x>", [Section("Sizes", ["Text & more."], [table, *figures])], "What it cost.")


def test_the_same_data_gives_the_same_bytes():
    assert rendered() == rendered()
    assert not re.search(r"20\d\d-\d\d", rendered())  # matplotlib writes the date unless told not to


def test_a_page_needs_nothing_but_itself():
    html = rendered()
    links = re.findall(r'(?:src|href)\s*=\s*"([^"]*)"', html)
    assert links and all(link.startswith("#") for link in links)  # of the plots' markers
    assert "<script" not in html and "@import" not in html
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in html


def test_text_is_escaped_and_numbers_are_formatted():
    html = rendered()
    assert "<td>a&lt;b&gt;.tflite</td>" in html and "<title>Sizes of &lt;x&gt;</title>" in html
    assert '<td class="number">1,234,567</td><td class="number">0.1235</td>' in html
    assert '<td class="number">–</td>' in html


def test_ids_are_unique_and_every_reference_has_its_target():
    html = rendered()
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    references = re.findall(r'(?:url\(#|href="#)([^)"]+)', html)
    assert references and set(references) == set(ids)


def test_tags_are_closed():
    open_tags: list[str] = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag, attributes):
            if tag not in VOID:
                open_tags.append(tag)

        def handle_endtag(self, tag):
            if tag not in VOID:
                assert open_tags.pop() == tag

    Checker().feed(rendered())
    assert open_tags == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (True, "yes"), (3, "3"), (12345, "12,345"), (0.5, "0.5"), (123456.7, "123,457"), ("x", "x")],
)
def test_cells(value, text):
    assert page.cell(value) == text


def test_a_page_is_written_whole(tmp_path):
    page.write(tmp_path / "reports" / "x.html", rendered())
    assert (tmp_path / "reports" / "x.html").read_text(encoding="utf-8") == rendered()
    assert len(list((tmp_path / "reports").iterdir())) == 1


@pytest.mark.parametrize("name", [r"$\frac$", "</text><script>alert(1)</script>", "$a^{$"])
def test_names_in_plots_are_text(name: str):
    """Matplotlib takes what stands between dollar signs for a formula, and ends with an error where it is none."""
    figure = new_figure()
    (axes,) = figure.axes
    axes.set_title(name)
    axes.set_yticks([0], [name])
    axes.text(0, 0, name)
    drawn = str(svg(figure, "names"))
    assert drawn.count(markupsafe.escape(name).replace("&#34;", '"')) == 3 and "<script" not in drawn
