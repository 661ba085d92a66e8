"""Convert the models of a job list: python -m aup.dlconvert -f jobs.json (docs/command-line.md)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from aup.dlconvert.job_list import parse_jobs, read_jobs
from converter.commands.job_run import add_options, convert
from converter.errors import ConverterError


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m aup.dlconvert", description=__doc__, allow_abbrev=False)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("-f", "--file", type=Path, help="file with a job or a list of jobs, JSON or YAML")
    source.add_argument("-d", "--dictionary", metavar="JSON", help="the same as text: '{\"convert_from\": ...}'")
    add_options(parser)
    args = parser.parse_args(argv)
    try:
        jobs = read_jobs(args.file) if args.file else parse_jobs(args.dictionary, "-d")
    except ConverterError as error:
        print(error, file=sys.stderr)
        return 1
    return convert(jobs, args)


if __name__ == "__main__":
    sys.exit(main())
