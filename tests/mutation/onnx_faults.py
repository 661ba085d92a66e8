"""Faults in ONNX files: every one that the file offers a place for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx
from onnx import helper, numpy_helper

from mutation.fault import Fault, large_value_changes, last_number_changes, weight_changes
from mutation.onnx_edits import (
    Place,
    activate,
    approximate_erf,
    at,
    before,
    bypass,
    exchange_branches,
    exchange_names,
    fill,
    graphs,
    move_window,
    or_equal,
    output_from,
    rename,
    reorder,
    swap,
)

__all__ = ["onnx_faults"]

_SWAPPED = {
    "Sub",
    "Div",
    "Pow",
    "Mod",
    "MatMul",
    "Concat",
    "Less",
    "Greater",
    "LessOrEqual",
    "GreaterOrEqual",
    "BitShift",
}
_REPLACED = {
    "Max": "Min",
    "Min": "Max",
    "Add": "Sub",
    "Sub": "Add",
    "Mul": "Div",
    "Div": "Mul",
    "And": "Or",
    "Or": "And",
    "ReduceSum": "ReduceMean",
    "ReduceMean": "ReduceSum",
    "ReduceMax": "ReduceMin",
    "ArgMax": "ArgMin",
    "Sin": "Cos",
    "MaxPool": "AveragePool",
    "AveragePool": "MaxPool",
    "GlobalAveragePool": "GlobalMaxPool",
    "Exp": "Abs",
    "GlobalMaxPool": "GlobalAveragePool",
    "Sqrt": "Abs",
    "Abs": "Neg",
    "Softmax": "LogSoftmax",
    "LogSoftmax": "Softmax",
}
_ACTIVATIONS = {
    "Relu": ("LeakyRelu", "Softplus", "Relu6"),
    "Sigmoid": ("HardSigmoid", "Tanh"),
    "Tanh": ("Softsign", "HardSigmoid"),
    "Erf": ("Tanh",),
    "LeakyRelu": ("Relu",),
    "Elu": ("Relu", "Selu"),
    "Selu": ("Elu",),
    "Softplus": ("Relu",),
    "HardSigmoid": ("Sigmoid",),
    "Softsign": ("Tanh",),
    "HardSwish": ("Relu",),
    "PRelu": (),
}
_ROUNDED = {"Round": ("Floor", "Ceil"), "Floor": ("Round", "Ceil"), "Ceil": ("Floor",)}
_COMPARED = {
    "Less": "Greater",
    "Greater": "Less",
    "LessOrEqual": "Less",
    "GreaterOrEqual": "Greater",
    "Equal": "GreaterOrEqual",
}
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16)


def onnx_faults(model: onnx.ModelProto, seed: int) -> list[Fault]:
    """In the order of the file; the same for the same file and seed."""
    rng = np.random.default_rng(seed)
    faults = []
    for path, graph in graphs(model.graph, ()):
        constants = {tensor.name: tensor for tensor in graph.initializer}
        for index, tensor in enumerate(graph.initializer):
            faults += _of_values(tensor, _initializer(path, index), _uses(graph, tensor.name), rng)
        for index, node in enumerate(graph.node):
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                uses = _uses(graph, node.output[0])
                faults += _of_values(node.attribute[0].t, _constant(path, index), uses, rng, node.output[0])
                constants[node.output[0]] = node.attribute[0].t
        types = _types(model) if not path else {}
        for index, node in enumerate(graph.node):
            faults += _of_node(path, index, node, constants, types)
    return [*faults, *_of_interface(model.graph)]


def _types(model: onnx.ModelProto) -> dict[str, int]:
    """Element types of the main graph's tensors, where they can be told."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info)}


def _initializer(path: Place, index: int) -> Callable[[onnx.ModelProto], onnx.TensorProto]:
    return lambda model: at(model, path).initializer[index]


def _constant(path: Place, index: int) -> Callable[[onnx.ModelProto], onnx.TensorProto]:
    return lambda model: at(model, path).node[index].attribute[0].t


