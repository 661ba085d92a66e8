"""Run a list of jobs through Snakemake and say what became of each."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from converter.errors import ParameterError, nearest
from converter.installation import ROOT, SNAKEFILE
from converter.planning.config import Config, normal_path, read_config
from converter.planning.planner import Planner
from converter.publishing import report
from converter.running import events

__all__ = ["JobList", "Outcome", "Row", "configure", "make", "run"]

_FOLDER = Path(".snakemake")

# Called with each event of the run (see running/events.py), and with None about once a second between them.
Listener = Callable[[dict | None], None]


@dataclass
class JobList:
    """Checked jobs: `values` is what Snakemake gets, `targets` the jobs' files in the order of the list."""

    values: dict
    config: Config
    targets: list[tuple[str, bool]]  # (target, skipped)


@dataclass
class Row:
    """One job's outcome. `status`: a report's, or skipped, planned, up to date, not made. `reason`: why it is not made."""

    target: str
    status: str
    reason: str | None = None
    report: dict | None = None
    was_there: bool = False  # made by an earlier run, and still right

    @property
    def succeeded(self) -> bool:
        """Whether it was made, or left out as asked."""
        return self.reason is None


@dataclass
class Outcome:
    """`problem`: what Snakemake said when it stopped for a reason that is no job's, such as a locked directory."""

    rows: list[Row]
    problem: str | None = None
    interrupted: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether the run came to its end, and every job was made or left out as asked."""
        return self.problem is None and not self.interrupted and all(row.succeeded for row in self.rows)


def configure(jobs: list) -> JobList:
    """Check `jobs` against the parameters and the configuration beside the Snakefile. Raises ParameterError."""
    values = yaml.safe_load((ROOT / "configs" / "config.yaml").read_text(encoding="utf-8"))
    config = read_config({**values, "jobs": jobs}, ROOT / "configs" / "zoo.yaml")
    wanted = {job["position"] for job in config.jobs.values() if not job.get("skip")}
    targets = [(normal_path(job["convert_to"]), position not in wanted) for position, job in enumerate(jobs, 1)]
    return JobList({"jobs": jobs}, config, targets)


def run(
    jobs: JobList,
    *,
    cores: int | None = None,
    dry_run: bool = False,
    profile: str | None = None,
    verbose: bool = False,
    listener: Listener = lambda event: None,
) -> Outcome:
    """Make the files of all jobs that are not skipped, in the working directory. Raises ParameterError for `profile`.

    `verbose`: Snakemake's own messages go to stderr; else they are kept for `Outcome.problem`.
    """
    command = [*_snakemake(profile), "--keep-going"]
    command += ["--cores", str(cores)] if cores is not None else []
    command += ["--dry-run"] if dry_run else []
    # Told to be quiet about progress, as the default profile does, Snakemake sends no events of finished steps either.
    command += ["--quiet", "host", *([] if verbose else ["rules", "reason"])]
    command += ["--printshellcmds"] if verbose else []
    progress = _Progress()

    def listen(event: dict | None) -> None:
        progress.see(event)
        listener(event)

    with _configuration(jobs.values) as path:
        status, said, interrupted = _call([*command, "--configfile", path], listen, verbose)
    rows = _planned(jobs, progress) if dry_run else _made(jobs, progress, status)
    explained = status == 0 or progress.unfinished is not None
    return Outcome(rows, None if explained or interrupted else _last_words(said, status), interrupted)


def make(targets: Sequence[str], values: dict, *, listener: Listener = lambda event: None) -> Outcome:
    """Make files of the workflow by name, such as reports/m.inspect.json, with this configuration. Its outcome has no rows."""
    progress = _Progress()

    def listen(event: dict | None) -> None:
        progress.see(event)
        listener(event)

    with _configuration(values) as path:
        command = [*_snakemake(), "--quiet", "host", "rules", "reason", "--configfile", path, "--", *targets]
        status, said, interrupted = _call(command, listen, False)
    problem = None if status == 0 or interrupted else "\n".join(progress.sentences) or _last_words(said, status)
    return Outcome([], problem, interrupted)


def _snakemake(profile: str | None = None) -> list[str]:
    """Snakemake on this program's Snakefile. Raises ParameterError for a profile that is not there."""
    command = [sys.executable, "-P", "-m", "snakemake", "--snakefile", str(SNAKEFILE)]
    return [*command, "--workflow-profile", _profile(profile)]


