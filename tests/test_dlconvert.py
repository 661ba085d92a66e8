"""The original's command line on real jobs: files, table and exit status."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

import pytest
from conftest import ROOT
from small_models import write_graph

ODD = 'out dir/it\'s; a "file".onnx'


class Workspace:
    """A user's folder with a model, in which commands run as from a shell."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.deep = folder / "absolute" / "deep" / "x.onnx"
        write_graph(folder / "my models; 1" / "tiny.pb")
        # The original overwrote a tmp.h5 of the working directory; a module of the user's must not replace ours.
        (folder / "tmp.h5").write_text("the user's own")
        (folder / "converter.py").write_text("raise RuntimeError('the wrong converter')\n")
        source = "my models; 1/tiny.pb"
        self.jobs = [
            {"convert_from": source, "convert_to": ODD},
            {"convert_from": source, "convert_to": "converted/tiny.tflite", "quantization": {"type": "float32"}},
            {"convert_from": "my models; 1/tyni.pb", "convert_to": "converted/bad.onnx"},
            {"convert_from": source, "convert_to": "converted/skipped.onnx", "skip": True},
            {"convert_from": source, "convert_to": "converted/tiny.tflite", "skip": "True"},
            {"convert_from": source, "convert_to": str(self.deep), "skip": "False", "onnx_opset": "13"},
        ]

    def run(
        self, *arguments: str, module: str = "aup.dlconvert", stderr: int = subprocess.PIPE
    ) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT / "workflow"), "TERM": "xterm"},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            timeout=900,
        )

    def run_on_terminal(self, *arguments: str, module: str) -> subprocess.CompletedProcess:
        """With a terminal of 100 columns as stderr; what it was sent is the result's `stderr`."""
        leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        sent = bytearray()

        def read() -> None:
            with contextlib.suppress(OSError):  # EIO: the last process has closed it
                while data := os.read(leader, 4096):
                    sent.extend(data)

        reader = threading.Thread(target=read)
        reader.start()
        try:
            run = self.run(*arguments, module=module, stderr=follower)
        finally:
            os.close(follower)
            reader.join()
            os.close(leader)
        run.stderr = sent.decode()
        return run

    def listed(self, jobs: object, *arguments: str) -> subprocess.CompletedProcess:
        (self.folder / "jobs.json").write_text(jobs if isinstance(jobs, str) else json.dumps(jobs))
        return self.run("-f", "jobs.json", *arguments)


def rows(run: subprocess.CompletedProcess) -> dict[str, str]:
    """The table's lines by job; a job that is listed twice has the last."""
    head, *lines = run.stdout.splitlines()
    assert head.split() == ["job", "status", "size", "max", "difference", "seconds", "reason"]
    column = head.index("status")
    return {line[:column].strip(): line[column:] for line in lines}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("a user's; folder"))


@pytest.fixture(scope="module")
def first(workspace: Workspace) -> subprocess.CompletedProcess:
    """The run that converts; the tests below look at what it left."""
    return workspace.listed(workspace.jobs)


def test_right_files(workspace: Workspace, first: subprocess.CompletedProcess):
    folder = workspace.folder
    assert (folder / ODD).is_file()
    assert workspace.deep.is_file()
    assert os.listdir(folder / "converted") == ["tiny.tflite"]
    assert (folder / "tmp.h5").read_text() == "the user's own"
    known = {"my models; 1", "tmp.h5", "converter.py", "jobs.json", "out dir", "absolute", "converted"}
    assert set(os.listdir(folder)) - known <= {".snakemake", "intermediate", "logs", "reports", "__pycache__"}
    assert not list((folder / ".snakemake").glob("jobs-*"))


def test_right_table(workspace: Workspace, first: subprocess.CompletedProcess):
    table = rows(first)
    assert len(first.stdout.splitlines()) == 1 + len(workspace.jobs)
    for target in (ODD, str(workspace.deep)):
        status, size, unit, difference, seconds = table[target].split()
        assert status == "verified" and unit == "bytes" and int(size) > 100
        assert 0 < float(difference) < 1e-4 and float(seconds) > 0
    assert first.stdout.splitlines()[2].split()[:2] == ["converted/tiny.tflite", "verified"]
    assert table["converted/skipped.onnx"].strip() == "skipped"
    assert table["converted/bad.onnx"].startswith("failed")
    assert table["converted/bad.onnx"].endswith("tyni.pb does not exist: did you mean my models; 1/tiny.pb?")


def test_exit_status_is_1_if_one_job_failed(first: subprocess.CompletedProcess):
    assert first.returncode == 1


def test_two_jobs_from_one_source_share_its_import(workspace: Workspace, first: subprocess.CompletedProcess):
    assert len(list((workspace.folder / "intermediate").glob("tiny-protobuf-*"))) == 1
    assert first.stderr.count("read ") == 1


def test_progress_is_plain_lines_elsewhere_than_on_a_terminal(first: subprocess.CompletedProcess):
    lines = first.stderr.splitlines()
    assert all(line.startswith("[") and "\x1b" not in line and "\r" not in line for line in lines)
    assert lines[-1].startswith(f"[{len(lines)}/{len(lines)}] ")
    assert any(line.endswith(f"write {ODD}") for line in lines)


