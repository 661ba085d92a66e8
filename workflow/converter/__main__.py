"""Compare two model files of any formats on the same inputs: python -m converter check A B (docs/command-line.md)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext

from converter import formats
from converter.errors import ConverterError
from converter.escape import json_text, printable
from converter.planning.parameters import IMPORT_PARAMETERS, PARAMETERS, normalize
from converter.verification.verify import Tolerance
from converter.version import __version__

_FLAGS = [name for name in IMPORT_PARAMETERS if name != "verify"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0 if both files compute the same."""
    parser = argparse.ArgumentParser(prog="python -m converter", description=__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"converter {__version__}")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser(
        "check",
        allow_abbrev=False,
        help="do two model files compute the same?",
        description="Do two model files compute the same? The verdict goes to stdout as in a report, its sentence to "
        "stderr; exit status 0 if they do.",
    )
    command.add_argument("first", metavar="A", help="model file or SavedModel directory, of any format")
    command.add_argument("second", metavar="B", help="another one")
    command.add_argument("--rtol", type=float, default=Tolerance.rtol, help="share of an output's largest value")
    command.add_argument("--atol", type=float, default=Tolerance.atol, help="difference that is always allowed")
    group = command.add_argument_group("how to read a source (whichever of the two needs it)")
    for name in _FLAGS:
        group.add_argument(f"--{name}", metavar="VALUE", help=PARAMETERS[name].help)
    args = parser.parse_args(argv)
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
        # Inside another program, with `argv`, nothing is given up.
        with confined_check(paths, parameters) if argv is None else nullcontext():
            result = check(*paths, parameters, tolerance=Tolerance(args.rtol, args.atol))
    except ConverterError as error:
        print(printable(str(error)), file=sys.stderr)
        return 1
    print(json_text(result), flush=True)
    print(printable(sentence(result)), file=sys.stderr)
    return 0 if result["status"] == "verified" else 1


if __name__ == "__main__":
    sys.exit(main())