def _uses(graph: onnx.GraphProto, name: str) -> list[tuple[str, int]]:
    """(operator, place among its inputs) of what takes the tensor."""
    return [(node.op_type, place) for node in graph.node for place, given in enumerate(node.input) if given == name]


def _of_values(tensor, find, uses, rng, name: str = "") -> Iterator[Fault]:  # noqa: ANN001
    name = name or tensor.name
    value = numpy_helper.to_array(tensor)
    if not uses or value.size == 0 or value.dtype.kind not in "fiu":
        return
    operator, place = uses[0]
    words = f"{name} of {operator}"

    def fault(kind: str, what: str, changed: np.ndarray) -> Fault:
        made = numpy_helper.from_array(np.ascontiguousarray(changed, value.dtype), tensor.name)
        return Fault(kind, f"{words}: {what}", lambda model: find(model).CopyFrom(made))

    if value.dtype.kind == "f" and value.size > 1 and np.ptp(value) and np.abs(value).max() < 1e4:
        for kind, what, changed in weight_changes(value, rng):
            yield fault(kind, what, changed)
        return
    for kind, what, changed in _of_constant(value, operator, place):
        yield fault(kind, what, changed)


# operator: the kind of fault that a change of its whole-numbered input is, by its place.
_INDICES = {
    "Slice": {1: "slice off by one", 2: "slice off by one", 3: "axis", 4: "slice off by one"},
    "Gather": {1: "slice off by one"},
    "Pad": {1: "padding"},
    "Split": {1: "slice off by one"},
    "CumSum": {1: "axis"},
    "TopK": {1: "constant"},
    "ReduceSum": {1: "axis"},
    "ReduceMean": {1: "axis"},
    "ReduceMax": {1: "axis"},
    "ReduceMin": {1: "axis"},
    "Unsqueeze": {1: "axis"},
    "Squeeze": {1: "axis"},
    "Reshape": {},
    "ConstantOfShape": {},
    "Expand": {},
    "Tile": {},
    "GatherElements": {1: "slice off by one"},
    "GatherND": {1: "slice off by one"},
    "Resize": {},
    "OneHot": {},
}


def _of_constant(value: np.ndarray, operator: str, place: int) -> Iterator[tuple[str, str, np.ndarray]]:
    if value.dtype.kind in "iu":
        kind = _INDICES.get(operator, {}).get(place, None if operator in _INDICES else "constant")
        if kind is None:
            return
        for words, changed in last_number_changes(value):
            yield kind, words, changed
        return
    largest = float(np.abs(value).max())
    if (changes := large_value_changes(value)) is not None:
        yield from changes
    elif largest == 0:
        kind = "state" if operator in ("LSTM", "GRU", "RNN", "Loop", "Scan") else "constant"
        yield kind, "0 -> 0.1", value + value.dtype.type(0.1)
    else:
        yield "constant", f"{value.reshape(-1)[0]:.4g} x 1.01", value * value.dtype.type(1.01)
        yield "constant", f"{value.reshape(-1)[0]:.4g} x 1.1", value * value.dtype.type(1.1)


