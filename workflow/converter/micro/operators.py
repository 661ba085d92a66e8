"""The operators of TensorFlow Lite Micro, and how a program registers them.

operators.json: by operator the method of MicroMutableOpResolver that adds it, from
tensorflow/lite/micro/micro_mutable_op_resolver.h of github.com/tensorflow/tflite-micro, at 90b983c2b3f1 (August 2026).
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

from converter.errors import UnsupportedError
from converter.tflite.flatbuffer import operators, schema

__all__ = ["methods", "methods_of"]


@functools.cache
def methods() -> dict[str, str]:
    """{"CONV_2D": "AddConv2D", ...}."""
    return json.loads(Path(__file__).with_name("operators.json").read_text(encoding="utf-8"))


def methods_of(model: schema.ModelT) -> dict[str, str]:
    """Those of the operators in a file, sorted. Raises UnsupportedError for operators that it does not have."""
    used = sorted({name for _, _, name in operators(model)})
    unknown = [name for name in used if name not in methods()]
    if unknown:
        raise UnsupportedError(
            f"TensorFlow Lite Micro has no operator {', '.join(unknown)}: cut the model before it, or ask "
            "for a .tflite file"
        )
    return {name: methods()[name] for name in used}
