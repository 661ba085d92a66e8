"""The frame around scripts that examine a model, and write a page or a JSON file instead of a model."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from converter.contracts import export_job
from converter.errors import ConverterError
from converter.hub.hub import Hub
from converter.importing.user_code import Record, recorded
from converter.planning.parameters import EXPORT_PARAMETERS
from converter.planning.source_files import source_bytes
from converter.run_state import failures
from converter.run_state.lifetime import end_with_run, in_run
from converter.running.access import export_access
from converter.running.fast_import import load_framework
from converter.running.step_runner import add_parameters, confinement, given_parameters, sentence
from converter.safety.sandbox import OWN_PROGRAMS, limits_for

__all__ = ["run_analysis"]


def run_analysis(
    name: str,
    analyse: Callable[..., None],
    argv: Sequence[str] | None = None,
    options: Mapping[str, str] | None = None,
    modules: Sequence[str] = (),
    blocks: Callable[[Mapping[str, str]], Sequence[Mapping]] = lambda _: (),
    measures: bool = False,
) -> int:
    """Run `analyse(hub, job, output)`, which writes `output`. Returns the exit status.

    `options`: names and help of further flags, whose texts `analyse` takes by keyword. `modules`: what it
    needs besides the framework and would look for in folders that a confined step may not read. `blocks`: of the
    further options, the quantization blocks of the files that it makes, whose data it reads. `measures`: it starts programs of
    this package's, for latencies.
    Why it failed becomes the sentence that ends the run; the traceback of what was not foreseen goes to stderr.
    """
    parser = argparse.ArgumentParser(prog=name, description=sys.modules[analyse.__module__].__doc__)
    parser.add_argument("hub", type=Path, help="directory that an import script wrote")
    parser.add_argument("output", type=Path, help="file to write")
    parser.add_argument("--target", required=True, help="the converted file that it is about")
    add_parameters(parser, EXPORT_PARAMETERS)
    for option, text in (options or {}).items():
        parser.add_argument(f"--{option}", required=True, help=text)
    args = parser.parse_args(argv)
    end_with_run()
    hub = Hub.read(args.hub)
    try:
        if hub.error is not None:
            raise ConverterError(hub.error["message"])
        job = export_job(args.target, given_parameters(args, EXPORT_PARAMETERS))
        load_framework(hub.framework, *modules)
        given = {option: getattr(args, option) for option in options or {}}
        access = export_access(hub, job, [args.output.parent], blocks(given))
        if measures:
            access = replace(access, programs=OWN_PROGRAMS)
        # Inside another program, with `argv`, it is not confined.
        confined = (
            nullcontext()
            if argv is not None
            else confinement(name, args.output, limits_for(source_bytes(args.hub)), access)
        )
        with confined, recorded(Record()):  # a script for representative data imports what it needs as in an export
            analyse(hub, job, args.output, **given)
    except Exception as error:
        if isinstance(error, ConverterError):
            text = sentence(str(error))
        else:
            traceback.print_exc()
            text = sentence(f"{name} failed: {type(error).__name__}: {error}"[:300]) + " (see the log)"
        if in_run():
            failures.remember(str(args.output), f"{args.output}: {text}")
        else:
            print(f"{args.output}: {text}", file=sys.stderr)
        return 1
    return 0
