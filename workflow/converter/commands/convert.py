"""converter convert SOURCE TARGET...: make files from a model, anywhere, and show what became of each."""

from __future__ import annotations

import argparse
import sys

from converter import formats
from converter.commands.job_run import add_options, convert
from converter.commands.parser import SentenceParser
from converter.errors import ConverterError, ParameterError
from converter.escape import printable
from converter.planning.applies import applies, where_applies
from converter.planning.parameters import BLOCKS, PARAMETERS
from converter.planning.sources import source_format

__all__ = ["add_arguments", "run"]

_JOB = ("convert_from", "convert_to", "skip")
# The names that people know, for the fields behind them.
_SHORT = {"quantization.load": "--load"}


def add_arguments(parser: SentenceParser) -> None:
    """SOURCE, TARGET..., and an option for every parameter of a job and for every field of its blocks."""
    parser.add_argument("source", metavar="SOURCE", help=PARAMETERS["convert_from"].help)
    parser.add_argument("targets", metavar="TARGET", nargs="+", help="files to write, such as m.onnx or m.int8.tflite")
    group = parser.add_argument_group("parameters (docs/parameters.md)")
    for name, parameter in PARAMETERS.items():
        if name in _JOB:
            continue
        if name not in BLOCKS:
            group.add_argument(f"--{name}", metavar="VALUE", help=parameter.help)
        for field in BLOCKS.get(name, ()):
            flags = [f"--{name}.{field}", *([_SHORT[key]] if (key := f"{name}.{field}") in _SHORT else [])]
            group.add_argument(*flags, dest=key, metavar="VALUE")
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """The exit status: 0 only if all files were made."""
    values: dict = {}
    for name, value in vars(args).items():
        parameter, _, field = name.partition(".")
        if parameter not in PARAMETERS or value is None:
            continue
        if field:
            values.setdefault(parameter, {})[field] = value
        else:
            values[parameter] = value
    jobs = [{"convert_from": args.source, "convert_to": target} for target in args.targets]
    if len(jobs) == 1:
        return convert([{**jobs[0], **values}], args)
    try:
        unused = [name for name in values if not any(_applies(name, job) for job in jobs)]
        if unused:
            raise ParameterError(f"{where_applies(unused[0])}, and to none of these targets: leave it out")
        jobs = [{**job, **{name: value for name, value in values.items() if _applies(name, job)}} for job in jobs]
    except ConverterError as error:
        print(printable(str(error)), file=sys.stderr)
        return 1
    return convert(jobs, args)


def _applies(name: str, job: dict) -> bool:
    extension = job["convert_to"].rpartition(".")[2]
    # A target of no known format is its job's own mistake.
    known = extension in formats.target_extensions()
    return not known or applies(name, source_format(job["convert_from"]), extension)
