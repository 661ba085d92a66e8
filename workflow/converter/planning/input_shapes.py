"""`input_shape`: the sizes of a model's inputs as a user writes them, in their order or by name."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from converter.errors import ParameterError, nearest
from converter.wording import quoted

__all__ = ["InputShape", "format_input_shape", "parse_input_shape", "shapes_by_name"]

_DTYPES = (
    *("float16", "float32", "float64", "bfloat16", "bool", "string"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "complex64", "complex128"),
)
_MAX_ELEMENTS = 2**31
_INPUT_NAME = r"""[^\s=,;"'{}]+"""


@dataclass(frozen=True)
class InputShape:
    """The shape of one input as a user gave it: None for an unknown dimension; dtype None for the model's own.

    name: of the input, None where the entries stand in the order of the model's inputs. "images.0" is an item of a list,
    "batch.ids" an entry of a mapping, that is given as one argument (PyTorch).
    """

    dims: tuple[int | None, ...]
    dtype: str | None = None
    name: str | None = None


def parse_input_shape(text: str) -> list[InputShape]:
    """Parse "1,224,224,3", "int64:1,16;-1,8", "bool:" (a scalar) or "ids=int64:-1,-1;mask=-1,-1": an entry per input.

    Raises ParameterError for anything else.
    """
    shapes: list[InputShape] = []
    for part in text.split(";"):
        name, equals, rest = part.rpartition("=")
        name = name.strip()
        if equals and not re.fullmatch(_INPUT_NAME, name):
            raise ParameterError(
                f'input_shape: {quoted(name)} is not the name of an input; write entries such as "input_ids=int64:-1,-1"'
            )
        dtype, colon, dims = rest.rpartition(":")
        dtype = dtype.strip()
        if colon and dtype not in _DTYPES:
            close = nearest(dtype, _DTYPES, 1)
            raise ParameterError(
                f"input_shape: {quoted(dtype)} is not a dtype; write "
                + (f"{quoted(close[0])}" if close else f"one of {', '.join(_DTYPES)}")
            )
        sizes: list[int | None] = []
        for size in dims.split(",") if dims.strip() else []:
            if not re.fullmatch(r"\s*(-1|[1-9]\d{0,18})\s*", size):
                raise ParameterError(
                    f'input_shape: {quoted(text)} is not a list of sizes; write positive numbers such as "1,224,224,3", '
                    '-1 for an unknown one, ";" between inputs'
                )
            sizes.append(None if int(size) == -1 else int(size))
        if not sizes and not colon:
            raise ParameterError(f'input_shape: {quoted(text)} has an empty entry; write sizes such as "1,224,224,3"')
        if math.prod(size or 1 for size in sizes) > _MAX_ELEMENTS:
            raise ParameterError(
                f"input_shape: {quoted(part.strip())} has more than 2^31 elements; write the model's real sizes"
            )
        shapes.append(InputShape(tuple(sizes), dtype or None, name or None))
    named = [shape.name for shape in shapes if shape.name is not None]
    if named and len(named) < len(shapes):
        raise ParameterError(
            f"input_shape: {quoted(text)} names some inputs only; name each that it gives a shape, or none"
        )
    if len(set(named)) < len(named):
        raise ParameterError(f"input_shape: {quoted(text)} gives one input two shapes; write one for each")
    return shapes


def shapes_by_name(shapes: Sequence[InputShape], names: Sequence[str]) -> list[InputShape | None]:
    """The shape given to each of the inputs `names`, None for those that are not named in `shapes`.

    Raises ParameterError for a name that is none of theirs.
    """
    given = {shape.name: shape for shape in shapes}
    for name in given:
        if name not in names:
            close = nearest(name or "", names)
            hint = f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(names)}"
            raise ParameterError(f"input_shape: the model has no input {quoted(name)}; {hint}")
    return [given.get(name) for name in names]


def format_input_shape(shapes: Sequence[InputShape]) -> str:
    """The canonical text, which parse_input_shape gives back."""
    return ";".join(
        (f"{shape.name}=" if shape.name else "")
        + (f"{shape.dtype}:" if shape.dtype else "")
        + ",".join("-1" if d is None else str(d) for d in shape.dims)
        for shape in shapes
    )