def _of_node(path: Place, index: int, node: onnx.NodeProto, constants: dict, types: dict[str, int]) -> Iterator[Fault]:
    operator = node.op_type
    words = f"{operator} {node.name or node.output[0]}"

    def fault(kind: str, what: str, change: Callable[[onnx.GraphProto, onnx.NodeProto], None]) -> Fault:
        def apply(model: onnx.ModelProto) -> None:
            graph = at(model, path)
            change(graph, graph.node[index])

        return Fault(kind, f"{words}: {what}", apply)

    if operator in _SWAPPED and len(node.input) > 1 and node.input[0] != node.input[1]:
        yield fault("inputs swapped", "the first two", lambda graph, n: swap(n, 0, 1))
    if operator == "Where":
        yield fault("condition negated", "inputs exchanged", lambda graph, n: swap(n, 1, 2))
    if operator == "If":
        yield fault("condition negated", "branches exchanged", exchange_branches)
    if operator in _REPLACED:
        new = _REPLACED[operator]
        yield fault("operator replaced", new, lambda graph, n: rename(n, new))
    for new in _ACTIVATIONS.get(operator, ()):
        yield fault("activation", new, lambda graph, n, new=new: activate(graph, n, new))
    for new in _ROUNDED.get(operator, ()):
        yield fault("rounding, cast", new, lambda graph, n, new=new: rename(n, new))
    if operator in _COMPARED:
        yield fault("comparison", _COMPARED[operator], lambda graph, n: rename(n, _COMPARED[operator]))
        if operator in ("Less", "Greater"):
            yield fault("comparison", "or equal", or_equal)
    if operator == "Erf":
        yield fault("activation", "the approximation by tanh", approximate_erf)
    if operator == "ConstantOfShape":
        yield fault("state", "0.1 in place of its value", lambda graph, n: fill(n, 0.1))
    if operator == "Slice" and len(node.input) > 2 and {node.input[1], node.input[2]} <= set(constants):
        for step in (1, -1):
            yield fault("slice off by one", f"moved by {step}", lambda graph, n, step=step: move_window(graph, n, step))
    if operator == "Cast" and types.get(node.input[0], _FLOATS[0]) in _FLOATS:
        yield fault("rounding, cast", "rounded first", lambda graph, n: before(graph, n, "Round"))
        yield fault("rounding, cast", "floor first", lambda graph, n: before(graph, n, "Floor"))
    if operator in ("LSTM", "GRU", "RNN"):
        yield from _recurrent(node, fault)
    data = [name for name in node.input if name and name not in constants]
    if data and len(node.output) == 1 and operator not in ("Shape", "Constant", "Loop", "If", "Scan"):
        yield fault("operator missing", f"{data[0]} in place of its output", lambda graph, n: bypass(graph, n, data[0]))
    yield from _attributes(node, fault)


def _attributes(node: onnx.NodeProto, fault: Callable) -> Iterator[Fault]:
    present = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}

    def changed(kind: str, name: str, value: object) -> Fault:
        def change(graph: onnx.GraphProto, n: onnx.NodeProto) -> None:
            for attribute in n.attribute:
                if attribute.name == name:
                    attribute.CopyFrom(helper.make_attribute(name, value))
                    return
            n.attribute.append(helper.make_attribute(name, value))

        return fault(kind, f"{name} {present.get(name)} -> {value}", change)

    for name, value in present.items():
        if name in ("axis", "split_axis"):
            yield changed("axis", name, value - 1 if value > 0 else value + 1 if value == 0 else value - 1)
        elif name == "axes":
            yield changed("axis", name, [*value[:-1], value[-1] - 1 if value[-1] > 0 else value[-1] + 1])
        elif name == "perm" and len(value) > 1:
            for a in range(len(value) - 1):
                perm = list(value)
                perm[a], perm[a + 1] = perm[a + 1], perm[a]
                yield changed("axis", name, perm)
        elif name == "pads":
            half = len(value) // 2
            moved = list(value)
            place = next((k for k in range(half) if value[k] or value[k + half]), 0)
            source, target = (place, place + half) if moved[place] else (place + half, place)
            moved[source], moved[target] = moved[source] - 1, moved[target] + 1
            if moved[source] >= 0:
                yield changed("padding", name, moved)
            yield changed("padding", name, [*value[:-1], value[-1] + 1])
        elif name in ("strides", "dilations", "kernel_shape"):
            yield changed("stride, dilation, window", name, [*value[:-1], value[-1] + 1])
            if value[-1] > 1:
                yield changed("stride, dilation, window", name, [*value[:-1], value[-1] - 1])
        elif name == "ceil_mode":
            yield changed("stride, dilation, window", name, 1 - value)
        elif name == "epsilon":
            yield changed("epsilon", name, value * 10)
            yield changed("epsilon", name, 0.0)
        elif name in ("alpha", "beta", "gamma", "bias", "value", "min", "max") and isinstance(value, float):
            kind = "activation" if node.op_type in _ACTIVATIONS else "padding" if node.op_type == "Pad" else "constant"
            yield changed(kind, name, value * 1.1 if value else 0.1)
        elif name == "mode" and node.op_type in ("Resize", "Upsample"):
            yield changed("resize mode", name, "nearest" if value != b"nearest" else "linear")
        elif name == "mode" and node.op_type == "Pad":
            yield changed("padding", name, "edge" if value != b"edge" else "reflect")
        elif name == "coordinate_transformation_mode":
            for other in ("half_pixel", "asymmetric", "align_corners"):
                if other.encode() != value:
                    yield changed("resize mode", name, other)
        elif name == "nearest_mode":
            yield changed("resize mode", name, "floor" if value != b"floor" else "round_prefer_ceil")
        elif name in ("keepdims", "largest", "sorted", "fmod", "exclusive", "reverse", "transA", "transB"):
            yield changed("constant", name, 1 - value)
        elif name == "split":
            yield changed("slice off by one", name, [value[0] + 1, value[1] - 1, *value[2:]])
        elif name in ("starts", "ends"):
            yield changed("slice off by one", name, [*value[:-1], value[-1] + 1])
        elif name == "approximate":
            yield changed("activation", name, "tanh" if value == b"none" else "none")
    if node.op_type == "AveragePool":
        yield changed("padding", "count_include_pad", 1 - present.get("count_include_pad", 0))
    if node.op_type == "ArgMax":
        yield changed("rounding, cast", "select_last_index", 1)
    if node.op_type in ("LeakyRelu", "Elu", "Selu", "HardSigmoid") and "alpha" not in present:
        yield changed("activation", "alpha", {"LeakyRelu": 0.02, "Elu": 1.1, "Selu": 1.7}.get(node.op_type, 0.17))
    if node.op_type == "Gelu" and "approximate" not in present:
        yield changed("activation", "approximate", "tanh")


