"""Convert the models and judge their mutants, each in a child of this process: a damaged file may end the runtime."""

from __future__ import annotations

import importlib
import json
import os
import resource
import shutil
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

from forked import fork

from mutation.convert import TARGETS, Case, convert
from mutation.judge import Judgement, crippled, faults_of, judge
from mutation.recipes import Recipe

__all__ = ["cases_of", "preload", "judgements"]

_ROOT = Path(__file__).resolve().parents[2]
_MODULES = (
    "tensorflow",
    "keras",
    "tf_keras",
    "torch",
    "torch.export",
    "torch.onnx",
    "tf2onnx.tfonnx",
    "onnx",
    "onnxruntime",
)
# For one mutant, which may be a loop that lost its end: CPU seconds, which do not depend on what else runs, and memory.
_SECONDS, _MEMORY = 5, 6 * 10**9


def preload() -> None:
    """Import what children need; nothing may start threads here."""
    os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    os.environ |= {"OMP_NUM_THREADS": "1"}
    sys.path[:0] = [str(_ROOT / "workflow"), str(_ROOT / "scripts")]
    for module in (*_MODULES, "ai_edge_litert.interpreter"):
        importlib.import_module(module)


def cases_of(recipe: Recipe, folder: Path) -> tuple[list[Case], dict[str, str]]:
    """The exported files of one model, converted unless they lie in the folder, and why a target has none.

    Raises RuntimeError where the model cannot be made.
    """
    place = folder / recipe.name
    if not (place / "outcome.json").is_file():
        shutil.rmtree(place, ignore_errors=True)
        log = folder / f"{recipe.name}.log"
        pid = fork(lambda: convert(recipe, place), log, 1)
        if os.waitpid(pid, 0)[1]:
            raise RuntimeError(f"{recipe.name} was not converted: see {log}")
    outcome = json.loads((place / "outcome.json").read_text())
    missing = {f"{recipe.name}.{target}": why for target, why in outcome.items() if why is not None}
    cases = [
        Case(recipe.name, recipe.format, target, place / "hub", place / f"file.{target}", recipe.ranges)
        for target in TARGETS
        if outcome[target] is None
    ]
    return cases, missing


def judgements(case: Case, count: int, seed: int, blind: bool) -> list[Judgement]:
    """Of `count` mutants of the file. blind: with a reference that proves nothing.

    Raises RuntimeError where the file itself does not run, or a mutant ends the work by an exception.
    """
    written, log = case.file.with_name(f"judged.{case.target}"), case.hub.parent.with_suffix(".log")
    written.unlink(missing_ok=True)
    while True:
        done = max(len(_read(written)) - 1, 0)
        pid = fork(lambda done=done: _judge_all(case, count, seed, blind, done, written), log, 1)
        status = _wait(pid, written)
        faults, *results = _read(written) or [None]
        if faults is not None and len(results) == len(faults):
            return [Judgement(**entry) for entry in results]
        if faults is None or not os.WIFSIGNALED(status):
            raise RuntimeError(f"the mutants of {case.file} were not all judged: see {log}")
        lost = Judgement(*faults[len(results)], "refused", "the runtime crashed, or found no end")
        with open(written, "a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(lost)) + "\n")


def _read(written: Path) -> list:
    """The list of faults, and the judgements so far."""
    return [json.loads(line) for line in written.read_text().splitlines()] if written.is_file() else []


def _judge_all(case: Case, count: int, seed: int, blind: bool, done: int, written: Path) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    faults = faults_of(case, count, seed)
    with open(written, "a", encoding="utf-8") as file:
        if not file.tell():
            file.write(json.dumps([(fault.kind, fault.words) for fault in faults]) + "\n")
            file.flush()
        for result in judge(case, faults, seed + 1000, done, crippled(case) if blind else None):
            file.write(json.dumps(asdict(result)) + "\n")
            file.flush()


def _wait(pid: int, written: Path) -> int:
    """The status of the child; killed where it works for too long and writes nothing."""
    size, since = -1, 0.0
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        now = written.stat().st_size if written.is_file() else 0
        if now != size:
            size, since = now, _cpu_seconds(pid)
        elif _cpu_seconds(pid) - since > _SECONDS:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # proc(5): utime, stime
