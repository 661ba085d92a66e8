"""Changes of an ONNX graph in place: what the faults of onnx_faults.py consist of."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import numpy as np
import onnx
from onnx import helper, numpy_helper

__all__ = [
    *("approximate_erf", "fill", "move_window"),
    *("Place", "activate", "at", "before", "bypass", "exchange_branches", "exchange_names", "graphs", "or_equal"),
    *("output_from", "rename", "reorder", "swap"),
]

# A graph's place: the (node, attribute) numbers that lead to it from the main one.
Place = tuple[tuple[int, int], ...]
# Attributes that make an operator of another name invalid are dropped.
_KEPT = {
    "MaxPool",
    "AveragePool",
    "ReduceSum",
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
    "ArgMax",
    "ArgMin",
    "Softmax",
    "LogSoftmax",
}


def graphs(graph: onnx.GraphProto, path: Place) -> Iterator[tuple[Place, onnx.GraphProto]]:
    yield path, graph
    for index, node in enumerate(graph.node):
        for number, attribute in enumerate(node.attribute):
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from graphs(attribute.g, (*path, (index, number)))


def at(model: onnx.ModelProto, path: Place) -> onnx.GraphProto:
    graph = model.graph
    for index, number in path:
        graph = graph.node[index].attribute[number].g
    return graph


def reorder(what: str, a: int, b: int) -> Callable[[onnx.ModelProto], None]:
    def apply(model: onnx.ModelProto) -> None:
        values = getattr(model.graph, what.removesuffix("s"))
        first = onnx.ValueInfoProto()
        first.CopyFrom(values[a])
        values[a].CopyFrom(values[b])
        values[b].CopyFrom(first)

    return apply


def exchange_names(what: str, a: int, b: int) -> Callable[[onnx.ModelProto], None]:
    """Positions compute what they did, under each other's name."""

    def apply(model: onnx.ModelProto) -> None:
        values = getattr(model.graph, what.removesuffix("s"))
        names = {values[a].name: values[b].name, values[b].name: values[a].name}
        values[a].name, values[b].name = values[b].name, values[a].name
        for _, graph in graphs(model.graph, ()):
            for node in graph.node:
                for fields in (node.input, node.output):
                    for place, name in enumerate(fields):
                        fields[place] = names.get(name, name)

    return apply


def output_from(graph: onnx.GraphProto, output: str, name: str) -> None:
    _rename_tensor(graph, output, f"{output}_before")
    graph.node.append(helper.make_node("Identity", [name], [output]))


