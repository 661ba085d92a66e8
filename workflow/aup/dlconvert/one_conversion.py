"""The commands for one conversion each, such as ``python -m aup.dlconvert.pb_to_onnx``, with the original's flags."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from converter import formats
from converter.commands.job_run import add_options, convert
from converter.planning.parameters import PARAMETERS
from converter.planning.planner import parameters_of

__all__ = ["main"]

# The original's names, where they differ from the parameters'.
_FLAGS = {
    "network_script": ("--net",),
    "network_name": ("--net_name",),
    "onnx_opset": ("--opset",),
    "savedmodel_tag": ("--tag",),
    "savedmodel_signature": ("--signature",),
}
_QUANTIZATION = {
    "optimization": (("--opt",), "none or default (default none)"),
    "type": (("--type",), "float32 (or float), float16, int8 or uint8 (default float32)"),
    "opsset": (("--ops",), "tflite, tf or int8 (default tflite)"),
    "load": (("--load", "-d"), "script with get_dataset(), or .npz: representative data"),
}
_COMMANDS = {"protobuf": "pb"}
# The original's names of targets, where they differ from those of formats/target_formats/.
_TARGETS = {"pb": "protobuf"}


def main(format: str, target: str, argv: Sequence[str] | None = None) -> int:
    """Convert one source of `format` (formats/source_formats/) to `target`: onnx, tflite, pb or keras."""
    command = f"{_COMMANDS.get(format, format)}_to_{target}"
    written = formats.targets()[_TARGETS.get(target, target)]
    extension, suffixes = written.extensions[0], [f".{suffix}" for suffix in written.extensions]
    known = sorted(formats.source(format).extensions) or ["a directory"]
    parser = argparse.ArgumentParser(
        prog=f"python -m aup.dlconvert.{command}",
        description=f"Convert a {format} model ({', '.join(known)}) to {' or '.join(suffixes)}, and verify it.",
        allow_abbrev=False,
    )
    parser.add_argument("--model", "-i", required=True, help=PARAMETERS["convert_from"].help)
    parser.add_argument("--output", "-o", required=True, help=PARAMETERS["convert_to"].help)
    names = [name for name in PARAMETERS if name in parameters_of(format, extension) | _also(format, target)]
    for name in names:
        _add_parameter(parser, name, written)
    add_options(parser)
    args = parser.parse_args(argv)
    mistake = _mistake(command, format, Path(args.model), known) or _wrong_target(command, Path(args.output), suffixes)
    if mistake:
        print(mistake, file=sys.stderr)
        return 1
    job = {"convert_from": args.model, "convert_to": args.output}
    job |= {name: value for name in names if (value := _value(args, name)) is not None}
    return convert([job], args)


def _also(format: str, target: str) -> set[str]:
    # The original asked for a Keras model's output node to freeze its graph.
    return {"output_nodes"} if (format, target) == ("keras", "pb") else set()


def _add_parameter(parser: argparse.ArgumentParser, name: str, target: formats.TargetFormat) -> None:
    if name == "quantization" and target.quantized:
        types = ", ".join(suffix for suffix in target.quantized.suffixes if suffix != "dynamic")
        texts = {"type": f"float32 (or float), {types} (default float32)"}
        for key, (flags, text) in _QUANTIZATION.items():
            if key not in target.quantized.keys:
                continue
            text = texts.get(key, text)
            parser.add_argument(*flags, dest=f"quantization_{key}", metavar="VALUE", help=text)
    elif name == "frozen":
        # As absl took them: --frozen, --frozen=false, --nofrozen.
        parser.add_argument(
            "--frozen", dest=name, nargs="?", const="true", metavar="VALUE", help="with weights (the default)"
        )
        parser.add_argument(
            "--nofrozen", dest=name, action="store_const", const="false", help="with variables and no weights"
        )
    else:
        parser.add_argument(*_FLAGS.get(name, ()), f"--{name}", dest=name, metavar="VALUE", help=PARAMETERS[name].help)


def _value(args: argparse.Namespace, name: str) -> object:
    if name != "quantization":
        return getattr(args, name)
    block = {key: value for key in _QUANTIZATION if (value := getattr(args, f"quantization_{key}", None)) is not None}
    return block or None


def _mistake(command: str, format: str, model: Path, known: list[str]) -> str | None:
    """What is wrong with the source's name; that it does not exist is for the job to say."""
    actual = "savedmodel" if model.is_dir() else formats.extensions_of_sources().get(model.suffix)
    if actual is None or actual == format or (format == "savedmodel" and not model.exists()):
        return None
    other = command.replace(_COMMANDS.get(format, format), _COMMANDS.get(actual, actual), 1)
    return f"{command} reads {', '.join(known)}, and {model} is a {actual} model: use {other}"


def _wrong_target(command: str, output: Path, suffixes: Sequence[str]) -> str | None:
    if output.suffix in suffixes:
        return None
    return f"{command} writes {' or '.join(suffixes)}: give --output {output}{suffixes[0]}"
