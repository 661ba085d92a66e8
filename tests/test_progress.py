"""What a run shows while it works: a line for each step, or nothing; and that Ctrl-C is no failure."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import SNAKEMAKE
from conftest import ROOT, Project

from converter import convert, formats
from converter.running.progress import Progress

SOURCE = '{"weights": [[1, 2], [3, 4.5]]}'
LINE = re.compile(r"\[(\d+)/(\d+)\] \d+:\d\d (.+)")


@pytest.fixture
def toy(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A user's folder with a source whose format is of no library."""
    monkeypatch.setenv("CONVERTER_FORMATS", str(ROOT / "tests" / "toy" / "toy_formats.py"))
    (project.folder / "models" / "net.matrix").write_text(SOURCE)
    return project


def test_plain_snakemake_shows_a_line_for_each_step_unless_it_is_quiet(toy: Project):
    run = toy.snakemake("converted/net.npz")
    assert run.returncode == 0, run.stderr
    lines = [LINE.fullmatch(line) for line in run.stderr.splitlines()]
    steps = ["read models/net.matrix", "write net.npz", "publish converted/net.npz"]
    assert [line[3] for line in lines if line] == steps
    assert [(line[1], line[2]) for line in lines if line] == [("1", "3"), ("2", "3"), ("3", "3")]
    assert "steps (" not in run.stderr and "Job stats" not in run.stderr
    (toy.folder / "converted" / "net.npz").unlink()
    quiet = toy.snakemake("converted/net.npz", "--quiet", "all")
    assert quiet.returncode == 0 and not LINE.search(quiet.stderr)


def test_ctrl_c_is_an_interruption_and_leaves_no_failure(toy: Project, monkeypatch: pytest.MonkeyPatch):
    """Sent as a terminal does, to all processes of the run, while its first step works."""
    slow = toy.folder / "toy_formats.py"
    text = (ROOT / "tests" / "toy" / "toy_formats.py").read_text()
    slow.write_text(
        text.replace("    weights = np.array(", "    import time\n    time.sleep(60)\n    weights = np.array(")
    )
    monkeypatch.setenv("CONVERTER_FORMATS", str(slow))
    process = subprocess.Popen(
        [*SNAKEMAKE, "converted/net.npz"],
        cwd=toy.folder,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    for line in process.stderr:
        if LINE.match(line):
            break
    time.sleep(1)
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(timeout=60) != 0
    seconds = time.monotonic() - began
    print(f"stopped after {seconds:.1f} s")
    assert seconds < 20  # 2 on an idle machine
    assert rest.strip().splitlines()[-1] == "interrupted: converted/net.npz not made; run it again to go on"
    assert "crashed" not in rest and "Traceback" not in rest
    assert not (toy.folder / "reports").exists() or not list((toy.folder / "reports").iterdir())
    slow.write_text(text)
    assert toy.snakemake("converted/net.npz").returncode == 0


def test_convert_tells_its_progress(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONVERTER_FORMATS", str(ROOT / "tests" / "toy" / "toy_formats.py"))
    names = ("added", "frameworks", "sources", "targets", "target_extensions", "extensions_of_sources")
    for known in (getattr(formats, name) for name in names):
        known.cache_clear()
        request.addfinalizer(known.cache_clear)
    request.addfinalizer(lambda: sys.modules.pop("toy_formats", None))
    Path("net.matrix").write_text(SOURCE)
    seen = []
    convert("net.matrix", "net.npz", progress=seen.append)
    assert [event["message"] for event in seen if event and event["event"] == "start"][0] == "read net.matrix"
    assert capsys.readouterr().err == ""
    convert("net.matrix", "other.npz", progress=True)
    assert "publish other.npz" in capsys.readouterr().err


def test_a_notebook_shows_a_bar_that_it_overwrites(monkeypatch: pytest.MonkeyPatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    progress = Progress(stream)
    progress.see({"event": "run", "total": 2})
    progress.see({"event": "start", "id": 1, "message": "read m.h5", "output": ["x"]})
    progress.see({"event": "finish", "id": 1})
    progress.close()
    assert "\x1b" not in stream.getvalue() and "\n" not in stream.getvalue()
    _, _, begun, done, away, _ = stream.getvalue().split("\r")
    assert begun.rstrip() == "[" + "." * 20 + "] 0/2  0:00  read m.h5" and done.startswith("[#####")
    assert len(begun) == len(done) == len(away) and not away.strip()
    progress.see(None)
    assert stream.getvalue().endswith("\r")
