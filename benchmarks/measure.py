"""What a command costs with all processes that it starts: measure.py --cap MB -- COMMAND...  prints one line of JSON.

CPU seconds are the kernel's own sum over every process: this program is the subreaper (prctl(2)) of all that the command
starts, daemons included, waits for each and asks getrusage(RUSAGE_CHILDREN). Peak memory is the largest sum of the
processes' PSS (proc(5): resident memory, pages shared by n processes counted as 1/n in each) seen at up to 20 looks a second.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["Cost", "measure"]

_PR_SET_CHILD_SUBREAPER = 36
_SECONDS_BETWEEN_LOOKS = 0.05


@dataclass(frozen=True)
class Cost:
    """cpu_seconds: user and system; wall_seconds: until the command ended; peak_mb: MB of 2**20 bytes.

    killed: why the command was not let run to its end, else None. load: processes that wanted a CPU when it began.
    """

    cpu_seconds: float
    wall_seconds: float
    peak_mb: int
    status: int
    killed: str | None
    load: float


def measure(
    command: Sequence[str], folder: Path, *, cap_mb: int, limit_seconds: float = 3600, environment: dict | None = None
) -> Cost:
    """Run `command` in `folder`, its output in folder/output.txt; kill it above `cap_mb` or after `limit_seconds`."""
    program = [sys.executable, __file__, "--cap", str(cap_mb), "--limit", str(limit_seconds), "--", *command]
    with open(folder / "output.txt", "wb") as output:
        run = subprocess.run(
            program, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=output
        )
    return Cost(**json.loads(run.stdout))


def _observe(command: list[str], cap_mb: int, limit_seconds: float) -> Cost:
    load = os.getloadavg()[0]
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    began, peak, killed, status, ended = time.monotonic(), 0, None, None, None
    first = subprocess.Popen(command, stdout=sys.stderr)
    while True:
        looked = time.process_time()
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG)) != (0, 0):
                if found[0] == first.pid:
                    status, ended = os.waitstatus_to_exitcode(found[1]), time.monotonic()
        processes = _descendants(os.getpid())
        if not processes:
            break
        memory = sum(map(_pss_mb, processes))
        peak = max(peak, memory)
        if killed is None and memory > cap_mb:
            killed = f"above {cap_mb / 1024:.0f} GB"
        if killed is None and time.monotonic() - began > limit_seconds:
            killed = f"after {limit_seconds:.0f} s"
        if killed:
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        # A look at gigabytes takes the kernel milliseconds: at most a tenth of a CPU is spent looking.
        time.sleep(max(_SECONDS_BETWEEN_LOOKS, 10 * (time.process_time() - looked)))
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall = (ended or time.monotonic()) - began
    return Cost(round(usage.ru_utime + usage.ru_stime, 3), round(wall, 3), round(peak), status or 0, killed, load)


def _descendants(process: int) -> list[int]:
    found, pending = [], [process]
    while pending:
        parent = pending.pop()
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{parent}/task"):
                children = Path(f"/proc/{parent}/task/{task}/children").read_text(encoding="ascii")
                pending += map(int, children.split())
                found += map(int, children.split())
    return found


def _pss_mb(process: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cap", type=int, required=True, help="MB above which the command is killed")
    parser.add_argument("--limit", type=float, default=3600, help="seconds after which the command is killed")
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()
    print(json.dumps(asdict(_observe(args.command, args.cap, args.limit))))


if __name__ == "__main__":
    main()
