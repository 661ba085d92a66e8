"""Layers of a model by the names that users know them by: what `quantization.keep_float` chooses from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from converter.errors import ParameterError, nearest

__all__ = ["Layer", "chosen"]

# The exporters' own names of operators that TensorFlow fused into one, such as "net/conv/Relu;net/conv/BiasAdd".
_FUSED = ";"
_COUNTER = re.compile(r"_\d+$")  # of a second trace: "conv_1"


@dataclass(frozen=True)
class Layer:
    """One operator of the float model: its name there, and its type ("CONV_2D", "Conv").

    results: names of what it gives, where users may know it by these too.
    """

    name: str
    type: str
    results: tuple[str, ...] = ()


def chosen(available: Sequence[Layer], keep_float: Sequence[str]) -> list[Layer]:
    """The layers that the entries of `keep_float` name, in order of execution.

    An entry is a type of operator ("SOFTMAX"), the full name of a layer as the ranking gives it, or a part of its path,
    such as the name that the layer has in the source ("conv2", "block1/conv2"). Raises ParameterError for an entry that
    names none.
    """
    taken: set[Layer] = set()
    for entry in keep_float:
        matching = [layer for layer in available if _names(entry, layer)]
        matching = matching or [layer for layer in available if _names(entry, layer, without_counter=True)]
        if not matching:
            words = {word for layer in available for word in [*_paths(layer, False), layer.type]}
            close = nearest(entry, sorted(words))
            hint = f"did you mean {' or '.join(close)}?" if close else f"its types are {_listed(available)}"
            raise ParameterError(
                f"quantization.keep_float: the model has no layer and no operator type {entry!r}: {hint}"
            )
        taken |= set(matching)
    return [layer for layer in available if layer in taken]


def _names(entry: str, layer: Layer, *, without_counter: bool = False) -> bool:
    if entry in (layer.type, layer.name, *layer.results) or entry in layer.name.split(_FUSED):
        return True
    return f"/{_path(entry, without_counter)}/" in "".join(f"/{path}/" for path in _paths(layer, without_counter))


def _paths(layer: Layer, without_counter: bool) -> list[str]:
    parts = [*layer.name.split(_FUSED), *layer.results]
    return [_path(part, without_counter) for part in parts]


def _path(text: str, without_counter: bool) -> str:
    return "/".join(_COUNTER.sub("", part) if without_counter else part for part in text.split("/"))


def _listed(available: Iterable[Layer]) -> str:
    return ", ".join(sorted({layer.type for layer in available}))
