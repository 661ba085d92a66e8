"""What a quantization block asks for: the kinds of quantized files."""

from __future__ import annotations

from dataclasses import dataclass

from converter.errors import ParameterError
from converter.planning.variants import is_dynamic

__all__ = ["Kind", "kind_of"]


@dataclass(frozen=True)
class Kind:
    """name: a key of quantization.verify.THRESHOLDS. form: float16, dynamic, integer or blocks.

    boundary: dtype that the inputs and outputs which are float32 in the source have, where a file of the format says how
    their integers are meant; else they stay float32.
    """

    name: str
    form: str
    boundary: str


def kind_of(block: dict) -> Kind | None:
    """What a resolved quantization block asks for; None for float32. Raises ParameterError for a contradiction."""
    if block.get("optimization", "none") == "none":
        if block.get("opsset") == "int8":
            raise ParameterError(
                "quantization.opsset int8 allows integer kernels only, and optimization none leaves all in float: "
                "write optimization default"
            )
        return None
    dtype = block.get("type", "float32")
    if block.get("opsset") == "int8" and block.get("keep_float"):
        raise ParameterError(
            "quantization.opsset int8 allows integer kernels only, and keep_float asks for float ones: write opsset tflite"
        )
    if dtype == "float16":
        if block.get("opsset") == "int8":
            raise ParameterError(
                "quantization.opsset int8 allows integer kernels only, and type float16 computes in float: "
                "write type int8, or opsset tflite"
            )
        return Kind("float16", "float16", "float32")
    if dtype == "int4":
        return Kind("int4", "blocks", "float32")
    if dtype == "float32":
        return Kind("dynamic", "dynamic", "float32") if is_dynamic(block) else Kind("int8", "integer", "float32")
    return Kind(dtype, "integer", dtype)
