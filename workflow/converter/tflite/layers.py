"""Layers of a TensorFlow Lite model by the names that users know them by: what `quantization.keep_float` chooses from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from converter.errors import ParameterError, nearest
from converter.tflite.flatbuffer import TENSOR_DTYPES, operators, schema

__all__ = ["Layer", "chosen", "layers", "still_quantized"]

# The exporters' own names of operators that TensorFlow fused into one, such as "net/conv/Relu;net/conv/BiasAdd".
_FUSED = ";"
_COUNTER = re.compile(r"_\d+$")  # of a second trace: "conv_1"
# They convert, or choose and move values: nothing that could stay in float.
_NO_ARITHMETIC = ("QUANTIZE", "DEQUANTIZE", "SHAPE", "RANK", "CALL_ONCE")


@dataclass(frozen=True)
class Layer:
    """One operator of the float model: the name of its first output, and its type ("CONV_2D")."""

    name: str
    type: str


def layers(model: schema.ModelT) -> list[Layer]:
    """The operators with a float result, in order of execution."""
    found = []
    for subgraph, operator, name in operators(model):
        results = [subgraph.tensors[index] for index in operator.outputs]
        if name not in _NO_ARITHMETIC and any(TENSOR_DTYPES[tensor.type] == "float32" for tensor in results):
            found.append(Layer(results[0].name.decode(), name))
    return found


def chosen(model: schema.ModelT, keep_float: Sequence[str]) -> list[Layer]:
    """The layers that the entries of `keep_float` name, in order of execution.

    An entry is a type of operator ("SOFTMAX"), the full name of a layer as the ranking gives it, or a part of its path,
    such as the name that the layer has in the source ("conv2", "block1/conv2"). Raises ParameterError for an entry that
    names none.
    """
    available = layers(model)
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
    if entry in (layer.type, layer.name) or entry in layer.name.split(_FUSED):
        return True
    return f"/{_path(entry, without_counter)}/" in "".join(f"/{path}/" for path in _paths(layer, without_counter))


def _paths(layer: Layer, without_counter: bool) -> list[str]:
    return [_path(part, without_counter) for part in layer.name.split(_FUSED)]


def _path(text: str, without_counter: bool) -> str:
    return "/".join(_COUNTER.sub("", part) if without_counter else part for part in text.split("/"))


def _listed(available: Iterable[Layer]) -> str:
    return ", ".join(sorted({layer.type for layer in available}))


def still_quantized(model: schema.ModelT, kept: Sequence[Layer]) -> list[Layer]:
    """Those of `kept` that a quantized model computes, or whose weights it holds, in integers all the same."""
    found = []
    for layer in kept:
        same = [
            (subgraph, operator)
            for subgraph, operator, name in operators(model)
            # The quantizer numbers the result where a QUANTIZE behind it takes the layer's name.
            if name == layer.type
            and re.fullmatch(rf"{re.escape(layer.name)}\d*", subgraph.tensors[operator.outputs[0]].name.decode())
        ]
        if same and not any(_is_float(subgraph, operator) for subgraph, operator in same):
            found.append(layer)
    return found


def _is_float(subgraph: schema.SubGraphT, operator: schema.OperatorT) -> bool:
    used = [subgraph.tensors[index] for index in [*operator.inputs, *operator.outputs] if index >= 0]
    dtypes = {TENSOR_DTYPES[tensor.type] for tensor in used}
    return "float32" in dtypes and not dtypes & {"int8", "uint8", "int16"}
