"""One run of Snakemake: the checked configuration at its start, one sentence per failed target at its end."""

from __future__ import annotations

import atexit
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import yaml
from snakemake.io import local
from snakemake.logging import logger
from snakemake.pathvars import Pathvars

from converter import formats
from converter.errors import ConverterError, ParameterError
from converter.escape import printable
from converter.installation import ROOT
from converter.library_patches.replacing import check
from converter.library_patches.snakemake import PATHVARS
from converter.planning.config import read_config
from converter.planning.planner import Plan, Planner, toolchains
from converter.planning.rules.rule_inputs import RuleInputs
from converter.planning.storage_limits import FETCH
from converter.publishing import report
from converter.run_state import failures
from converter.run_state.lifetime import mark_run
from converter.running import events, fork_client
from converter.running.log_filter import quieten
from converter.running.logs import clean_logs
from converter.running.progress import Progress
from converter.running.step_command import step_command

__all__ = ["Session", "open_session"]

# What a module's prefix must be put before, all alike.
_FOLDERS = ("converted", "intermediate", "reports", "logs", "benchmarks", "zoo", "sources")


class Session:
    """`rule_inputs`: what the rules ask; `start` and `finish` belong to the Snakefile's handlers.

    root: the folder of the Snakefile. folder: the prefix before all of the workflow's own files, "" but for a module.
    program: the words before the name of a step in a rule's shell. It is among the resources: a shell knows no names of a
    module (Snakemake 9.27), and another place of the program makes no file again, as another parameter would.
    """

    def __init__(self, planner: Planner, root: Path = ROOT, folder: str = "", program: str = "") -> None:
        self.planner = planner
        self.root, self.folder, self.program = root, folder, program
        self.rule_inputs = RuleInputs(planner)
        if folder:
            # Sources are the user's, and lie where the configuration says.
            self.rule_inputs.prefix, self.rule_inputs.outside = folder, local
        self._started = time.time()
        self.progress: Progress | None = None
        self._interrupted = False

    def limit_memory(self, workflow: Any) -> None:
        """Jobs on this machine together never ask for more than it has, unless the user set --resources mem_mb."""
        # Asked when jobs are planned: while the Snakefile is read, no executor is known yet (Snakemake 9.27).
        self.rule_inputs.on_nodes = lambda: not workflow.local_exec
        self.rule_inputs.requested = lambda: workflow.dag_settings.targets
        if workflow.local_exec and workflow.is_main_process and "mem_mb" not in dict(workflow.global_resources):
            workflow.register_resource("mem_mb", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1_000_000)

    def start(self, workflow: Any) -> None:
        """Before the first job: preloaded processes, where jobs run on this machine.

        Ends the run with one sentence where a folder cannot be written: Snakemake would end it with a traceback (9.27).
        """
        self._started = time.time()
        if workflow.is_main_process:
            self._hear_interrupts()
            atexit.register(clean_logs, self._started - 1, self.folder)
        if workflow.local_exec and workflow.is_main_process:
            jobs = [job for job in workflow.dag.needrun_jobs() if self._is_own(job)]
            for folder in sorted({_existing(output) for job in jobs for output in job.output if not output.is_storage}):
                if not os.access(folder, os.W_OK | os.X_OK):
                    print(f"{folder} cannot be written: give rights to this folder, and run it again", file=sys.stderr)
                    sys.exit(1)
            self._preloaded = fork_client.start(str(getattr(job.params, "step", "")) for job in jobs)

    def _hear_interrupts(self) -> None:
        """Remember that the user pressed Ctrl-C, which Snakemake (9.27) does not tell its handlers."""
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            return

        def hear(number: int, frame: FrameType | None) -> None:
            self._interrupted = True
            signal.default_int_handler(number, frame)

        signal.signal(signal.SIGINT, hear)

    def follow(self, workflow: Any) -> None:
        """As a module of another workflow, whose handlers are its own (Snakemake 9.27): begin with its jobs, end with it."""
        if not workflow.is_main_process:
            return
        logger.addHandler(_AtStart(lambda: None if workflow.dryrun else self.start(workflow)))
        atexit.register(self._say_failures)

    def _say_failures(self) -> None:
        sentences = failures.take(self._started - 1, self.folder)
        print(*sentences, sep="\n", end="\n" if sentences else "", file=sys.stderr, flush=True)

    def _is_own(self, job: Any) -> bool:
        """Whether a rule of this workflow's, and not of one that has it as a module, makes the files of the job."""
        return Path(str(job.rule.snakefile)).is_relative_to(self.root)

    def finish(self, workflow: Any) -> None:
        """After a failed run: a report for every target that has none, and one sentence each, printed last of all."""
        if self.progress is not None:
            self.progress.close()
        sentences = failures.take(self._started - 1, self.folder)
        targets = _targets(workflow.dag)
        if self._interrupted:
            left = [target for target in targets if not _reason(target, sentences)]
            sentences.append(f"interrupted: {printable(', '.join(left)) or 'the run'} not made; run it again to go on")
            atexit.register(lambda: print(*sentences, sep="\n", file=sys.stderr, flush=True))
            return
        sentences += self._unreported(targets, sentences)
        # A legacy environment that could not be built, a source not fetched, and a step that ended have been said of each target.
        sentences = [
            sentence for sentence in sentences if not sentence.startswith(("toolchain ", "step ", f"{FETCH} "))
        ]
        reasons = {target: _reason(target, sentences) for target in targets}
        events.send({"event": "unfinished", "targets": reasons, "sentences": sentences})
        atexit.register(lambda: print(*sentences, sep="\n", file=sys.stderr, flush=True))

    def _unreported(self, targets: list[str], known: list[str]) -> list[str]:
        """Sentences of targets whose steps were killed or ran out of memory or disk, so that no step wrote a report."""
        sentences = []
        for target in targets:
            if _reason(target, known):
                continue
            plan = self.planner.plan(self.planner.report_name(target))
            subjects = [*(f"toolchain {name}" for name in toolchains(plan)), f"step {target}"]
            if plan.source:
                subjects += [f"toolchain {name}" for name in _requirements(plan)]
                subjects += [f"step intermediate/{plan.source.key}", f"{FETCH} {plan.source.source}"]
            logs = [Path("logs", "import", f"{plan.source.key}.log")] if plan.source else []
            reason = next(filter(None, (_reason(subject, known) for subject in subjects)), None) or (
                self._end_of_step([Path("logs", f"{plan.name}.log"), *logs])
            )
            path = Path("reports", f"{plan.name}.json")
            if not path.exists():
                report.write(path, report.unfinished(target, plan, reason))
            sentences.append(f"{printable(target)}: {reason}")
        return sentences

    def _end_of_step(self, logs: list[Path]) -> str:
        """Why a step ended that could not say so itself, as far as what libraries wrote into its log tells."""
        for log in logs:
            if not log.is_file() or log.stat().st_mtime < self._started - 1:
                continue
            text = log.read_text(encoding="utf-8", errors="replace")
            if any(words in text for words in failures.NO_MEMORY):
                return (
                    f"a step ended, probably for lack of memory ({log}): "
                    "CONVERTER_STEP_MEMORY_MB in the environment gives it more"
                )
            if crash := re.search(r"^the step crashed \((\w+)\)$", text, re.MULTILINE):
                return (
                    f"a library crashed in a step ({crash[1]}, {log}): the source may be damaged, or memory was short; "
                    "copy or save it anew, or run fewer jobs at once"
                )
        return (
            "a step was ended before it finished (killed, crashed, or out of memory or disk): run it again; "
            "logs/ has more"
        )


