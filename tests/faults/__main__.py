"""python -m faults [--kills 200] [--each 20] [--kind huggingface]: what it did, and what went wrong (exit status 1)."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from faults.harness import KINDS, Preloaded, Runs
from faults.kills import MOMENTS, VICTIMS, kills


def main() -> int:
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--each", type=int, default=20, help="at least so many in every phase")
    parser.add_argument("--chain", type=int, default=1, help="kills in a row before the run that finishes the work")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=KINDS, default="plain", help="what the runs convert")
    args = parser.parse_args()
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
    started, preloaded = time.monotonic(), Preloaded(args.kind)
    with tempfile.TemporaryDirectory(prefix="converter-faults-") as folder:
        try:
            fallen, wrong = kills(
                Runs(Path(folder), preloaded, args.kind), args.kills, args.each, args.seed, args.chain
            )
        finally:
            preloaded.stop()
    total = sum(fallen[moment] for moment in MOMENTS)
    print(f"{total} runs killed in {time.monotonic() - started:.0f} s, {fallen['missed']} ended before their moment")
    print(f"{'':14}" + "".join(f"{victim:>20}" for victim in VICTIMS) + f"{'all':>8}")
    for moment in MOMENTS:
        row = "".join(f"{fallen[moment, victim]:>20}" for victim in VICTIMS)
        print(f"{moment:14}{row}{fallen[moment]:>8}")
    print(f"{'all':14}" + "".join(f"{fallen[victim]:>20}" for victim in VICTIMS) + f"{total:>8}")
    print(f"{fallen['plain runs']} plain runs finished the work afterwards")
    print(*wrong, sep="\n")
    print(f"{len(wrong)} times something was wrong, then or after the next run")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
