"""The oldest release of TensorFlow Lite that can open a file, from the versions of its operators.

runtime_releases.json: the release (of TensorFlow) in which each version of each operator appeared, as TensorFlow's own converter
has it: tflite/converter/tools/versioning/runtime_version.cc of github.com/google-ai-edge/LiteRT, at f67457790c9c (August 2026).
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from pathlib import Path
from typing import Any

from converter.hub.runtime_needs import RuntimeNeed, oldest_runtime
from converter.tflite.flatbuffer import operator_name, operators, read, schema

__all__ = ["RUNTIME", "needs", "of_file", "releases"]

RUNTIME = "TensorFlow Lite"
_OUTSIDE = "constants behind the flatbuffer"


@functools.cache
def releases() -> dict[str, dict[str, str]]:
    """The release that brought each version of each built-in operator: {"ADD": {"1": "1.5.0", ...}, ...}."""
    return json.loads(Path(__file__).with_name("runtime_releases.json").read_text(encoding="utf-8"))


def of_file(path: Path) -> dict[str, Any]:
    """What reports say of a file: see `runtime_needs.oldest_runtime`."""
    return oldest_runtime(RUNTIME, needs(Path(path).read_bytes()))


def needs(data: bytes) -> list[RuntimeNeed]:
    """Each version of an operator in a file, how often it occurs, and the release that brought it."""
    model = read(data)
    counts = Counter((operator_name(model, operator), _version(model, operator)) for _, operator, _ in operators(model))
    found = [
        RuntimeNeed(f"{name} version {version}", releases().get(name, {}).get(str(version)), count)
        for (name, version), count in sorted(counts.items())
    ]
    packed = schema.Model.GetRootAs(data, 0)
    outside = sum(packed.Buffers(index).Offset() > 1 for index in range(packed.BuffersLength()))
    return [*found, RuntimeNeed(_OUTSIDE, None, outside)] if outside else found


def _version(model: schema.ModelT, operator: schema.OperatorT) -> int:
    return int(model.operatorCodes[operator.opcodeIndex].version)
