"""python -m soak [--models 500] FOLDER: two conversions of each model in one run; what grows meanwhile, what is left.

Prints one line of JSON: conversions, seconds, and of every long-lived process its memory and open files after a tenth of
the run and at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from commands import SNAKEMAKE
from text_graphs import linear


def processes(root: int) -> dict[str, list[int]]:
    """Snakemake and the preloaded processes below it."""
    found = {"snakemake": [root], "preloaded": []}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == root and b"converter.running.fork_server" in command:
            found["preloaded"].append(int(folder.name))
    return found


def measure(pid: int) -> dict[str, int]:
    """Memory of its own in MB (what forked children share counts for it), open files, threads."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        "mb": int(status["VmRSS"].split()[0]) // 1024,
        "files": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": int(status["Threads"]),
    }


def left_running(temporary: Path) -> list[str]:
    """Processes that got the run's temporary directory from it."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended, or is another user's
            if f"TMPDIR={temporary}\0".encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", type=int, default=500)
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    args = parser.parse_args()
    temporary = args.folder.resolve() / "tmp"  # so that nothing of other programs is seen
    (args.folder / "models").mkdir(parents=True)
    temporary.mkdir()
    random = np.random.default_rng(1)
    names = [f"m{index}" for index in range(args.models)]
    for name in names:
        (args.folder / "models" / f"{name}.pbtxt").write_text(linear(random.standard_normal(4).round(3).tolist()))
    targets = [f"converted/{name}.{suffix}" for name in names for suffix in ("onnx", "tflite")]
    command = [*SNAKEMAKE, *targets, "--cores", str(args.cores)]
    started = time.monotonic()
    with open(args.folder / "out", "w") as log:
        run = subprocess.Popen(
            command, cwd=args.folder, stdout=log, stderr=log, env={**os.environ, "TMPDIR": str(temporary)}
        )
        samples: list[tuple[int, dict]] = []
        while run.poll() is None:
            done = len(list((args.folder / "converted").glob("*")))
            try:
                sample = {kind: [measure(pid) for pid in pids] for kind, pids in processes(run.pid).items()}
                samples.append((done, sample))
            except (OSError, KeyError):  # one has just ended
                pass
            time.sleep(2)
    seconds = time.monotonic() - started
    time.sleep(2)  # the preloaded process ends when the pipe closes
    made = sorted(path.name for path in (args.folder / "converted").glob("*"))
    early = next((sample for done, sample in samples if done >= len(targets) // 10), samples[0][1])
    late = next((sample for done, sample in reversed(samples) if sample["preloaded"]), samples[-1][1])
    result = {
        "exit": run.returncode, "conversions": len(made), "seconds": round(seconds), "early": early, "late": late,
        "temporary": sorted(os.listdir(temporary)), "processes": left_running(temporary),
        "staged": sorted(path.name for path in (args.folder / "intermediate" / "staged").rglob("*") if path.is_file()),
    }  # fmt: skip
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
