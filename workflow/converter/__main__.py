"""The command `converter`, also `python -m converter`: each of its commands is a front of the workflow's targets."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from converter.commands.parser import SentenceParser
from converter.errors import nearest
from converter.escape import printable
from converter.formats import load
from converter.installation import SNAKEFILE
from converter.version import __version__

_USAGE = """Turns a model file into the file a device or engine needs, and proves that it computes the same.

  converter convert m.h5 m.onnx m.float16.tflite                           files, anywhere
  converter convert m.h5 m.tflite --quantization.type int8 --load data.py
"""
_SHORT_USAGE = (
    "  converter snakefile  the path of the Snakefile: snakemake -s $(converter snakefile) converted/m.onnx",
    "  converter --version  the version",
)


@dataclass(frozen=True)
class _Command:
    """arguments, run: functions, as "module:name", so that one command does not import another's libraries."""

    help: str
    arguments: str
    run: str


_TARGETS = "converter.commands.targets"
COMMANDS = {
    "convert": _Command(
        "make files from a model", "converter.commands.convert:add_arguments", "converter.commands.convert:run"
    ),
    "check": _Command(
        "do two model files compute the same?", "converter.commands.check:add_arguments", "converter.commands.check:run"
    ),
    "inspect": _Command(
        "what a model file holds, and can become", f"{_TARGETS}:add_inspect_arguments", f"{_TARGETS}:run_inspect"
    ),
    "profile": _Command(
        "how fast converted files run here", f"{_TARGETS}:add_profile_arguments", f"{_TARGETS}:run_profile"
    ),
    "zoo": _Command("convert well-known models", f"{_TARGETS}:add_zoo_arguments", f"{_TARGETS}:run_zoo"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(_USAGE)
        print(*(f"  converter {name:9}  {command.help}" for name, command in COMMANDS.items()), *_SHORT_USAGE, sep="\n")
        return 0 if words else 1
    if words == ["--version"]:
        print(f"converter {__version__}")
        return 0
    name, *rest = words
    if name == "snakefile" and not rest:
        print(SNAKEFILE)
        return 0
    if name not in COMMANDS:
        close = nearest(name, [*COMMANDS, "snakefile"], 1)
        hint = f"did you mean converter {close[0]}?" if close else f"known are {', '.join(COMMANDS)} and snakefile"
        print(printable(f"converter has no command {name}: {hint}"), file=sys.stderr)
        return 1
    command = COMMANDS[name]
    run: Callable = load(command.run)
    parser = SentenceParser(prog=f"converter {name}", description=run.__doc__)
    load(command.arguments)(parser)
    args = parser.parse_args(rest)
    try:
        # Inside another program, with `argv`, `check` gives up no rights.
        return run(args, **({"confined": argv is None} if name == "check" else {}))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
