"""Names and order of an ONNX model that do not depend on the run that made it, and the input and output names of the hub.

Nodes come in depth-first order from the outputs; a name made unique by a counter of the exporter ("Conv2D__123") loses
the counter and, where that leaves two alike, gets one that counts in the order of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto

__all__ = ["canonicalize", "subgraphs"]

_COUNTER = re.compile(r"_*__\d+")


def canonicalize(model: ModelProto, names: Mapping[str, str]) -> None:
    """Sort and rename everything in `model`, in place; drops nodes and initializers that no output needs.

    `names`: new names of graph inputs and outputs, by the present ones. All others give way where they collide with
    these. Names are unique over all subgraphs, which ONNX asks for and exporters do not always keep.
    """
    taken = set(names.values())
    for value in [*model.graph.input, *model.graph.output]:
        names = {value.name: value.name, **names}
        taken.add(names[value.name])
    _Renamer(taken).graph(model.graph, dict(names))


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The bodies of a Loop, If or Scan."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def _sources(node: NodeProto) -> list[str]:
    """Tensors that a node reads, those that its bodies take from outside included, without duplicates."""
    sources = dict.fromkeys(name for name in node.input if name)
    for body in subgraphs(node):
        inner = _defined(body)
        used = [name for child in body.node for name in _sources(child)] + [value.name for value in body.output]
        sources.update(dict.fromkeys(name for name in used if name not in inner))
    return list(sources)


def _defined(graph: GraphProto) -> set[str]:
    """Tensors that this graph itself gives a value."""
    names = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    return names | {name for node in graph.node for name in node.output}


def _ordered(graph: GraphProto) -> list[NodeProto]:
    """The nodes that the outputs need, depth first."""
    producers = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    order: list[int] = []
    done: set[int] = set()
    for output in graph.output:
        stack = [(producers[output.name], False)] if output.name in producers else []
        while stack:
            index, leaving = stack.pop()
            if leaving:
                order.append(index)
                continue
            if index in done:
                continue
            done.add(index)
            stack.append((index, True))
            stack += [
                (producers[name], False)
                for name in reversed(_sources(graph.node[index]))
                if name in producers and producers[name] not in done
            ]
    return [graph.node[index] for index in order]


class _Renamer:
    def __init__(self, taken: set[str]) -> None:
        self._taken = taken
        self._counts: dict[str, int] = {}
        self._nodes: set[str] = set()
        self._node_counts: dict[str, int] = {}

    def graph(self, graph: GraphProto, renamed: dict[str, str]) -> None:
        """`renamed`: names that are settled, those of enclosing graphs included."""
        nodes = [NodeProto.FromString(node.SerializeToString()) for node in _ordered(graph)]
        initializers = {tensor.name: tensor for tensor in graph.initializer}
        for value in graph.input:
            value.name = self._settle(value.name, renamed)
        used: dict[str, None] = {}
        for node in nodes:
            for name in _sources(node):
                if name in initializers:
                    used[name] = None
                    self._settle(name, renamed)
            for name in node.output:
                if name:
                    self._settle(name, renamed)
        for value in graph.output:
            if value.name in initializers:
                used[value.name] = None
            value.name = self._settle(value.name, renamed)
        for node in nodes:
            node.name = _unique(_COUNTER.sub("", node.name) or node.op_type, self._nodes, self._node_counts)
            for names in (node.input, node.output):
                names[:] = [renamed[name] if name else "" for name in names]
            for body in subgraphs(node):
                # tf2onnx 1.17 uses a name of an enclosing graph again where two bodies come from one function.
                own = _defined(body)
                self.graph(body, {old: new for old, new in renamed.items() if old not in own})
        kept = [initializers[name] for name in used]
        for tensor in kept:
            tensor.name = renamed[tensor.name]
        copies = GraphProto(node=nodes, initializer=kept)
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(copies.node)
        graph.initializer.extend(copies.initializer)
        graph.doc_string = ""

    def _settle(self, name: str, renamed: dict[str, str]) -> str:
        if name not in renamed:
            renamed[name] = _unique(_COUNTER.sub("", name) or "tensor", self._taken, self._counts)
        return renamed[name]


def _unique(base: str, taken: set[str], counts: dict[str, int]) -> str:
    """`base`, or "base_2" and on; before the output index of "name:0", which tells a tensor from its node."""
    stem, colon, index = base.partition(":")
    name = base
    while name in taken:
        counts[base] = counts.get(base, 1) + 1
        name = f"{stem}_{counts[base]}{colon}{index}"
    taken.add(name)
    return name
