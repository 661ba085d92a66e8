"""The parameters of a conversion: one table for the configuration, the scripts' flags and the job lists.

`normalize` turns a value as a user may write it (JSON, YAML, or a string of a command line) into one canonical,
JSON-able form, so that two ways to write the same thing share their work. Its errors name the parameter and what it takes.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from converter.errors import ParameterError, nearest
from converter.planning.input_shapes import format_input_shape, parse_input_shape
from converter.planning.value_types import Parameters, is_list, is_mapping
from converter.wording import quoted, shortened

__all__ = [
    "BLOCKS",
    "DEFAULT_OPSET",
    "EXPORT_PARAMETERS",
    "IMPORT_PARAMETERS",
    "PARAMETERS",
    "RESERVED",
    "flags",
    "normalize",
    "normalize_all",
]

# Of ONNX files where nobody sets one; raised where a model needs a higher one.
DEFAULT_OPSET = 10
# What Snakemake (9.27) takes for wildcards, or warns of; it ends at a wildcard that it does not know.
RESERVED = re.compile(r"[{}\n\r]")


def _error(name: str, value: object, allowed: str) -> ParameterError:
    shown = repr(value) if isinstance(value, str) else _as_json(value) or repr(value)
    return ParameterError(f"{name} is {shortened(shown)}; write {allowed}")


def _as_json(value: object) -> str | None:
    """None for what JSON cannot express: YAML has dates, keys of any type, and lists that hold themselves."""
    try:
        return json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return None


def _boolean(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    raise _error(name, value, "true or false")


def _text(name: str, value: object) -> str:
    if isinstance(value, str) and value.strip() and "\0" not in value:
        return value.strip()
    raise _error(name, value, "a non-empty text")


def _path(name: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise _error(name, value, "a path")
    if RESERVED.search(value):
        raise _error(name, value, "a path without braces and line breaks, which Snakemake reserves")
    return value


def _words(value: object) -> list[str] | None:
    """The words of a comma-separated string or of a list; None where one is empty or no text."""
    parts = [value] if isinstance(value, str) else value
    if not is_list(parts) or not all(isinstance(part, str) for part in parts):
        return None
    words = [word.strip() for part in parts for word in part.split(",")]
    return words if all(words) and "\0" not in "".join(words) else None


def _names(name: str, value: object) -> list[str]:
    """A comma-separated string or a list; "x:0" and "x" are the same tensor."""
    names = [_tensor(word) for word in _words(value) or []]
    if not names or not all(names):
        raise _error(name, value, 'names separated by commas, such as "input:0"')
    if len(set(names)) < len(names):
        raise _error(name, value, "each name once")
    return names


def _tensor(name: str) -> str:
    return name.strip().removesuffix(":0")


def _tags(name: str, value: object) -> list[str]:
    tags = _words(value)
    if not tags:
        raise _error(name, value, 'tags separated by commas, such as "serve"')
    return sorted(set(tags))


def _shape(name: str, value: object) -> str:
    if is_list(value) and value and all(type(size) is int for size in value):
        value = ",".join(map(str, value))
    if not isinstance(value, str) or not value.strip():
        raise _error(name, value, 'sizes such as "1,224,224,3", ";" between inputs')
    return format_input_shape(parse_input_shape(value))


def _batch(name: str, value: object) -> str:
    text = str(value).strip().lower() if isinstance(value, str) or type(value) is int else ""
    if text in ("free", "usual"):
        return text
    if not re.fullmatch(r"[1-9]\d{0,5}", text):
        raise _error(name, value, "a number of samples from 1 on, usual, or free")
    return text


def _length(name: str, value: object) -> str:
    text = str(value).strip().lower() if isinstance(value, str) or type(value) is int else ""
    if text not in ("free", "usual") and not re.fullmatch(r"[1-9]\d{0,7}", text):
        raise _error(name, value, "a number of tokens or samples of sound, usual, or free")
    return text


def _mapping(name: str, value: object) -> dict[str, Any]:
    if isinstance(value, str):
        value = _json(name, value, "a mapping")
    if not is_mapping(value) or not all(isinstance(key, str) for key in value):
        raise _error(name, value, "a mapping")
    return value


def _json(name: str, value: str, allowed: str) -> object:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise _error(name, value, allowed) from None


def _constants(name: str, value: object) -> dict[str, bool | int | float]:
    mapping = _mapping(name, value)
    for key, constant in mapping.items():
        if not isinstance(constant, bool | int | float):
            raise _error(f"{name}: {key}", constant, "true, false or a number")
    constants = {_tensor(key): mapping[key] for key in sorted(mapping)}
    if len(constants) < len(mapping) or not all(constants):
        raise _error(name, value, "each placeholder's name once")
    return constants


def _arguments(name: str, value: object) -> dict[str, Any] | list[Any] | str:
    """The arguments themselves, or the path of a file that holds them (planning/network_args.py)."""
    if isinstance(value, str) and value.strip().endswith((".yaml", ".yml", ".json")):
        return _path(name, value).strip()
    if isinstance(value, str):
        value = _json(
            name, value, "a mapping or a list of the constructor's arguments, or the path of a .yaml or .json file"
        )
    if (is_mapping(value) or is_list(value)) and (text := _as_json(value)) is not None:
        return json.loads(text)
    raise _error(name, value, "a mapping or a list of the constructor's arguments, which JSON can express")


def _integer(lowest: int, highest: int) -> Callable[[str, object], int]:
    def parse(name: str, value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"\s*\d{1,9}\s*", value):
            value = int(value)
        if type(value) is int and lowest <= value <= highest:
            return value
        raise _error(name, value, f"a whole number from {lowest} to {highest}")

    return parse


def _number(name: str, value: object) -> float:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number) and number >= 0:
            return number
    raise _error(name, value, "a number, zero or more")


def _choice(*choices: str, **synonyms: str) -> Callable[[str, object], str]:
    def parse(name: str, value: object) -> str:
        if isinstance(value, str):
            lowered = value.strip().lower()
            lowered = synonyms.get(lowered, lowered)
            if lowered in choices:
                return lowered
        raise _error(name, value, "one of " + ", ".join(choices))

    return parse


def _strings(name: str, value: object) -> list[str]:
    words = _words(value)
    if words is None:
        raise _error(name, value, "a list of names")
    return words


@dataclass(frozen=True)
class _Block:
    """A mapping whose own keys are known, such as quantization and verify."""

    fields: dict[str, Callable[[str, object], object]]

    def __call__(self, name: str, value: object) -> Parameters:
        block: Parameters = {}
        for key, item in _mapping(name, value).items():
            if key not in self.fields:
                close = nearest(key, self.fields, 1)
                hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(self.fields)}"
                raise ParameterError(f"{name} has an unknown key {quoted(key)}: {hint}")
            if item is not None:
                block[key] = self.fields[key](f"{name}.{key}", item)
        return dict(sorted(block.items()))


_quantization = _Block(
    {
        "optimization": _choice("none", "default"),
        "type": _choice("float32", "float16", "int8", "uint8", "int4", float="float32"),
        "opsset": _choice("tflite", "tf", "int8"),
        "load": _path,
        "calibration": _choice("minmax", "entropy", "percentile"),
        "keep_float": _strings,
        "thresholds": _Block({"cosine": _number, "sqnr": _number, "top1": _number}),
    }
)


@dataclass(frozen=True)
class Parameter:
    """stage: "import" (part of the hub's key), "export" (one target only), or "job" (says what is made from what)."""

    stage: str
    normalize: Callable[[str, object], object]
    help: str


PARAMETERS: dict[str, Parameter] = {
    "convert_from": Parameter("job", _path, "source file or directory"),
    "convert_to": Parameter("job", _path, "file to write"),
    "skip": Parameter("job", _boolean, "true: do not make this file"),
    "input_nodes": Parameter("import", _names, "input tensors, separated by commas"),
    "output_nodes": Parameter("import", _names, "output tensors, separated by commas"),
    "input_shape": Parameter(
        "import", _shape, 'sizes such as "1,224,224,3", -1 unknown, ";" between inputs, "name=" before them'
    ),
    "batch": Parameter(
        "import", _batch, "the number of samples in each call, usual: 1 where that can be, or free: any number"
    ),
    "length": Parameter(
        "import", _length, "of texts and recordings: a number, usual (128 tokens, or a second), or free: any length"
    ),
    "constants": Parameter("import", _constants, "values of placeholders that are not inputs, as a mapping"),
    "network_script": Parameter("import", _path, "Python file that defines the network or custom layers"),
    "network_name": Parameter(
        "import", _text, "class or function in network_script, or in an installed package, that builds the network"
    ),
    "network_args": Parameter(
        "import", _arguments, "its arguments, a mapping or a list, or the path of a YAML or JSON file"
    ),
    "state_dict_key": Parameter("import", _text, "entry of a checkpoint dictionary that holds the weights"),
    "strict": Parameter("import", _boolean, "false: entries of a state dict may be missing"),
    "savedmodel_tag": Parameter("import", _tags, "tags of a SavedModel, separated by commas (default serve)"),
    "savedmodel_signature": Parameter("import", _text, "signature of a SavedModel (default serving_default)"),
    "toolchain": Parameter("import", _choice("default", "tf2.3", "tf1.15"), "environment that reads the source"),
    "trusted": Parameter("import", _boolean, "true: the source may run the code it carries"),
    "onnx_opset": Parameter("export", _integer(7, 30), "opset of the ONNX file, met exactly"),
    "frozen": Parameter("export", _boolean, "false: a .pb with variables and no weights"),
    "quantization": Parameter(
        "export", _quantization, "optimization, type, load, keep_float, thresholds, opsset, calibration"
    ),
    "input_layout": Parameter("export", _choice("nhwc", "nchw"), "layout of a PyTorch model's TFLite or Keras file"),
    "backend": Parameter("export", _choice("default", "keras2onnx", "pytorch2keras"), "legacy library to convert with"),
    "device": Parameter("export", _text, "profile of configs/devices.yaml that the file must fit"),
    "verify": Parameter(
        "both",
        _Block(
            {
                "rtol": _number,
                "atol": _number,
                "samples": _integer(1, 10_000),
                "inputs": _path,
                "on_failure": _choice("fail", "warn"),
                "accuracy_drop": _number,
            }
        ),
        "rtol, atol, samples, inputs, on_failure, accuracy_drop",
    ),
}
# The fields of parameters that are mappings of known keys.
BLOCKS = {
    name: tuple(parameter.normalize.fields)
    for name, parameter in PARAMETERS.items()
    if isinstance(parameter.normalize, _Block)
}
IMPORT_PARAMETERS = tuple(name for name, parameter in PARAMETERS.items() if parameter.stage in ("import", "both"))
EXPORT_PARAMETERS = tuple(name for name, parameter in PARAMETERS.items() if parameter.stage in ("export", "both"))


def normalize(name: str, value: object, where: str = "") -> object:
    """The canonical form of one parameter's value. Raises ParameterError, with `where` in front of its sentence."""
    prefix = f"{where}: " if where else ""
    if name not in PARAMETERS:
        close = nearest(name, PARAMETERS, 1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(PARAMETERS)}"
        raise ParameterError(f"{prefix}unknown parameter {quoted(name)}: {hint}")
    try:
        return PARAMETERS[name].normalize(name, value)
    except ParameterError as error:
        raise ParameterError(f"{prefix}{error}") from None


def flags(values: Parameters) -> str:
    """Canonical values as flags of a script, quoted for the shell; `normalize` of each flag's text gives them back."""
    words: list[str] = []
    for name, value in values.items():
        if is_list(value) and name != "network_args":
            value = ",".join(value)
        text = value if isinstance(value, str) else json.dumps(value)
        words.append(f"--{name}={text}")
    return shlex.join(words)


def normalize_all(values: object, where: str = "") -> Parameters:
    """The canonical forms of all `values`; a None counts as not given."""
    if not is_mapping(values):
        raise ParameterError(f"{where}: expected a mapping of parameters, found {type(values).__name__}")
    return {name: normalize(str(name), value, where) for name, value in values.items() if value is not None}