def test_all_that_is_not_skipped_succeeded(workspace: Workspace, first: subprocess.CompletedProcess):
    """Also: what is up to date stands in the table, from its report, and is not made again."""
    before = (workspace.folder / ODD).stat().st_mtime_ns
    jobs = [dict(job) for job in workspace.jobs]
    jobs[2]["skip"] = True
    again = workspace.listed(jobs)
    assert again.returncode == 0, again.stdout + again.stderr
    assert rows(again)[ODD].startswith("verified") and rows(again)[ODD].endswith("up to date")
    assert (workspace.folder / ODD).stat().st_mtime_ns == before
    assert again.stderr == ""


def test_jobs_that_write_the_same_file_are_refused_before_anything_runs(tmp_path: Path, workspace: Workspace):
    jobs = [*workspace.jobs[:5], {"convert_from": "other.h5", "convert_to": "./converted//tiny.tflite"}]
    other = Workspace(tmp_path)
    run = other.listed(jobs)
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr.splitlines() == ["jobs 2 and 6 both write converted/tiny.tflite: give one another convert_to"]
    assert not (tmp_path / ".snakemake").exists() and not (tmp_path / "converted").exists()


def test_a_single_dictionary_with_a_trailing_comma(workspace: Workspace, first: subprocess.CompletedProcess):
    text = json.dumps(workspace.jobs[0], indent=4).replace("\n}", ",\n}")
    assert text.count(",") == 2
    for run in (workspace.listed(text, "--dry-run"), workspace.run("-d", text, "--dry-run")):
        assert run.returncode == 0, run.stderr
        assert list(rows(run)) == [ODD]
        assert rows(run)[ODD].strip() == "up to date"


def test_a_dry_run_says_what_would_be_made(workspace: Workspace, first: subprocess.CompletedProcess):
    jobs = [*workspace.jobs[:4], {"convert_from": "my models; 1/tiny.pb", "convert_to": "new.onnx"}]
    run = workspace.listed(jobs, "--dry-run")
    assert run.returncode == 1  # one source is missing
    statuses = {target: line.split("  ")[0].strip() for target, line in rows(run).items()}
    assert statuses == {
        ODD: "up to date",
        "converted/tiny.tflite": "up to date",
        "converted/bad.onnx": "not made",
        "converted/skipped.onnx": "skipped",
        "new.onnx": "planned",
    }
    assert not (workspace.folder / "new.onnx").exists()


def test_log_levels_and_a_profile(workspace: Workspace, first: subprocess.CompletedProcess):
    warn = workspace.listed(workspace.jobs, "--log", "warn")
    assert warn.stderr == "" and len(rows(warn)) == 5
    error = workspace.listed(workspace.jobs, "--log", "error", "--cores", "1")
    assert error.stderr == "" and list(rows(error)) == ["converted/bad.onnx"]
    (workspace.folder / "my profile").mkdir()
    (workspace.folder / "my profile" / "config.yaml").write_text("cores: 2\nresources: [mem_mb=5432]\n")
    debug = workspace.listed(workspace.jobs, "--log", "debug", "--profile", "my profile")
    assert "step publish" in debug.stderr
    assert "5432" in next(line for line in debug.stderr.splitlines() if line.startswith("Provided resources: "))
    assert {warn.returncode, error.returncode, debug.returncode} == {1}


def test_one_conversion_by_its_own_command_with_a_bar_on_a_terminal(
    workspace: Workspace, first: subprocess.CompletedProcess
):
    source, target = "my models; 1/tiny.pb", "by hand/tiny.onnx"
    run = workspace.run_on_terminal(
        *("-i", source, "-o", target, "--input_nodes", "x:0", "--output_nodes", "y:0", "--opset", "12"),
        module="aup.dlconvert.pb_to_onnx",
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert rows(run)[target].startswith("verified")
    before, *drawn = run.stderr.split("\r\x1b[K")
    assert before == "" and drawn.pop() == ""  # nothing but the bar, which is taken away in the end
    assert all(len(line) < 100 and "\n" not in line for line in drawn)
    bar = r"\[#*\.*\] (\d)/\d  \d:\d\d(?:, about \d:\d\d left)?  (.*)"
    seen = [re.fullmatch(bar, line).groups() for line in drawn]
    steps = dict.fromkeys(step for _, step in seen if step)
    assert list(steps) == ["planning", f"read '{source}'", f"write {target}", f"publish {target}"]
    assert [number for number, _ in seen] == sorted(number for number, _ in seen)
    assert drawn[-1].startswith("[" + "#" * 20 + "] 3/3 ")
    report = json.loads((workspace.folder / "reports" / f"{target}.json").read_text())
    assert report["opset"] == 12 and report["parameters"]["input_nodes"] == ["x"]


def test_a_profile_that_does_not_exist(workspace: Workspace):
    run = workspace.listed(workspace.jobs[0], "--profile", "defualt")
    assert (run.returncode, run.stderr.strip()) == (1, "profile defualt does not exist: did you mean default?")


def test_what_stops_snakemake_itself_is_shown(workspace: Workspace, first: subprocess.CompletedProcess):
    profile = workspace.folder / "broken profile"
    profile.mkdir()
    (profile / "config.yaml").write_text("no-such-option: 1\n")
    run = workspace.listed(workspace.jobs[0], "--profile", "broken profile")
    assert run.returncode == 1
    assert rows(run)[ODD].startswith("not made")
    assert "no-such-option" in run.stderr
