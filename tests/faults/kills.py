"""SIGKILL at seeded moments of every phase, to a step, to Snakemake, and to the preloaded process."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

from faults.harness import PHASES, Runs, wait_until

__all__ = ["MOMENTS", "VICTIMS", "kill_once", "kills"]

# Before the first step and behind the last one there is only Snakemake to kill.
MOMENTS = ("planning", *PHASES, "afterwards")
VICTIMS = ("step", "snakemake", "preloaded process")
_PLANNING_SECONDS, _AFTERWARDS_SECONDS = 1.2, 0.15
# How the kills of one folder are spread: in the order of MOMENTS, so that each finds the work of its phase still to be done.
_WEIGHTS = {"planning": 1, "afterwards": 1, **dict.fromkeys(PHASES, 2)}


def kill_once(runs: Runs, folder: Path, when: str, victim: str, random_: random.Random) -> tuple[str, list[str]]:
    """Start a run and kill: (what was really going on, what is wrong then). "missed" where the run ended before."""
    if when in PHASES:
        process, step, fell = runs.start_until(folder, runs.moment(when, random_))
        if not step:
            process.communicate()
            return "missed", runs.wrong_now(folder)
        for victim_pid in {"step": [step], "snakemake": [process.pid], "preloaded process": runs.preloaded.pids}[
            victim
        ]:
            _send(victim_pid)
        _send(step, signal.SIGCONT)
    else:
        process = runs.start(folder)
        if when == "planning":
            time.sleep(random_.random() * _PLANNING_SECONDS)
            fell = when if not (folder / "logs").exists() else "missed"
        else:
            there = any((folder / target).exists() for target in runs.targets)
            met = wait_until(lambda: there or any((folder / target).exists() for target in runs.targets), process)
            time.sleep(random_.random() * _AFTERWARDS_SECONDS)
            fell = when if met and process.poll() is None else "missed"
        _send(process.pid)
    runs.resume(process)
    if victim == "preloaded process":
        runs.preloaded.stop(kill=True)
        runs.preloaded.start()
    return fell, runs.wrong_now(folder)


def _send(pid: int, signal_: signal.Signals = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
        os.kill(pid, signal_)


def kills(runs: Runs, count: int, each: int, seed: int, chain: int = 1) -> tuple[Counter, list[str]]:
    """At least `count` runs with a kill, at least `each` in every phase, `chain` in a row in one folder; what went wrong.

    What lies below converted/ is looked at after every kill; after the last of a chain, one plain run finishes the work.
    The counter has keys of MOMENTS, VICTIMS, (moment, victim), "missed" and "plain runs".
    """
    random_, fallen, wrong, turn = random.Random(seed), Counter(), [], 0
    while sum(fallen[moment] for moment in MOMENTS) < count or any(fallen[phase] < each for phase in PHASES):
        left = count - sum(fallen[moment] for moment in MOMENTS)
        lacking = [phase for phase in PHASES if fallen[phase] < each] if left <= each else []
        choices = lacking or list(MOMENTS)
        drawn = random_.choices(choices, [_WEIGHTS[moment] for moment in choices], k=chain)
        folder, history = runs.folder(), []
        for when in sorted(drawn, key=MOMENTS.index):
            # A preloaded process takes seconds to come back.
            victim = VICTIMS[2] if turn % 8 == 7 else VICTIMS[turn % 2]
            turn += 1
            if when not in PHASES:
                victim = "snakemake"
            fell, problems = kill_once(runs, folder, when, victim, random_)
            fallen[fell] += 1
            if fell != "missed":
                fallen[victim] += 1
                fallen[fell, victim] += 1
            history.append(f"{victim} during {fell}" if fell != "missed" else f"{when} missed")
            wrong += [f"{history}: {problem}" for problem in problems]
            if fell == "missed" and when != "planning":  # everything is made
                break
        fallen["plain runs"] += 1
        wrong += [f"{history}: {problem}" for problem in runs.wrong_in_the_end(folder)]
        shutil.rmtree(folder)
        print(f"{folder.name}: {', '.join(history)}; {len(wrong)} wrong", flush=True)
        if turn > 4 * count + 40:
            wrong.append(f"after {turn} kills some phases were hit too seldom: {dict(fallen)}")
            break
    return fallen, wrong
