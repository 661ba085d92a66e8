"""The cache between workflows (--cache): a hit where source, parameters, name and versions agree, and nowhere else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import ROOT, Project
from text_graphs import linear

from converter import formats


def inspect(folder: Path, source: str, name: str, model: dict | None = None) -> tuple[bool, dict]:
    """Import models/{name}.pbtxt in a new project: whether the step ran, and what the inspection says."""
    folder.mkdir()
    project = Project(folder)
    (folder / "models" / f"{name}.pbtxt").write_text(source)
    config = {"models": {name: model or {}}}
    run = project.snakemake(f"reports/{name}.inspect.json", "--cache", config=config)
    assert run.returncode == 0, run.stderr
    logs = [path.stat().st_size for path in (folder / "logs" / "import").glob("*.log")]
    return any(logs), project.report(f"{name}.inspect")


def test_models_share_an_entry_only_if_all_agrees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setenv("SNAKEMAKE_OUTPUT_CACHE", str(cache))
    graph = linear()
    ran, first = inspect(tmp_path / "first", graph, "a")
    entries = len(list(cache.iterdir()))
    assert ran and entries
    ran, again = inspect(tmp_path / "same", graph, "a")
    assert not ran and again["source"] == first["source"] and len(list(cache.iterdir())) == entries
    for number, (name, source, model) in enumerate(
        [
            ("b", graph, None),  # another name, the same bytes
            ("a", linear((1, 2, 3, 5)), None),  # the same name, other bytes
            ("a", graph, {"input_shape": "1,2"}),  # other parameters
        ]
    ):
        ran, found = inspect(tmp_path / f"other{number}", source, name, model)
        assert ran and found["source"]["path"] == f"models/{name}.pbtxt"
        assert (found["source"]["sha256"] == first["source"]["sha256"]) == (source == graph)


def test_what_is_cached_depends_on_all_that_snakemake_leaves_out():
    """Neither wildcards nor package versions are part of Snakemake's key (9.27): rules carry them as parameters."""
    text = (ROOT / "rules" / "import.smk").read_text()
    assert re.search(r"rule import_added:.*cache: True", text, re.DOTALL)
    for parameter in (
        *("step=planned.import_step", "source=planned.source_path", "bytes=planned.source_version"),
        *("options=planned.import_options", "code=planned.import_code", "versions=planned.import_versions"),
    ):
        assert parameter in text
    others = "\n".join(path.read_text() for path in (ROOT / "rules").glob("*.smk") if path.name != "import.smk")
    derived = re.findall(
        r"use rule import_added as import_(\w+) with:\n    wildcard_constraints:\n.*\n    cache: True\n", others
    )
    assert set(derived) == set(formats.sources()) and others.count("cache: True") == len(derived)
