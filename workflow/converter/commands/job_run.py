"""What commands that convert share: their options, the run with its progress, the table, and the exit status."""

from __future__ import annotations

import argparse
import sys

from converter.commands.table import table
from converter.errors import ConverterError
from converter.jobs import configure, run
from converter.running.progress import Progress

__all__ = ["add_options", "convert"]

_LEVELS = ("debug", "info", "warn", "error")


def add_options(parser: argparse.ArgumentParser) -> None:
    """--log, --cores, --dry-run and --profile."""
    group = parser.add_argument_group("how to run")
    group.add_argument(
        "--log",
        choices=_LEVELS,
        default="info",
        help="info: progress and table; warn: the table; error: its failed jobs; debug: all of Snakemake's messages too",
    )
    group.add_argument("--cores", type=_cores, metavar="N", help="steps that run side by side (default: all cores)")
    group.add_argument("--dry-run", "-n", action="store_true", help="say what would be made, and make nothing")
    group.add_argument("--profile", metavar="NAME", help="folder of profiles/, such as slurm, or a path to one")


def _cores(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of cores; write 1 or more")
    return int(text)


def convert(jobs: list, args: argparse.Namespace) -> int:
    """Run `jobs` and print their table. Returns the exit status: 0 only if all that was not skipped succeeded."""
    progress = Progress(sys.stderr, quiet=args.dry_run or args.log in ("warn", "error"), plain=args.log == "debug")
    try:
        checked = configure(jobs)
        outcome = run(
            checked,
            cores=args.cores,
            dry_run=args.dry_run,
            profile=args.profile,
            verbose=args.log == "debug",
            listener=progress.see,
        )
    except (ConverterError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        progress.close()
    rows = [row for row in outcome.rows if not row.succeeded or args.log != "error"]
    if rows:
        print(table(rows), flush=True)
    if outcome.problem:
        print(outcome.problem, file=sys.stderr)
    if outcome.interrupted:
        print("interrupted: run it again to go on", file=sys.stderr)
    return 130 if outcome.interrupted else 0 if outcome.succeeded else 1
