"""What an ONNX model is called with and answers, and what is known of the values that its inputs may have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import onnx

from converter.errors import UnsupportedError
from converter.hub.hub import TensorSpec

__all__ = ["inputs_of", "is_channels_last", "outputs_of", "share_batch", "vocabulary", "with_steps"]

_NAMES: dict[int, str] = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.DOUBLE: "float64",
    onnx.TensorProto.STRING: "string",
    onnx.TensorProto.BFLOAT16: "bfloat16",
}
# What hands the numbers of rows on as they are.
_PASSING = ("Identity", "Cast", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Transpose", "Slice", "Concat", "Expand")
_MASKS, _TRIPS = 2, 16
_MOVING = ("Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten")


def inputs_of(model: onnx.ModelProto, path: Path) -> list[TensorSpec]:
    """Of the main graph, in its order. Raises UnsupportedError for inputs that are no tensors."""
    return [_spec(entry, path, "input") for entry in model.graph.input]


def outputs_of(model: onnx.ModelProto, path: Path) -> list[TensorSpec]:
    """Of the main graph, in its order; shapes as the file says. Raises UnsupportedError for those that are no tensors."""
    return [_spec(entry, path, "output") for entry in model.graph.output]


def _spec(entry: onnx.ValueInfoProto, path: Path, kind: str) -> TensorSpec:
    form = entry.type.WhichOneof("value")
    if form not in ("tensor_type", None):
        what = form.removesuffix("_type").replace("_", " ")
        raise UnsupportedError(
            f"{path}: {kind} {entry.name} is no tensor but of kind {what}: cut the model there with {kind}_nodes"
        )
    tensor = entry.type.tensor_type
    dtype = _NAMES.get(tensor.elem_type)
    if dtype is None:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name if tensor.elem_type else "float32"
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(
            dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None for dim in tensor.shape.dim
        )
    return TensorSpec(entry.name, shape, dtype)


def share_batch(model: onnx.ModelProto, inputs: list[TensorSpec]) -> bool:
    """Whether the leading dimension of all inputs is unknown, and none says by its name that it is another one's."""
    if not inputs or not all(spec.shape and spec.shape[0] is None for spec in inputs):
        return False
    names = {
        entry.type.tensor_type.shape.dim[0].dim_param for entry in model.graph.input if entry.type.tensor_type.shape.dim
    }
    return len(names - {""}) <= 1


def vocabulary(model: onnx.ModelProto, inputs: list[TensorSpec]) -> dict[str, int]:
    """By input of whole numbers, or of floats that are cast to such: how many rows the tables have that they number.

    2 for masks, known by their names; 16 for how often a loop runs, which may be years for the largest number.
    """
    sizes = {tensor.name: tensor.dims[0] for tensor in model.graph.initializer if tensor.dims}
    bounds: dict[str, int] = {}
    whole = {spec.name for spec in inputs if spec.dtype.startswith(("int", "uint"))}
    # TensorFlow's embeddings take floats (their own casts come first): no float numbers rows but by a Cast.
    origin = {spec.name: spec.name for spec in inputs if spec.name in whole or spec.dtype.startswith("float")}
    for node in model.graph.node:
        if node.op_type in ("Gather", "EmbedLayerNormalization"):
            tables = _looked_up(node)
            for index, table in tables:
                source = origin.get(index)
                if source is not None and table in sizes:
                    bounds[source] = min(bounds.get(source, sizes[table]), sizes[table])
        if node.op_type == "Loop" and (source := origin.get(node.input[0])) is not None:
            bounds[source] = min(bounds.get(source, _TRIPS), _TRIPS)
        if node.op_type in _PASSING and node.input and node.input[0] in origin:
            origin.update(dict.fromkeys(node.output, origin[node.input[0]]))
    for spec in inputs:
        if spec.name in whole and spec.name not in bounds and "mask" in spec.name.lower():
            bounds[spec.name] = _MASKS
    return bounds


def _looked_up(node: onnx.NodeProto) -> Iterable[tuple[str, str]]:
    """(name of the numbers, name of the table)."""
    if node.op_type == "Gather":
        axis = next((entry.i for entry in node.attribute if entry.name == "axis"), 0)
        return [(node.input[1], node.input[0])] if axis == 0 else []
    names = [*node.input, *[""] * 4]
    return [(names[0], names[2]), (names[1], names[4])]


def is_channels_last(model: onnx.ModelProto) -> bool:
    """Whether its images come channels-last already: each input of rank 4 goes into transpositions to channels-first only."""
    images = [entry.name for entry in model.graph.input if len(entry.type.tensor_type.shape.dim) == 4]
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in _plain(model.graph.node):
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return bool(images) and all(
        readers.get(name) and all(_to_channels_first(node) for node in readers[name]) for name in images
    )


def _plain(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    return (node for node in nodes if node.op_type not in ("Shape", "Size"))


def _to_channels_first(node: onnx.NodeProto) -> bool:
    return node.op_type == "Transpose" and any(
        entry.name == "perm" and list(entry.ints) == [0, 3, 1, 2] for entry in node.attribute
    )


def with_steps(model: onnx.ModelProto, outputs: list[TensorSpec]) -> list[TensorSpec]:
    """The outputs with the step of those that the model quantizes: 1 of its integers, the scale of what is dequantized last."""
    made = {name: node for node in model.graph.node for name in node.output}
    scales = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer if not tensor.dims}
    found = []
    for spec in outputs:
        node = made.get(spec.name)
        while node is not None and node.op_type in _MOVING:
            node = made.get(node.input[0])
        step = 0.0
        if node is not None and node.op_type == "QuantizeLinear":
            step = 1.0
        elif node is not None and node.op_type == "DequantizeLinear" and node.input[1] in scales:
            step = float(scales[node.input[1]])
        found.append(replace(spec, step=step))
    return found
