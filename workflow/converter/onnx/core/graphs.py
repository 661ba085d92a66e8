"""What every pass over an ONNX graph needs: its inner graphs, the names in it, the types of its values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, numpy_helper

__all__ = [
    "STANDARD",
    "FreshNames",
    "Scope",
    "all_graphs",
    "constant_tensor",
    "forget_types",
    "inferred",
    "inner_graphs",
    "model_opset",
    "rename_values",
    "replace_fields",
    "type_text",
    "used_names",
]

STANDARD = ("", "ai.onnx")
"""The names of the domain of ONNX's own operators."""

# Shape inference looks into smaller ones for sizes.
_LARGE = 1024


def inner_graphs(node: NodeProto) -> list[GraphProto]:
    """Branches and bodies of control flow."""
    found = []
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            found.append(attribute.g)
        elif attribute.type == AttributeProto.GRAPHS:
            found += attribute.graphs
    return found


def all_graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """The graph and all inside of it, outer before inner."""
    yield graph
    for node in graph.node:
        for inner in inner_graphs(node):
            yield from all_graphs(inner)


def used_names(node: NodeProto) -> Iterator[str]:
    """The values that a node reads, those that its branches and bodies take from around them included."""
    yield from (name for name in node.input if name)
    for graph in inner_graphs(node):
        own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        own |= {name for inner in graph.node for name in inner.output}
        yield from (name for inner in graph.node for name in used_names(inner) if name not in own)
        yield from (value.name for value in graph.output if value.name not in own)


def model_opset(model: ModelProto) -> int:
    """The version of ONNX's own operators that the model asks for; 0 where it uses none."""
    return next((entry.version for entry in model.opset_import if entry.domain in STANDARD), 0)


def inferred(model: ModelProto) -> ModelProto:
    """The model with the types and shapes of all values that shape inference finds, and without its large weights.

    What the file says of values inside and of the shapes of outputs does not count, for it may be of other sizes or wrong;
    only of operators that are not ONNX's it does, since nothing infers them.
    """
    light = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    graph = light.graph
    graph.name = model.graph.name
    for field in ("node", "input", "output", "value_info", "sparse_initializer"):
        getattr(graph, field).extend(getattr(model.graph, field))
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) > _LARGE:
            tensor = TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="elsewhere")
        graph.initializer.append(tensor)
    forget_types(light)
    for value in graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    try:
        typed = onnx.shape_inference.infer_shapes(light, data_prop=True)
        while _note_ranks(typed):
            typed = onnx.shape_inference.infer_shapes(typed, data_prop=True)
    except onnx.shape_inference.InferenceError:  # types contradict each other: onnxruntime says better where
        return light
    return typed


def _note_ranks(model: ModelProto) -> bool:
    """Add the ranks that follow from the lengths of computed shapes, which onnx (1.23) does not see; whether there are any."""
    found = False
    for graph in all_graphs(model.graph):
        values = {value.name: value for value in (*graph.input, *graph.output, *graph.value_info)}
        for node in graph.node:
            place = {"Reshape": 1, "ConstantOfShape": 0}.get(node.op_type)
            value = values.get(node.output[0]) if place is not None and node.domain in STANDARD else None
            if (
                place is None
                or value is None
                or not value.type.tensor_type.elem_type
                or value.type.tensor_type.HasField("shape")
            ):
                continue
            sizes = values[node.input[place]].type.tensor_type.shape.dim if node.input[place] in values else ()
            if len(sizes) == 1 and sizes[0].HasField("dim_value"):
                value.type.tensor_type.shape.SetInParent()
                for _ in range(sizes[0].dim_value):
                    value.type.tensor_type.shape.dim.add()
                found = True
    return found


def forget_types(model: ModelProto) -> None:
    """Take the types of values inside out of the model, but not those that operators give which are not ONNX's."""
    for graph in all_graphs(model.graph):
        foreign = {name for node in graph.node if node.domain not in STANDARD for name in node.output}
        kept = [value for value in graph.value_info if value.name in foreign]
        if len(kept) < len(graph.value_info):
            replace_fields(graph.value_info, kept)


def rename_values(graph: GraphProto, renamed: Mapping[str, str]) -> None:
    """Give values other names, in the graph and in all inside of it."""
    for inner in all_graphs(graph):
        for value in (*inner.input, *inner.output, *inner.value_info, *inner.initializer):
            value.name = renamed.get(value.name, value.name)
        for tensor in inner.sparse_initializer:
            tensor.values.name = renamed.get(tensor.values.name, tensor.values.name)
        for node in inner.node:
            for field in (node.input, node.output):
                for position, name in enumerate(field):
                    if name in renamed:
                        field[position] = renamed[name]


