"""Publishing: a file appears whole under its name, or not at all; what is wrong is kept below rejected/."""

from __future__ import annotations

import os
from pathlib import Path

import publish
import pytest
import refuse

from converter.hub.hub import Hub
from converter.publishing import report as reports
from converter.run_state import failures


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stage(status: str, name: str = "a.onnx", target: str | None = None, **parameters) -> tuple[Path, Path]:
    """A staged file and its report, as an export leaves them."""
    staged, path = Path("intermediate/staged", name), Path("reports", f"{name}.json")
    staged.parent.mkdir(parents=True, exist_ok=True)
    staged.write_bytes(b"" if status == "failed" else b"model")
    reports.write(
        path,
        {
            "target": target or f"converted/{name}",
            "status": status,
            "reason": None if status == "verified" else "why",
            "file": None if status == "failed" else {"bytes": 5, "sha256": ""},
            "parameters": parameters,
            "opset": None,
            "verification": {"outputs": []} if status in ("verified", "inaccurate") else None,
        },
    )
    return staged, path


@pytest.mark.parametrize("status", ["verified", "unverified"])
def test_a_good_file_gets_its_name(work, capsys, status):
    staged, path = stage(status)
    assert publish.main(staged, path, Path("converted/a.onnx")) == 0
    assert Path("converted/a.onnx").read_bytes() == b"model"
    assert capsys.readouterr().out.startswith(f"converted/a.onnx  {status}")
    assert os.listdir("converted") == ["a.onnx"]
    assert failures.take(0) == []


def test_what_was_decided_is_printed_below_the_line(work, capsys):
    staged, path = stage("verified")
    reports.write(path, {**reports.read(path), "decisions": ["batch fixed at 1", "opset 13"]})
    assert publish.main(staged, path, Path("converted/a.onnx")) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["    batch fixed at 1", "    opset 13"]


def test_an_existing_file_is_replaced_in_one_move_and_young(work):
    staged, path = stage("verified")
    os.utime(staged, (0, 0))
    Path("converted").mkdir()
    Path("converted/a.onnx").write_bytes(b"old")
    assert publish.main(staged, path, Path("converted/a.onnx")) == 0
    assert Path("converted/a.onnx").read_bytes() == b"model"
    assert Path("converted/a.onnx").stat().st_mtime > 1e9


def test_the_published_file_is_its_own(work):
    """Snakemake removes the staged file; nothing that happens to it later may show."""
    staged, path = stage("verified")
    publish.main(staged, path, Path("converted/a.onnx"))
    staged.unlink()
    assert Path("converted/a.onnx").read_bytes() == b"model"


@pytest.mark.parametrize("name", ["a.onnx", "out/b c.onnx", "__/up.onnx"])
def test_an_inaccurate_file_is_kept_below_rejected(work, name):
    staged, path = stage("inaccurate", name)
    assert publish.main(staged, path, Path("converted") / name) == 1
    assert not Path("converted", name).exists()
    assert Path("rejected", name).read_bytes() == b"model"
    assert failures.take(0) == [f"converted/{name}: why"]


def test_an_inaccurate_file_that_may_pass(work):
    staged, path = stage("inaccurate", verify={"on_failure": "warn"})
    assert publish.main(staged, path, Path("converted/a.onnx")) == 0
    assert Path("converted/a.onnx").exists() and not Path("rejected").exists()


def test_a_failure_leaves_nothing(work):
    staged, path = stage("failed")
    assert publish.main(staged, path, Path("converted/a.onnx")) == 1
    assert not Path("converted").exists() and not Path("rejected").exists()
    assert failures.take(0) == ["converted/a.onnx: why"]


def test_a_file_made_for_another_target_is_not_published(work):
    """out/a.onnx and converted/out/a.onnx share a report; only the one that was converted may take the file."""
    staged, path = stage("verified", "out/a.onnx", target="out/a.onnx")
    assert publish.main(staged, path, Path("converted/out/a.onnx")) == 1
    assert not Path("converted").exists()
    (sentence,) = failures.take(0)
    assert sentence.startswith("converted/out/a.onnx: ") and "out/a.onnx" in sentence


def test_failures_are_taken_once_in_order_and_forgotten(work):
    for name in ("b", "a", "b"):
        failures.remember(name, f"{name}: why")
    assert failures.take(0) == ["a: why", "b: why"]
    assert failures.take(0) == []
    failures.remember("old", "old: why")
    assert failures.take(4e9) == [] and failures.take(0) == []


def test_a_refusal_is_a_hub_with_an_error(work):
    refuse.main("no source for x", Path("intermediate/refused/x.onnx"))
    assert Hub.read(Path("intermediate/refused/x.onnx")).error["message"] == "no source for x"


def test_two_files_that_belong_together_come_together_or_not_at_all(work):
    staged, path = stage("verified", "a.cc")
    staged.with_name("a.cc.h").write_bytes(b"header")
    assert publish.main(staged, path, Path("converted/a.cc")) == 0
    assert sorted(os.listdir("converted")) == ["a.cc", "a.h"]
    assert Path("converted/a.h").read_bytes() == b"header"
    os.makedirs("elsewhere/a.cc/in-the-way")
    assert publish.main(staged, path, Path("elsewhere/a.cc"), "converted/a.cc") == 1
    assert os.listdir("elsewhere") == ["a.cc"]
    staged, path = stage("inaccurate", "b.cc")
    staged.with_name("b.cc.h").write_bytes(b"header")
    assert publish.main(staged, path, Path("converted/b.cc")) == 1
    assert sorted(os.listdir("rejected")) == ["b.cc", "b.h"] and not Path("converted/b.h").exists()