def _profile(name: str | None) -> str:
    """A folder of profiles/, else a path. As a path even the default one: a folder of that name here would win."""
    folder = ROOT / "profiles" / (name or "default")
    if folder.is_dir():
        return str(folder)
    if Path(name).is_dir():
        return str(Path(name).resolve())
    known = sorted(entry.name for entry in (ROOT / "profiles").iterdir() if entry.is_dir())
    close = nearest(name, known, 1)
    raise ParameterError(
        f"profile {name} does not exist: " + (f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}")
    )


@contextlib.contextmanager
def _configuration(values: dict) -> Iterator[str]:
    """The path of a file with the values, below .snakemake/, where the machines of a cluster see it too."""
    _FOLDER.mkdir(exist_ok=True)
    descriptor, path = tempfile.mkstemp(".json", "jobs-", _FOLDER)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(values, file)
        yield path
    finally:
        os.unlink(path)


def _call(command: list[str], listen: Listener, verbose: bool) -> tuple[int, str, bool]:
    """Run Snakemake: exit status, what it said (unless `verbose`), and whether the user stopped it."""
    reader, writer = os.pipe()
    interrupted = False
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as console:
        process = subprocess.Popen(
            command,
            pass_fds=[writer],
            env={**os.environ, events.VARIABLE: str(writer)},
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr if verbose else console,
            stderr=None if verbose else console,
        )
        os.close(writer)
        while True:
            try:
                for event in _read(reader, process):
                    listen(event)
                break
            except KeyboardInterrupt:  # Snakemake got it too, and ends its steps
                if interrupted:
                    process.terminate()
                interrupted = True
        os.close(reader)
        console.seek(0)
        return process.wait(), console.read(), interrupted


def _read(reader: int, process: subprocess.Popen) -> Iterator[dict | None]:
    """Events until the pipe is closed, None about every second."""
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        while True:
            if not selector.select(1.0):
                yield None
                continue
            data = os.read(reader, 1 << 16)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            yield from map(json.loads, lines)


class _Progress:
    """Which files were begun and finished, and why others were left undone."""

    def __init__(self) -> None:
        self.begun: set[str] = set()
        self.finished: set[str] = set()
        self.unfinished: dict[str, str] | None = None
        self.sentences: list[str] = []
        self._outputs: dict[int, list[str]] = {}

    def see(self, event: dict | None) -> None:
        if event is None:
            return
        if event["event"] == "start":
            self._outputs[event["id"]] = event["output"]
            self.begun.update(event["output"])
        elif event["event"] == "finish":
            self.finished.update(self._outputs.get(event["id"], ()))
        elif event["event"] == "unfinished":
            self.unfinished, self.sentences = event["targets"], event["sentences"]


def _planned(jobs: JobList, progress: _Progress) -> list[Row]:
    planner = Planner(jobs.config)
    rows = []
    for target, skipped in jobs.targets:
        if skipped:
            rows.append(Row(target, "skipped"))
            continue
        error = planner.plan(planner.report_name(target)).error
        rows.append(
            Row(target, "not made" if error else "planned" if target in progress.begun else "up to date", error)
        )
    return rows


def _made(jobs: JobList, progress: _Progress, status: int) -> list[Row]:
    return [
        Row(target, "skipped") if skipped else _outcome(target, progress, status) for target, skipped in jobs.targets
    ]


def _outcome(target: str, progress: _Progress, status: int) -> Row:
    path = Path("reports", f"{Planner.report_name(target)}.json")
    if status == 0 or target in progress.finished:
        result = report.read(path)
        return Row(target, result["status"], None, result, target not in progress.finished)
    if progress.unfinished is None:
        return Row(target, "not made", "the run was stopped before this file's turn")
    result = report.read(path) if path.is_file() else None
    if target not in progress.unfinished and result is not None:
        return Row(target, result["status"], None, result, True)
    outcome = "inaccurate" if result and result["status"] == "inaccurate" else "failed"
    return Row(target, outcome, progress.unfinished.get(target, "no step made it"), result)


def _last_words(said: str, status: int) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return "\n".join(lines[-12:]) or f"Snakemake ended with status {status}"