def _rename_tensor(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for fields in (node.input, node.output):
            for place, name in enumerate(fields):
                if name == old:
                    fields[place] = new


def swap(node: onnx.NodeProto, a: int, b: int) -> None:
    node.input[a], node.input[b] = node.input[b], node.input[a]


def exchange_branches(graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    for attribute in node.attribute:
        attribute.name = {"then_branch": "else_branch", "else_branch": "then_branch"}.get(
            attribute.name, attribute.name
        )


def rename(node: onnx.NodeProto, new: str) -> None:
    if node.op_type not in _KEPT:
        del node.attribute[:]
    if new == "AveragePool":
        kept = [a for a in node.attribute if a.name not in ("storage_order", "dilations")]
        del node.attribute[:]
        node.attribute.extend(kept)
    if new == "MaxPool":
        kept = [a for a in node.attribute if a.name != "count_include_pad"]
        del node.attribute[:]
        node.attribute.extend(kept)
    node.op_type = new


def _place(graph: onnx.GraphProto, node: onnx.NodeProto) -> int:
    return next(place for place, other in enumerate(graph.node) if list(other.output) == list(node.output))


def _behind(graph: onnx.GraphProto, node: onnx.NodeProto, *operators: tuple[str, dict]) -> None:
    """Put operators of one input behind the node, before whatever takes its output."""
    output, name = node.output[0], re.sub(r"\W", "_", node.output[0])
    place = _place(graph, node)
    node.output[0] = f"{name}_inner"
    for number, (operator, attributes) in enumerate(operators):
        last = number == len(operators) - 1
        given = f"{name}_inner" if number == 0 else f"{name}_inner{number - 1}"
        made = helper.make_node(operator, [given], [output if last else f"{name}_inner{number}"], **attributes)
        graph.node.insert(place + 1 + number, made)


def before(graph: onnx.GraphProto, node: onnx.NodeProto, operator: str) -> None:
    name = f"{re.sub(r'[^0-9A-Za-z_]', '_', node.output[0])}_before"
    place = _place(graph, node)
    made = helper.make_node(operator, [node.input[0]], [name])
    node.input[0] = name
    graph.node.insert(place, made)


def activate(graph: onnx.GraphProto, node: onnx.NodeProto, new: str) -> None:
    if new != "Relu6":
        rename(node, new)
        return
    # min(x, 6), by operators that need no constant: 6 - relu(6 - x) is a LeakyRelu and others; Clip's bounds changed form.
    six = numpy_helper.from_array(np.array(6, np.float32), f"{node.output[0]}_six")
    graph.initializer.append(six)
    output, place = node.output[0], _place(graph, node)
    node.output[0] = f"{output}_inner"
    graph.node.insert(place + 1, helper.make_node("Min", [f"{output}_inner", six.name], [output]))


def or_equal(graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    """a <= b as not a > b, which every opset has."""
    node.op_type = {"Less": "Greater", "Greater": "Less"}[node.op_type]
    _behind(graph, node, ("Not", {}))


def bypass(graph: onnx.GraphProto, node: onnx.NodeProto, name: str) -> None:
    output, place = node.output[0], _place(graph, node)
    graph.node[place].CopyFrom(helper.make_node("Identity", [name], [output]))


def approximate_erf(graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    """erf(u) as tanh(1.12838 (u + 0.08943 u^3)), which makes GELU the one that is called tanh's."""
    given, output, place = node.input[0], node.output[0], _place(graph, node)
    names = {
        name: f"{output}_{name}" for name in ("square", "scaled", "more", "product", "small", "one", "factor", "sum")
    }
    for name, value in (("small", 0.08943), ("one", 1.0), ("factor", 1.1283792)):
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), names[name]))
    made = [
        helper.make_node("Mul", [given, given], [names["square"]]),
        helper.make_node("Mul", [names["square"], names["small"]], [names["scaled"]]),
        helper.make_node("Add", [names["scaled"], names["one"]], [names["more"]]),
        helper.make_node("Mul", [names["more"], given], [names["product"]]),
        helper.make_node("Mul", [names["product"], names["factor"]], [names["sum"]]),
        helper.make_node("Tanh", [names["sum"]], [output]),
    ]
    del graph.node[place]
    for number, new in enumerate(made):
        graph.node.insert(place + number, new)


def fill(node: onnx.NodeProto, value: float) -> None:
    """A ConstantOfShape of floats with another value."""
    old = next((attribute.t for attribute in node.attribute), None)
    if old is not None and numpy_helper.to_array(old).dtype.kind != "f":
        raise ValueError("whole numbers")
    dtype = np.float32 if old is None else numpy_helper.to_array(old).dtype
    del node.attribute[:]
    node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.array([value], dtype))))


def move_window(graph: onnx.GraphProto, node: onnx.NodeProto, step: int) -> None:
    """Start and end of a Slice, along its last axis, moved: as many values, but others."""
    for place in (1, 2):
        value = next(_values(other) for other in (*graph.initializer, *graph.node) if _gives(other, node.input[place]))
        changed = numpy_helper.to_array(value).copy()
        if abs(int(changed[-1])) < 2**30:  # else to the very end
            changed[-1] += step
        name = f"{node.output[0]}_moved{place}"
        graph.initializer.append(numpy_helper.from_array(changed, name))
        node.input[place] = name


def _gives(item: onnx.TensorProto | onnx.NodeProto, name: str) -> bool:
    return item.name == name if isinstance(item, onnx.TensorProto) else name in item.output


def _values(item: onnx.TensorProto | onnx.NodeProto) -> onnx.TensorProto:
    return item if isinstance(item, onnx.TensorProto) else item.attribute[0].t
