"""SIGKILL at seeded moments of every phase, to a step, to Snakemake, and to the preloaded process."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

from faults.harness import TARGETS, Runs, command_of, descendants, end, wait_until

__all__ = ["PHASES", "VICTIMS", "kill_once", "kills"]

PHASES = ("import", "export", "verification", "report", "publishing", "afterwards")
VICTIMS = ("step", "snakemake", "preloaded process")
# How long a phase lasts at most, about, in seconds: the moment of the kill is drawn from that.
_LENGTH = {"import": 0.5, "export": 0.6, "verification": 0.25, "report": 0.02, "publishing": 0.2, "afterwards": 0.1}


def phase_of(folder: Path) -> str:
    """Where a run is, by what lies in its folder: the first of its two targets counts."""
    if not any((folder / "intermediate").glob("tiny-*/hub.json")):
        return "import"
    name = TARGETS[0].removeprefix("converted/")
    if (folder / "converted" / name).exists():
        return "afterwards"
    if (folder / "reports" / f"{name}.json").exists():
        return "publishing"
    if any((folder / "reports").glob(f".{name}*")):
        return "report"
    return "verification" if (folder / "intermediate" / "staged" / name).exists() else "export"


def kill_once(runs: Runs, folder: Path, phase: str, victim: str, random_: random.Random) -> tuple[str, list[str]]:
    """Start a run and kill: (the phase in which that fell, what is wrong then). "missed" where the run ended before."""
    process = runs.start(folder)
    begins = {
        "import": lambda: any((folder / "intermediate").glob("tiny-*")),
        "report": lambda: phase_of(folder) in ("verification", "report", "publishing", "afterwards"),
    }.get(phase, lambda: phase_of(folder) == phase)
    if not wait_until(begins, process):
        end(process)
        return "missed", runs.wrong_now(folder)
    if phase == "report":  # too short to be waited for: from the first moment of the verification on
        wait_until(lambda: phase_of(folder) != "verification", process, 5.0)
    time.sleep(random_.random() * _LENGTH[phase])
    fell = phase_of(folder)
    _kill(runs, process, victim)
    end(process)
    if victim == "preloaded process":
        runs.preloaded.stop(kill=True)
        runs.preloaded.start()
    return fell, runs.wrong_now(folder)


def _kill(runs: Runs, process: subprocess.Popen, victim: str) -> None:
    if victim == "step":
        steps = runs.preloaded.steps()
        steps += [pid for pid in descendants(process.pid) if "scripts/" in command_of(pid)]
        for pid in steps:
            _send(pid)
    elif victim == "snakemake":
        _send(process.pid)
    else:
        _send(runs.preloaded.pid)


def _send(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
        os.kill(pid, signal.SIGKILL)


def kills(runs: Runs, count: int, each: int, seed: int, chain: int = 1) -> tuple[Counter, list[str]]:
    """At least `count` kills, at least `each` in every phase, `chain` in a row in one folder; what went wrong.

    What lies below converted/ is looked at after every kill; after the last of a chain, one plain run finishes the work.
    """
    random_, fallen, wrong, turn = random.Random(seed), Counter(), [], 0
    while sum(fallen[phase] for phase in PHASES) < count or any(fallen[phase] < each for phase in PHASES):
        lacking = [phase for phase in PHASES if fallen[phase] < each] or list(PHASES)
        folder, history = runs.folder(), []
        for phase in sorted(random_.choices(lacking, k=chain), key=PHASES.index):
            # A preloaded process takes seconds to come back.
            victim = VICTIMS[2] if turn % 6 == 5 else VICTIMS[turn % 2]
            turn += 1
            fell, problems = kill_once(runs, folder, phase, victim, random_)
            fallen[fell] += 1
            fallen[victim] += fell != "missed"
            history.append(f"{victim} during {fell}")
            wrong += [f"{history}: {problem}" for problem in problems]
        fallen["plain runs"] += 1
        wrong += [f"{history}: {problem}" for problem in runs.wrong_in_the_end(folder)]
        shutil.rmtree(folder)
        print(f"{folder.name}: {', '.join(history)}; {len(wrong)} wrong", flush=True)
        if turn > 4 * count + 40:
            wrong.append(f"after {turn} kills some phases were hit too seldom: {dict(fallen)}")
            break
    return fallen, wrong
