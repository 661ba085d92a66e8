"""Files that become files of their own format: only where a parameter says what is to change, so that none is a mere copy."""

from __future__ import annotations

from converter.errors import ParameterError
from converter.planning.value_types import Parameters

__all__ = ["refuse_copies"]

_IMPORT_CHANGES = ("input_nodes", "output_nodes", "input_shape", "batch", "constants")
_EXPORT_CHANGES = {"onnx": ("onnx_opset",)}


def refuse_copies(
    source: str, from_format: str, to_format: str, variants: bool, imported: Parameters, exported: Parameters
) -> None:
    """Raise ParameterError where `source` has the target's format and no parameter changes anything.

    variants: whether the target's format has quantized files.
    """
    if from_format != to_format:
        return
    changes = [*_IMPORT_CHANGES, *_EXPORT_CHANGES.get(to_format, ())]
    given = {**imported, **exported}
    if any(name in given for name in changes):
        return
    if exported.get("quantization", {}).get("optimization", "none") != "none":
        return
    more = ", or ask for a quantized file such as .float16" if variants else ""
    raise ParameterError(
        f"{source} is of that format already, and nothing is to change: write {', '.join(changes[:-1])} or {changes[-1]}{more}"
    )
