"""Names from files are text and nothing else, in every output that people read: pages, tables, the report, the terminal."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from conftest import Project
from docutils.core import publish_string

from converter import escape
from converter.pages import coverage
from converter.pages.page import Section, Table, render

MARKER = "<script>alert(1)</script>"
EVIL = f"{MARKER}<img src=x>|[x](javascript:1)![i](x)`code`*b*\x1b[31m\u202e\r\n\\&amp;~~s~~"


def _row(text: str) -> coverage.Row:
    return coverage.Row(f"converted/{text}.onnx", text, None, text, text, "failed", reason=text)


def _harmless(text: str) -> None:
    assert "<script" not in text and "<img" not in text
    assert not set(text) & set("\x1b\u202e\r")


def test_markdown() -> None:
    text = coverage.markdown([_row(EVIL)], "Made today.")
    _harmless(text)
    (line,) = (line for line in text.splitlines() if "alert" in line)
    assert line.replace("\\|", "").count("|") == 14  # of thirteen columns
    assert "](" not in line.replace("\\]", "") and "![" not in line.replace("\\[", "")
    assert "`code`" not in line and "*b*" not in line and "~~s~~" not in line


def test_pages() -> None:
    _harmless(coverage.page([_row(EVIL)], "Made today."))
    sections = [Section(EVIL, [EVIL], [Table([EVIL], [[EVIL]], EVIL)])]
    text = render(EVIL, sections, EVIL)
    _harmless(text)
    assert text.count("\\x1b[31m\\u202e") >= 6


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r=", ".. include:: ", ".. raw:: html "])
def test_formulas_and_directives(start: str, tmp_path: Path) -> None:
    """Snakemake's report reads the table as reStructuredText, people open it in a spreadsheet."""
    (tmp_path / "secret").write_text("the secret")
    names = [f"{start}secret", "`x <javascript:alert(1)>`_", "|x|", "model_", "plain_name-1.5 (b)", "größe"]
    text = coverage.table([_row(name) for name in names])
    rows = list(csv.reader(text.splitlines()))[1:]
    assert all(not cell.startswith(("=", "+", "-", "@", "\t", "\r")) for row in rows for cell in row)
    (tmp_path / "table.csv").write_text(text)
    source = f".. csv-table:: t\n   :file: {tmp_path}/table.csv\n   :header-rows: 1\n"
    html = publish_string(source, writer="html", settings_overrides={"report_level": 1}).decode()
    assert "the secret" not in html and 'href="javascript' not in html and 'class="system-message"' not in html, html
    for name in names[1:]:
        assert name.replace("<", "&lt;").replace(">", "&gt;") in html.replace("&#64;", "@"), name


def test_json() -> None:
    """What it says is not changed, nor what people can read; no character of it is one that a terminal obeys."""
    value = {f"größe{EVIL}": [EVIL, "\U000e0001\ud800\n\t", "模型"], "n": 1.5}
    text = escape.json_text(value)
    assert json.loads(text) == value and "größe" in text and "模型" in text
    assert all(line.isprintable() for line in text.split("\n"))


def test_ordinary_texts_stay() -> None:
    text = "MobileNet_v2 1.0 (a, b): 3 % of größe – 'x' \"y\" #1"
    assert escape.markdown(text) == escape.rest(text) == escape.printable(text) == text


def test_names_in_every_output(project: Project) -> None:
    """Of a file, of the operator that cannot be converted, of a module, an input and a layer."""
    import torch

    models = project.folder / "models"
    graph = 'node { name: "x" op: "Placeholder" attr { key: "dtype" value { type: DT_FLOAT } } }\n'
    (models / "graph.pbtxt").write_text(graph + f'node {{ name: "y" op: "{MARKER}" input: "x" }}\n')
    name = MARKER.replace("/", "_")
    module = torch.nn.Sequential()
    module._modules[name] = torch.nn.LSTM(4, 4)
    module._modules["\u202e" + name] = torch.nn.Linear(4, 4)
    torch.save(module, models / f"{name}\x1b.pt")
    torch.save(torch.nn.Sequential(torch.nn.Linear(4, 4)), models / f"={name}.pt")
    jobs = [
        {"convert_from": "models/graph.pbtxt", "convert_to": "converted/graph.onnx"},
        {"convert_from": f"models/{name}\x1b.pt", "convert_to": "converted/hostile.onnx"},
        {"convert_from": f"models/={name}.pt", "convert_to": "converted/named.onnx", "input_shape": "1,4"},
        {"convert_from": "models/absent.pt", "convert_to": f"converted/{name}.onnx"},
    ]
    jobs[1]["input_shape"] = "1,4"
    targets = [job["convert_to"] for job in jobs]
    project.snakemake("--keep-going", *targets, config={"jobs": jobs})
    run = project.snakemake("--keep-going", "reports/coverage.html", "reports/coverage.md", config={"jobs": jobs})
    assert "Traceback" not in run.stderr, run.stderr[-3000:]
    pages = [path for path in (project.folder / "reports").rglob("*") if path.suffix in (".html", ".md", ".csv")]
    assert {"coverage.html", "coverage.md", "coverage.csv"} <= {path.name for path in pages}
    shown = 0
    for path in pages:
        text = path.read_text()
        shown += "alert" in text
        assert (MARKER not in text and "<script>alert" not in text) or path.suffix == ".csv", path
        assert not set(text) & set("\x1b\u202e"), path
    assert shown >= 3
    assert project.report("named.onnx")["status"] == "verified"
