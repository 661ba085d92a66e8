"""The tables of README and docs/, and the schemas, say what the declarations of formats say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import ROOT

from converter import formats
from converter.planning.applies import import_parameters_of
from converter.planning.parameters import IMPORT_PARAMETERS


def rows(path: Path, first: str) -> list[list[str]]:
    """The cells of all tables whose header's first cell is `first`."""
    found, inside = [], False
    for line in path.read_text().split("\n"):
        if line.startswith(f"| {first} |"):
            inside = True
        elif not line.startswith("|"):
            inside = False
        elif inside and not line.startswith("|---"):
            found.append([cell.strip() for cell in line.strip("|").split(" | ")])
    assert found, f"{path} has no table of {first}"
    return found


def source_of(cell: str) -> str:
    """The source format that a table's first cell is about: by its extensions, or as a directory."""
    suffixes = re.findall(r"`(\.\w+)`", cell)
    if suffixes:
        (name,) = {formats.extensions_of_sources()[suffix] for suffix in suffixes}
        return name
    return next(entry.name for entry in formats.sources().values() if entry.title in cell)


@pytest.mark.parametrize(("path", "first"), [("README.md", "from"), ("docs/formats.md", "source")])
def test_tables_of_sources(path, first):
    listed: dict[str, set[str]] = {}
    for cells in rows(ROOT / path, first):
        name = source_of(cells[0])
        possible = [
            suffix for suffix, target in formats.target_extensions().items() if target.accepts(formats.source(name))
        ]
        assert cells[1].split(", ") == possible, cells[0]
        listed.setdefault(name, set()).update(re.findall(r"`(\.\w+)`", cells[0]))
    assert set(listed) == set(formats.sources())
    for name, suffixes in listed.items():
        assert suffixes == set(formats.source(name).extensions), name


def test_table_of_import_parameters():
    documented = {cells[0].strip("`"): cells[1] for cells in rows(ROOT / "docs" / "parameters.md", "parameter")}
    everywhere = frozenset.intersection(*(import_parameters_of(name) for name in formats.sources()))
    for name in IMPORT_PARAMETERS:
        if name == "verify":  # it has a table of its own
            continue
        takers = {entry.title for entry in formats.sources().values() if name in import_parameters_of(entry.name)}
        named = {title.removeprefix("TensorFlow ") for title in takers}
        assert documented[name] == "all" if name in everywhere else set(documented[name].split(", ")) == named, name


def test_table_of_export_parameters():
    text = (ROOT / "docs" / "parameters.md").read_text()
    for name in {name for target in formats.targets().values() for name in target.parameters}:
        suffixes = {f".{suffix}" for suffix, target in formats.target_extensions().items() if name in target.parameters}
        cell = re.search(rf"^\| `{name}` \| ([^|]*) \|", text, re.MULTILINE)[1]
        allowed = suffixes if name != "backend" else suffixes - {".keras"}  # pytorch2keras writes .h5 only
        assert set(re.findall(r"`(\.\w+)`", cell)) == allowed, name


@pytest.mark.parametrize("schema", ["report", "inspection"])
def test_schemas(schema):
    text = json.loads((ROOT / "configs" / f"{schema}.schema.json").read_text())
    lists = [entry for entry in _enumerations(text) if "savedmodel" in entry]
    assert lists and all(set(entry) == {*formats.sources(), None} for entry in lists)


def _enumerations(schema: object) -> list[list]:
    if isinstance(schema, list):
        return [found for entry in schema for found in _enumerations(entry)]
    if not isinstance(schema, dict):
        return []
    own = [schema["enum"]] if isinstance(schema.get("enum"), list) else []
    return own + [found for entry in schema.values() for found in _enumerations(entry)]
