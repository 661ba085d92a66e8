"""The coverage table: from reports to rows, and the original tool's 84 jobs as they are run here."""

from __future__ import annotations

import html
import json
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, Project
from text_graphs import linear

from converter.pages.coverage import collect, markdown, page, table
from converter.planning.config import read_config

RECIPES = {"net": {"file": "zoo/net.pb", "recipe": "tf1", "stands_for": "old/net.pb"}, "lib": {"file": "zoo/lib.h5"}}


def write_report(folder: Path, target: str, source: str, **values) -> None:
    outputs = [
        {"name": "near", "max_abs_diff": 5e-6, "tolerance": 1e-5},
        {"name": "far", "max_abs_diff": 2e-5, "tolerance": 1e-3},
    ]
    coverage = {"method": "gradients", "weights": 0.9999, "rows": 0.5, "branches": None, "stuck": 0.0}
    entry = {
        "target": target,
        "status": "verified",
        "reason": None,
        "source": {"path": source, "format": "keras"},
        "file": {"bytes": 12_345},
        "verification": {"outputs": outputs, "weak_evidence": False, "coverage": coverage},
        "steps": [{"cpu_seconds": 1.25}, {"cpu_seconds": 2.5}],
        **values,
    }
    path = folder / f"{target}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entry))


def test_rows_say_what_became_of_each_target(tmp_path: Path):
    write_report(tmp_path, "converted/tested_models/protobuf_to_onnx/10_net_converted.onnx", "zoo/net.pb")
    write_report(
        tmp_path,
        "converted/tested_models/protobuf_to_onnx/9_net_converted.onnx",
        "zoo/net.pb",
        status="inaccurate",
        reason="the file does | not compute",
    )
    write_report(
        tmp_path,
        "converted/a.b.int8.tflite",
        "models/a.b.h5",
        status="failed",
        reason="why",
        file=None,
        verification=None,
        steps=[],
    )
    write_report(tmp_path, "converted/lib.onnx", "zoo/lib.h5", verification={"outputs": [], "weak_evidence": True})
    (tmp_path / "lib.inspect.json").write_text('{"source": {}}')
    rows = collect(tmp_path, RECIPES)
    assert [(row.listed, row.model, row.kind, row.status) for row in rows] == [
        (("protobuf_to_onnx", 9), "net", "rebuilt architecture", "inaccurate"),
        (("protobuf_to_onnx", 10), "net", "rebuilt architecture", "verified"),
        (None, "a.b", "file", "failed"),
        (None, "lib", "library model", "verified"),
    ]
    assert (rows[1].difference, rows[1].allowed, rows[1].bytes, rows[1].seconds) == (5e-6, 1e-5, 12_345, 3.8)
    text = markdown(rows, "Made today.")
    lines = text.splitlines()
    assert "2 targets: 1 verified, 1 inaccurate." in lines and "2 targets: 1 verified, 1 failed." in lines
    assert (
        "| protobuf_to_onnx 10 | net | keras, rebuilt architecture | onnx | verified | 5.0e-06 | 1.0e-05 "
        "| 99.99 % | 50 % | – | 0 % | 12.3 KB | 3.8 |  |" in lines
    )
    assert "| a.b | keras, file | int8.tflite | failed | – | – | – | – | – | – | – | – | why |" in lines
    assert "does \\| not" in text and "verified (weak evidence)" in text
    assert table(rows).splitlines()[:2] == [
        "model,target,status,difference,weights,rows,branches,stuck",
        "protobuf_to_onnx 9: net,onnx,inaccurate,5.0e-06,99.99 %,50 %,–,0 %",
    ]
    text = page(rows, "Made today.")
    assert text.count("<table>") == 2 and "protobuf_to_onnx 9" in text and "http" not in text


def test_the_tested_models_are_the_original_lists():
    """One job for each of the 84, with the parameters of its list and a source that a recipe makes."""
    jobs = yaml.safe_load((ROOT / "configs" / "tested_models.yaml").read_text())["jobs"]
    recipes = yaml.safe_load((ROOT / "configs" / "zoo.yaml").read_text())
    made = {recipe["file"]: recipe for recipe in recipes.values()}
    listed = [
        (path.stem, position, job)
        for path in sorted((ROOT / "configs" / "jobs").glob("*.json"))
        for position, job in enumerate(json.loads(path.read_text()), 1)
    ]
    assert len(listed) == len(jobs) == 84
    renamed = {"convert_from", "convert_to", "network_script", "network_name", "skip"}
    for job, (name, position, original) in zip(jobs, listed, strict=True):
        assert job["convert_to"] == f"converted/tested_models/{name}/{position}_{Path(original['convert_to']).name}"
        assert {k: v for k, v in job.items() if k not in renamed} == {
            k: v for k, v in original.items() if k not in renamed
        }
        recipe = made[job["convert_from"]]
        source = original["convert_from"].removeprefix("test_models/")
        assert recipe.get("stands_for") == original["convert_from"] or Path(job["convert_from"]).stem in source.replace(
            "/", "_"
        )


@pytest.mark.parametrize("name", ["tested_models.yaml"])
def test_the_configuration_is_accepted(name: str):
    values = yaml.safe_load((ROOT / "configs" / name).read_text())
    config = read_config(values, ROOT / "configs" / "zoo.yaml")
    assert len(config.jobs) == 84


def test_the_table_is_made_though_a_job_fails(project: Project):
    models = project.folder / "models"
    (models / "good.pbtxt").write_text(linear())
    (models / "bad.pb").write_bytes(b"\x0a\xff")
    jobs = [
        {"convert_from": f"models/{name}", "convert_to": f"converted/{name}.onnx"} for name in ("good.pbtxt", "bad.pb")
    ]
    run = project.snakemake("all", "overview", config={"jobs": jobs})
    assert run.returncode == 1 and project.converted() == ["good.pbtxt.onnx"]
    table = (project.folder / "reports" / "coverage.md").read_text()
    assert "2 targets: 1 verified, 1 failed." in table
    assert project.report("bad.pb.onnx")["reason"] in table
    page = (project.folder / "reports" / "pages" / "bad.html").read_text()
    assert project.report("bad.pb.onnx")["reason"] in html.unescape(page) and "0 of 1 files verified." in page
    run = project.snakemake("overview", "--report", "report.html", config={"jobs": jobs})
    assert run.returncode == 0, run.stderr
    report = (project.folder / "report.html").read_text()
    assert "good.html" in report and all(f"<td>{cell}</td>" in report for cell in ("good", "bad", "verified", "failed"))