def replace_fields(field, values: list) -> None:  # noqa: ANN001  (a repeated field; protobuf's classes have no public name)
    """Make a repeated field of messages hold these, which may be its own."""
    copies = []
    for value in values:
        copy = type(value)()
        copy.CopyFrom(value)
        copies.append(copy)
    del field[:]
    field.extend(copies)


class FreshNames:
    """Names for new values and nodes that the model does not have, the same ones every time."""

    def __init__(self, model: ModelProto) -> None:
        self._taken: set[str] = set()
        self._counts: dict[str, int] = {}
        for graph in all_graphs(model.graph):
            self._taken.update(value.name for value in (*graph.input, *graph.output, *graph.value_info))
            self._taken.update(tensor.name for tensor in graph.initializer)
            self._taken.update(tensor.values.name for tensor in graph.sparse_initializer)
            for node in graph.node:
                self._taken.update((node.name, *node.input, *node.output))

    def __call__(self, stem: str) -> str:
        """A name that begins with `stem`."""
        while True:
            number = self._counts.get(stem, 0)
            self._counts[stem] = number + 1
            name = f"{stem}_{number}" if number else stem
            if name not in self._taken:
                self._taken.add(name)
                return name


class Scope:
    """The types and constants that the nodes of a graph see, those of the graphs around it included."""

    def __init__(self, graph: GraphProto, parent: Scope | None = None) -> None:
        self.graph, self._parent = graph, parent
        self._types: dict[str, TypeProto] = {}
        self._constants: dict[str, TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        self._arrays: dict[str, np.ndarray] = {}
        self._own: dict[tuple, str] = {}
        for value in (*graph.value_info, *graph.input, *graph.output):
            if value.type.WhichOneof("value"):
                self._types[value.name] = value.type
        for node in graph.node:
            if node.op_type == "Constant" and node.domain in STANDARD:
                tensor = constant_tensor(node)
                if tensor is not None:
                    self._constants[node.output[0]] = tensor

    def type(self, name: str) -> TypeProto | None:
        """The type of a value, None where shape inference knows none."""
        scope: Scope | None = self
        while scope:
            if name in scope._types:
                return scope._types[name]
            if (tensor := scope._constants.get(name)) is not None:
                return onnx.helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
            scope = scope._parent
        return None

    def constant(self, name: str) -> np.ndarray | None:
        """The value of a constant; None for all else, and for weights that are not in the model."""
        scope: Scope | None = self
        while scope:
            if name in scope._arrays:
                return scope._arrays[name]
            if (tensor := scope._constants.get(name)) is not None:
                if tensor.data_location == TensorProto.EXTERNAL:
                    return None
                return scope._arrays.setdefault(name, numpy_helper.to_array(tensor))
            if name in scope._types and scope._parent and name in {value.name for value in scope.graph.input}:
                return None
            scope = scope._parent
        return None

    def add_constant(self, array: np.ndarray, names: FreshNames, stem: str) -> str:
        """The name of an initializer with this value, a new one unless there is one from here already."""
        key = (array.dtype.str, array.dtype.name, array.shape, array.tobytes() if array.dtype != object else str(array))
        if key not in self._own:
            name = names(stem)
            tensor = numpy_helper.from_array(array, name)
            self.graph.initializer.append(tensor)
            self._constants[name], self._arrays[name] = tensor, array
            self._own[key] = name
        return self._own[key]

    def add_type(self, name: str, kind: TypeProto) -> None:
        """Note the type of a new value."""
        self._types[name] = kind


def constant_tensor(node: NodeProto) -> TensorProto | None:
    """What a Constant holds; None for a sparse one."""
    attribute = node.attribute[0]
    match attribute.name:
        case "value":
            return attribute.t
        case "value_float" | "value_floats":
            data = np.array(attribute.f if attribute.name == "value_float" else list(attribute.floats), np.float32)
        case "value_int" | "value_ints":
            data = np.array(attribute.i if attribute.name == "value_int" else list(attribute.ints), np.int64)
        case "value_string":
            data = np.array(attribute.s, object)
        case "value_strings":
            data = np.array(list(attribute.strings), object)
        case _:
            return None
    return numpy_helper.from_array(data)


def type_text(kind: TypeProto) -> str:
    """As operators' schemas write it: "tensor(float)", "seq(tensor(int64))"."""
    match kind.WhichOneof("value"):
        case "tensor_type":
            return f"tensor({_element(kind.tensor_type.elem_type)})"
        case "sequence_type":
            return f"seq({type_text(kind.sequence_type.elem_type)})"
        case "optional_type":
            return f"optional({type_text(kind.optional_type.elem_type)})"
        case "sparse_tensor_type":
            return f"sparse_tensor({_element(kind.sparse_tensor_type.elem_type)})"
    return ""


def _element(number: int) -> str:
    return TensorProto.DataType.Name(number).lower()