class _AtStart(logging.Handler):
    """Calls `begin` once, before the first job of a run."""

    def __init__(self, begin: Callable[[], None]) -> None:
        super().__init__(logging.INFO)
        self._begin = begin

    def emit(self, record: logging.LogRecord) -> None:
        if str(getattr(record, "event", "")) == "run_info":
            logger.removeHandler(self)
            self._begin()


class _NoPathvars(Pathvars):
    """Snakemake (9.27) takes "<name>" in any file's name for a variable of its own. No rule here uses one."""

    def apply(self, path: str) -> str:
        return path


def _requirements(plan: Plan) -> set[str]:
    """What rules/toolchains.smk installs for a target into this environment."""
    if plan.source is None:
        return set()
    framework = formats.framework(formats.source(plan.source.format).framework)
    needed = framework.requirements, formats.target(plan.extension).requirements
    return {name for name in needed if name}


def _existing(output: str) -> str:
    """The folder in which the first thing is made for `output`."""
    folder = os.path.dirname(output) or "."
    while not os.path.exists(folder):
        folder = os.path.dirname(folder) or "."
    return folder


def _targets(dag: Any) -> list[str]:
    """Targets that were to be made and are not."""
    jobs = {job for job in dag.needrun_jobs() if job.rule.name.startswith("publish")}
    outputs = [job.output[0] for job in jobs]
    return sorted(output.storage_object.query if output.is_storage else str(output) for output in outputs)


