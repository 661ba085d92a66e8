"""One run of Snakemake: the checked configuration at its start, one sentence per failed target at its end."""

from __future__ import annotations

import atexit
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from snakemake.pathvars import Pathvars
from snakemake.shell import shell

from converter import formats
from converter.errors import ConverterError
from converter.escape import printable
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

__all__ = ["Session", "open_session"]

# Steps inherit these from Snakemake.
_ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "2",  # TensorFlow's start-up messages would bury what matters in a log
    "PYTHONHASHSEED": "0",  # libraries that iterate over sets write other bytes from run to run
    "CUDA_VISIBLE_DEVICES": "-1",  # verification is defined on the CPU
}


class Session:
    """`rule_inputs`: what the rules ask; `start` and `finish` belong to the Snakefile's handlers."""

    def __init__(self, planner: Planner) -> None:
        self.planner = planner
        self.rule_inputs = RuleInputs(planner)
        self._started = time.time()

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
            atexit.register(clean_logs, self._started - 1)
        if workflow.local_exec and workflow.is_main_process:
            jobs = list(workflow.dag.needrun_jobs())
            for folder in sorted({_existing(output) for job in jobs for output in job.output if not output.is_storage}):
                if not os.access(folder, os.W_OK | os.X_OK):
                    print(f"{folder} cannot be written: give rights to this folder, and run it again", file=sys.stderr)
                    sys.exit(1)
            self._preloaded = fork_client.start(
                (job.rule.name, " ".join(map(str, [*job.input, *job.output]))) for job in jobs
            )

    def finish(self, workflow: Any) -> None:
        """After a failed run: a report for every target that has none, and one sentence each, printed last of all."""
        sentences = failures.take(self._started - 1)
        targets = _targets(workflow.dag)
        sentences += self._unreported(targets, sentences)
        # A legacy environment that could not be built, a source not fetched, and a step that ended have been said of each target.
        sentences = [
            sentence for sentence in sentences if not sentence.startswith(("toolchain ", "step ", f"{FETCH} "))
        ]
        events.send({"event": "unfinished", "targets": {target: _reason(target, sentences) for target in targets}})
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
    quieten()
    root = Path(workflow.basedir)
    # The main process is the user's own Snakemake, not one that an executor started for a single job.
    mark_run(workflow.is_main_process, workflow.snakemake_tmp_dir)
    events.attach()
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # Rules call `step`, which calls `python`: the interpreter that runs Snakemake, also when its environment was not activated.
    folders = [str(root / "workflow" / "bin"), str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    os.environ["PATH"] = os.pathsep.join(folders)
    workflow.modifier.pathvars = _NoPathvars.from_other(workflow.pathvars)
    # So that a step can tell whether its rule's shell is still there. Snakemake's own prefix is the first part.
    shell.prefix("set -euo pipefail; export CONVERTER_SHELL=$$; ")
    try:
        check(PATHVARS)
        formats.added()
        config = read_config(values, root / "configs" / "zoo.yaml")
    except ConverterError as error:
        print(printable(str(error)), file=sys.stderr)
        sys.exit(1)
    return Session(Planner(config))
