"""Which quantization a target means: its name's suffix and its quantization block, checked against each other."""

from __future__ import annotations

from converter.errors import ParameterError
from converter.formats.declarations import Quantized, TargetFormat
from converter.planning.value_types import Parameters

__all__ = [
    "OTHER_SPELLINGS",
    "PLAIN",
    "VARIANTS",
    "check_opset",
    "is_dynamic",
    "resolve_quantization",
    "suffix_of",
    "used_keys",
]

# Suffixes of a target's name and the part of the quantization block they stand for.
VARIANTS = {
    "float16": {"optimization": "default", "type": "float16"},
    "dynamic": {"optimization": "default", "type": "float32"},
    "int8": {"optimization": "default", "type": "int8"},
    "uint8": {"optimization": "default", "type": "uint8"},
    "int4": {"optimization": "default", "type": "int4"},
}
# What no file is changed by.
PLAIN = {"optimization": "none", "type": "float32"}
# Suffixes as other programs write them.
OTHER_SPELLINGS = {
    "fp16": "float16",
    "f16": "float16",
    "half": "float16",
    "i8": "int8",
    "u8": "uint8",
    "quint8": "uint8",
    "i4": "int4",
    "q4": "int4",
}
_INTEGERS = ("int8", "uint8")


def is_dynamic(block: Parameters) -> bool:
    """Whether a resolved block asks for weights in 8 bits, and for nothing that must be calibrated."""
    plain = block.get("optimization", "none") != "none" and block.get("type", "float32") == "float32"
    return plain and "load" not in block


def suffix_of(block: Parameters) -> str | None:
    """The suffix of a file that a resolved block asks for; None for float32."""
    if block.get("optimization", "none") == "none":
        return None
    dtype = block.get("type", "float32")
    if dtype == "float32":
        return "dynamic" if is_dynamic(block) else "int8"
    return dtype


def resolve_quantization(
    block: Parameters, variant: str | None, written: Parameters, quantized: Quantized
) -> Parameters:
    """The complete block: `optimization`, `type`, and `opsset` and `load` where they are used.

    `block` is merged from the configuration; `written` is that of the target's own job, whose type must agree with the
    suffix. Raises ParameterError for contradictions and for missing representative data.
    """
    complete = dict(block)
    if "opsset" in quantized.keys:
        complete.setdefault("opsset", "tflite")
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
    if kind in VARIANTS and kind not in quantized.suffixes:
        raise ParameterError(
            f"quantization.type {kind} is no type of files of this format: write type {_types(quantized)}"
        )
    if complete.get("optimization") == "none" and kind != "float32":
        raise ParameterError(
            f"quantization.optimization none contradicts quantization.type {kind}: write optimization default"
        )
    complete.setdefault("optimization", "none" if kind == "float32" else "default")
    needs = f"type {kind}" if kind in _INTEGERS else "opsset int8" if complete.get("opsset") == "int8" else None
    if needs and "load" not in complete:
        if variant == "dynamic":
            raise ParameterError("quantization.opsset int8 contradicts the name's suffix .dynamic: write opsset tflite")
        raise ParameterError(
            f"quantization.{needs} needs representative data: write quantization.load, a script with get_dataset() "
            "or an .npz file"
        )
    return dict(sorted(complete.items()))


def used_keys(block: Parameters, written: Parameters, target: TargetFormat) -> tuple[Parameters, list[str]]:
    """The block without the keys that mean nothing for files of the target, and notes on those.

    Raises ParameterError where such a key is written in the target's own job.
    """
    keys = target.quantized.keys if target.quantized else frozenset[str]()
    others = [key for key in block if key not in keys]
    for key in others:
        if key in written:
            raise ParameterError(
                f"quantization.{key} means nothing for .{target.extensions[0]} files: leave it out of the job"
            )
    notes = [f"quantization.{key} was not used: it means nothing for .{target.extensions[0]} files" for key in others]
    return {key: value for key, value in block.items() if key in keys}, notes


def _types(quantized: Quantized) -> str:
    types = [suffix for suffix in quantized.suffixes if suffix != "dynamic"]
    return f"{', '.join(types[:-1])} or {types[-1]}"


def check_opset(block: Parameters, opset: int | None, quantized: Quantized) -> None:
    """Raise ParameterError where files of that kind need a higher opset than the one that was asked for."""
    suffix = suffix_of(block)
    lowest = quantized.lowest_opsets.get(suffix or "", 0)
    if opset is not None and opset < lowest:
        raise ParameterError(
            f"onnx_opset {opset} cannot express a .{suffix} file, which needs opset {lowest}: write onnx_opset {lowest} "
            "or more, or leave it out"
        )