def _recurrent(node: onnx.NodeProto, fault: Callable) -> Iterator[Fault]:
    def put(name: str, value: object) -> Callable:
        def change(graph: onnx.GraphProto, n: onnx.NodeProto) -> None:
            kept = [attribute for attribute in n.attribute if attribute.name != name]
            del n.attribute[:]
            n.attribute.extend([*kept, helper.make_attribute(name, value)])

        return change

    yield fault("recurrence", "cells clipped at 0.5", put("clip", 0.5))
    direction = next((a.s for a in node.attribute if a.name == "direction"), b"forward")
    if direction != b"bidirectional":
        yield fault(
            "recurrence", "the other direction", put("direction", "reverse" if direction == b"forward" else "forward")
        )
    if node.op_type == "GRU":
        reset = next((a.i for a in node.attribute if a.name == "linear_before_reset"), 0)
        yield fault("recurrence", "reset before", put("linear_before_reset", 1 - reset))
    if node.op_type == "LSTM" and len(node.input) > 6 and node.input[5] != node.input[6]:
        yield fault("state", "state and cell exchanged", lambda graph, n: swap(n, 5, 6))
    if len(node.input) > 5 and node.input[5]:
        yield fault("state", "no initial state", lambda graph, n: n.input.__setitem__(5, ""))


def _of_interface(graph: onnx.GraphProto) -> Iterator[Fault]:
    def type_of(value: onnx.ValueInfoProto) -> tuple:
        tensor = value.type.tensor_type
        return tensor.elem_type, len(tensor.shape.dim)

    for what, values in (("outputs", graph.output), ("inputs", graph.input)):
        for a in range(len(values) - 1):
            b = a + 1
            names = f"{values[a].name} and {values[b].name}"
            yield Fault("outputs and inputs", f"{what} {names}: in the other order", reorder(what, a, b))
            if type_of(values[a]) == type_of(values[b]):
                yield Fault("outputs and inputs", f"{what} {names}: names exchanged", exchange_names(what, a, b))
    for value in graph.output:
        produced = [name for node in graph.node for name in node.output]
        before = [name for node in graph.node if value.name in node.output for name in node.input if name in produced]
        for name in before[:1]:
            words = f"output {value.name}: {name} in its place"
            yield Fault(
                "outputs and inputs", words, lambda model, o=value.name, name=name: output_from(model.graph, o, name)
            )