def _reason(target: str, sentences: list[str]) -> str:
    """Why `target` is not made, from the sentences "target: reason"."""
    prefix = f"{printable(target)}: "
    return next((sentence[len(prefix) :] for sentence in sentences if sentence.startswith(prefix)), "")


def open_session(values: dict, workflow: Any) -> Session:
    """Check the configuration `values`, and that this Snakemake is known here.

    What is wrong ends the run at once, with one sentence and exit status 1.
    """
    alone = workflow.modifier.is_main_snakefile()
    if events.is_watched():
        events.attach()
        progress = None
    else:
        progress = _shown_progress(workflow) if alone else None
    if alone:
        quieten(progress, lambda: not workflow.dryrun)
    # The main process is the user's own Snakemake, not one that an executor started for a single job. Beside another
    # workflow's rules, notes of locks are not ours to remove.
    mark_run(workflow.is_main_process and alone, workflow.snakemake_tmp_dir)
    root = Path(str(workflow.current_basedir))
    workflow.modifier.pathvars = _NoPathvars.from_other(workflow.pathvars)
    try:
        check(PATHVARS)
        formats.added()
        folder = _prefix(workflow.modifier)
        if not alone:  # Snakemake gives a module its own configuration alone, without that of this Snakefile
            values = _merged(yaml.safe_load((root / "configs" / "config.yaml").read_text(encoding="utf-8")), values)
        config = read_config(values, root / "configs" / "zoo.yaml")
    except ConverterError as error:
        print(printable(str(error)), file=sys.stderr)
        sys.exit(1)
    planner = Planner(config)
    planner.awaits_sources = not alone
    session = Session(planner, root, folder, step_command(workflow, folder))
    session.progress = progress
    if not alone:
        session.follow(workflow)
    return session


def _shown_progress(workflow: Any) -> Progress | None:
    """A line for each step, in place of what Snakemake says; none where the user wants to see that, or nothing."""
    quiet = {entry.name for entry in workflow.output_settings.quiet or ()}
    if not workflow.is_main_process or "RULES" not in quiet or "ALL" in quiet:
        return None
    progress = Progress(sys.stderr, ticks=True)
    # Whether it is a dry run is known when jobs are: then Snakemake says what it would do.
    events.attach(lambda event: None if workflow.dryrun else progress.see(event))
    atexit.register(progress.close)
    return progress


def _prefix(modifier: Any) -> str:
    """What a module's prefix: puts before the names of files. Raises ParameterError where that is not the same for all."""
    prefixes = {str(modifier.modify_path(f"{name}/x"))[: -len(f"{name}/x")] for name in _FOLDERS}
    whole = all(str(modifier.modify_path(f"{name}/x")).endswith(f"{name}/x") for name in _FOLDERS)
    if len(prefixes) > 1 or not whole:
        raise ParameterError("module: replace_prefix moves a part of its files only: write prefix instead")
    return prefixes.pop()


def _merged(under: dict, over: dict) -> dict:
    """Mappings by key, as Snakemake merges configurations."""
    merged = {**under, **over}
    for key in under.keys() & over.keys():
        if isinstance(under[key], dict) and isinstance(over[key], dict):
            merged[key] = _merged(under[key], over[key])
    return merged
