"""Parameters `input_shape` and `batch`: a model whose inputs have other shapes."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import ModelProto, TypeProto

from converter.onnx.core.graphs import STANDARD, all_graphs, inferred, replace_fields

__all__ = ["with_shapes"]

Shape = tuple[int | None, ...]


def with_shapes(model: ModelProto, shapes: Mapping[str, Shape]) -> None:
    """Give inputs these shapes, in place, and all that depends on them what shape inference finds.

    None is an unknown size, which keeps its name if it has one. A name that stands for one number now is that number on
    inputs that are not in `shapes`; one that would stand for several is taken from them. Operators whose constants have the
    old sizes in them are not changed: they fail when the model is run.
    """
    graph = model.graph
    numbers = _numbers(model, shapes)
    for value in graph.input:
        if value.name in shapes:
            _set(value.type, value.name, shapes[value.name], numbers)
        elif value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"):
            for axis, dim in enumerate(value.type.tensor_type.shape.dim):
                if found := numbers.get(dim.dim_param):
                    _set_dim(dim, found.pop() if len(found) == 1 else None, f"{value.name}_{axis}")
    for value in graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    for inner in all_graphs(graph):
        _forget_shapes(inner)
    typed = inferred(model)
    replace_fields(graph.output, list(typed.graph.output))
    replace_fields(graph.value_info, list(typed.graph.value_info))
    _clear_made_up_names(model)


def _numbers(model: ModelProto, shapes: Mapping[str, Shape]) -> dict[str, set[int]]:
    """By the name of a dimension the numbers that it is set to."""
    numbers: dict[str, set[int]] = {}
    for value in model.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, shapes.get(value.name, ()), strict=False):
            if dim.dim_param and size is not None:
                numbers.setdefault(dim.dim_param, set()).add(size)
    return numbers


def _set(kind: TypeProto, name: str, shape: Shape, numbers: Mapping[str, set[int]]) -> None:
    dims = kind.tensor_type.shape.dim
    kept = [dim.dim_param for dim in dims] if len(dims) == len(shape) else [""] * len(shape)
    del dims[:]
    kind.tensor_type.shape.SetInParent()
    for axis, (size, said) in enumerate(zip(shape, kept, strict=True)):
        unknown = said if said and said not in numbers else f"{name}_{axis}"
        _set_dim(dims.add(), size, unknown)


def _set_dim(dim: onnx.TensorShapeProto.Dimension, size: int | None, unknown: str) -> None:
    if size is None:
        dim.dim_param = unknown
    else:
        dim.dim_value = size


def _forget_shapes(graph: onnx.GraphProto) -> None:
    """What was found of values inside; of operators that are not ONNX's, which nothing infers, the type stays."""
    foreign = {name for node in graph.node if node.domain not in STANDARD for name in node.output}
    replace_fields(graph.value_info, [value for value in graph.value_info if value.name in foreign])
    for value in graph.value_info:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")


def _clear_made_up_names(model: ModelProto) -> None:
    """Shape inference calls each size that it does not know unk__0, unk__1, ...: names that say nothing of what is equal."""
    for value in model.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param.startswith("unk__"):
                dim.Clear()
