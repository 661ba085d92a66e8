"""The commands that ask Snakemake for its reports by name: inspect, profile, zoo."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

from converter.commands.parser import SentenceParser
from converter.errors import ConverterError, ParameterError, nearest
from converter.escape import printable
from converter.installation import ROOT
from converter.jobs import make
from converter.planning.config import CONVERTED, normal_path
from converter.planning.parameters import IMPORT_PARAMETERS, PARAMETERS, normalize
from converter.planning.sources import model_name, source_format
from converter.publishing import report
from converter.running.progress import Progress

__all__ = [
    "add_inspect_arguments",
    "add_profile_arguments",
    "add_zoo_arguments",
    "run_inspect",
    "run_profile",
    "run_zoo",
]

_PROFILE = "reports/profile.html"
_IMPORT = [name for name in IMPORT_PARAMETERS if name != "verify"]


def add_inspect_arguments(parser: SentenceParser) -> None:
    """SOURCE, and how to read it."""
    parser.add_argument("source", metavar="SOURCE", help=PARAMETERS["convert_from"].help)
    group = parser.add_argument_group("how to read it")
    for name in _IMPORT:
        group.add_argument(f"--{name}", metavar="VALUE", help=PARAMETERS[name].help)


def run_inspect(args: argparse.Namespace) -> int:
    """What a source holds and can become goes to stdout as JSON, and to reports/MODEL.inspect.json."""
    source = normal_path(args.source)
    model = model_name(source)
    try:
        source_format(source)
        given = {name: getattr(args, name) for name in _IMPORT if getattr(args, name) is not None}
        for name, value in given.items():
            normalize(name, value)
    except ConverterError as error:
        return _refused(error)
    path = Path("reports", f"{model}.inspect.json")
    status = _make([str(path)], {"models": {model: {"convert_from": source, **given}}})
    if status == 0:
        print(path.read_text(encoding="utf-8"), end="", flush=True)
    return status


def add_profile_arguments(parser: SentenceParser) -> None:
    """FILE..., and how to measure."""
    parser.add_argument("files", metavar="FILE", nargs="+", help="files of converted/, such as converted/m.tflite")
    for name in ("runs", "warmup", "threads"):
        parser.add_argument(f"--{name}", metavar="N", help="docs/profile.md")


def run_profile(args: argparse.Namespace) -> int:
    """Measure files here; the figures go to benchmarks/ and, side by side, to reports/profile.html."""
    files = [normal_path(path) for path in args.files]
    for path in files:
        if not path.startswith(CONVERTED):
            return _refused(
                ParameterError(
                    f"{path} is no file of {CONVERTED}: write {CONVERTED}{Path(path).name}, which is made first"
                )
            )
    given = {name: value for name in ("runs", "warmup", "threads") if (value := getattr(args, name)) is not None}
    targets = [f"benchmarks/{path.removeprefix(CONVERTED)}.json" for path in files]
    status = _make(targets, {"benchmark": given})
    # The page shows what was measured, now and before: a job of its own, whose input these files are not.
    status = status or _make([_PROFILE], {"benchmark": given})
    if status == 0:
        print(*targets, _PROFILE, sep="\n", flush=True)
    return status


def add_zoo_arguments(parser: SentenceParser) -> None:
    """MODEL..., or what there is."""
    parser.add_argument(
        "models", metavar="MODEL", nargs="*", help="models to convert; without one, their names are listed"
    )
    parser.add_argument(
        "--to", metavar="EXTENSION", action="append", help="onnx, tflite, float16.tflite, ... (default onnx)"
    )
    parser.add_argument(
        "--weights", metavar="KIND", default="random", help="random (default), or pretrained: downloads"
    )


def run_zoo(args: argparse.Namespace) -> int:
    """Convert well-known models from their recipes, into converted/; without a model, list what there is."""
    recipes = yaml.safe_load((ROOT / "configs" / "zoo.yaml").read_text(encoding="utf-8"))
    if not args.models:
        print(*recipes, sep="\n")
        return 0
    for name in args.models:
        if name not in recipes:
            close = nearest(name, recipes, 1)
            hint = f"did you mean {close[0]}?" if close else "converter zoo lists them"
            return _refused(ParameterError(f"the zoo has no {name}: {hint}"))
    if args.weights not in ("random", "pretrained"):
        return _refused(ParameterError(f"--weights is {args.weights}; write random or pretrained"))
    extensions = [extension.removeprefix(".") for extension in args.to or ["onnx"]]
    targets = [f"{CONVERTED}{name}.{extension}" for name in args.models for extension in extensions]
    status = _make(targets, {"zoo": {"weights": args.weights}})
    if status == 0:
        results = [report.read(Path("reports", f"{target.removeprefix(CONVERTED)}.json")) for target in targets]
        print(*map(report.line, results), sep="\n", flush=True)
    return status


def _make(targets: list[str], values: dict) -> int:
    """Let the workflow make them, with progress and sentences on stderr; returns the exit status."""
    progress = Progress(sys.stderr)
    try:
        outcome = make(targets, values, listener=progress.see)
    finally:
        progress.close()
    if outcome.problem:
        print(outcome.problem, file=sys.stderr)
    if outcome.interrupted:
        print("interrupted: run it again to go on", file=sys.stderr)
    return 130 if outcome.interrupted else 0 if outcome.succeeded else 1


def _refused(error: ConverterError) -> int:
    print(printable(str(error)), file=sys.stderr)
    return 1
