"""Do two model files of any formats compute the same? converter check A B (docs/command-line.md)."""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext

from converter import formats
from converter.commands.parser import SentenceParser
from converter.errors import ConverterError
from converter.escape import json_text, printable
from converter.planning.parameters import IMPORT_PARAMETERS, PARAMETERS, normalize
from converter.verification.verify import Tolerance

__all__ = ["add_arguments", "run"]

_FLAGS = [name for name in IMPORT_PARAMETERS if name != "verify"]


def add_arguments(parser: SentenceParser) -> None:
    """A, B, the tolerances, and how to read a source."""
    parser.add_argument("first", metavar="A", help="model file or SavedModel directory, of any format")
    parser.add_argument("second", metavar="B", help="another one")
    parser.add_argument("--rtol", type=float, default=Tolerance.rtol, help="share of an output's largest value")
    parser.add_argument("--atol", type=float, default=Tolerance.atol, help="difference that is always allowed")
    group = parser.add_argument_group("how to read a source (whichever of the two needs it)")
    for name in _FLAGS:
        group.add_argument(f"--{name}", metavar="VALUE", help=PARAMETERS[name].help)


def run(args: argparse.Namespace, *, confined: bool = True) -> int:
    """The verdict goes to stdout as JSON, its sentence to stderr. Returns 0 if both files compute the same.

    confined: whether this process gives up its rights for good, which it may not where it goes on with something else.
    """
    from converter.commands.compare import check, sentence
    from converter.commands.open_model import install, is_source
    from converter.planning.sources import source_format
    from converter.running.reader import confined_check

    try:
        given = {name: getattr(args, name) for name in _FLAGS}
        parameters = {name: normalize(name, value) for name, value in given.items() if value is not None}
        paths = (args.first, args.second)
        for path in filter(is_source, paths):
            if formats.framework(formats.source(source_format(path)).framework).requirements:
                install(path)
        with confined_check(paths, parameters) if confined else nullcontext():
            result = check(*paths, parameters, tolerance=Tolerance(args.rtol, args.atol))
    except ConverterError as error:
        print(printable(str(error)), file=sys.stderr)
        return 1
    print(json_text(result), flush=True)
    print(printable(sentence(result)), file=sys.stderr)
    return 0 if result["status"] == "verified" else 1
