"""Which quantization a target means: its name's suffix and its quantization block, checked against each other."""

from __future__ import annotations

from converter.errors import ParameterError
from converter.planning.value_types import Parameters

__all__ = ["VARIANTS", "is_dynamic", "resolve_quantization"]

# Suffixes of a target's name and the part of the quantization block they stand for.
VARIANTS = {
    "float16": {"optimization": "default", "type": "float16"},
    "dynamic": {"optimization": "default", "type": "float32"},
    "int8": {"optimization": "default", "type": "int8"},
    "uint8": {"optimization": "default", "type": "uint8"},
}


def is_dynamic(block: Parameters) -> bool:
    """Whether a resolved block asks for weights in 8 bits, and for nothing that must be calibrated."""
    plain = block.get("optimization", "none") != "none" and block.get("type", "float32") == "float32"
    return plain and "load" not in block


def resolve_quantization(block: Parameters, variant: str | None, written: Parameters | None = None) -> Parameters:
    """The complete block: `optimization`, `type`, `opsset`, and `load` where it is used.

    `block` is merged from the configuration; `written` is the target's own job, whose type must agree with the suffix.
    Raises ParameterError for contradictions and for missing representative data.
    """
    written = written or {}
    complete = {"opsset": "tflite", **block}
    if variant:
        suffix = VARIANTS[variant]
        for key in ("type", "optimization"):
            if written.get(key, suffix[key]) != suffix[key]:
                raise ParameterError(
                    f"quantization.{key} {written[key]} contradicts the name's suffix .{variant}: "
                    f"write {key} {suffix[key]} or another name"
                )
        complete |= suffix
        if variant == "dynamic":
            complete.pop("load", None)
    kind = complete.setdefault("type", "float32")
    if complete.get("optimization") == "none" and kind != "float32":
        raise ParameterError(
            f"quantization.optimization none contradicts quantization.type {kind}: write optimization default"
        )
    complete.setdefault("optimization", "none" if kind == "float32" else "default")
    needs = f"type {kind}" if kind in ("int8", "uint8") else "opsset int8" if complete["opsset"] == "int8" else None
    if needs and "load" not in complete:
        if variant == "dynamic":
            raise ParameterError("quantization.opsset int8 contradicts the name's suffix .dynamic: write opsset tflite")
        raise ParameterError(
            f"quantization.{needs} needs representative data: write quantization.load, a script with get_dataset() "
            "or an .npz file"
        )
    return dict(sorted(complete.items()))
