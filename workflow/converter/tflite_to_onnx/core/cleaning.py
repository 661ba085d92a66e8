"""What is left of a graph's nodes: no copies, nothing that nobody reads, and as few changes of layout as can be."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from converter.tflite_to_onnx.core.graph import Constants
from converter.tflite_to_onnx.core.transposes import with_few_transposes

__all__ = ["cleaned"]


def cleaned(
    nodes: Sequence[onnx.NodeProto], outputs: Sequence[str], inputs: Sequence[str], constants: Constants
) -> list[onnx.NodeProto]:
    """The nodes that compute these outputs, in order."""
    kept = _without_unread(nodes, outputs)
    kept = with_few_transposes(kept, outputs, constants)
    kept = _without_copies(kept, outputs)
    return _without_unread(kept, outputs)


def captured(node: onnx.NodeProto) -> set[str]:
    """Names that graphs within the node read, their own among them."""
    found: set[str] = set()
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            found.update(entry.name for entry in attribute.g.output)
            for inner in attribute.g.node:
                found.update(inner.input)
                found |= captured(inner)
    return found


def _without_unread(nodes: Sequence[onnx.NodeProto], outputs: Sequence[str]) -> list[onnx.NodeProto]:
    read, kept = set(outputs), []
    for node in reversed(nodes):
        if any(name in read for name in node.output):
            kept.append(node)
            read.update(node.input)
            read |= captured(node)
    return kept[::-1]


def _without_copies(nodes: Sequence[onnx.NodeProto], outputs: Sequence[str]) -> list[onnx.NodeProto]:
    """Let what computes a value give it the output's name, where an Identity did."""
    made = {name for node in nodes for name in node.output}
    names: dict[str, str] = {}
    kept = []
    for node in nodes:
        source = node.input[0] if node.op_type == "Identity" else ""
        if source in made and source not in names and source not in outputs and node.output[0] in outputs:
            names[source] = node.output[0]
        else:
            kept.append(node)
    _rename(kept, names)
    return kept


def _rename(nodes: Sequence[onnx.NodeProto], names: dict[str, str]) -> None:
    for node in nodes:
        for entries in (node.input, node.output):
            for place, name in enumerate(entries):
                if name in names:
                    entries[place] = names[name]
                node.name = node.output[0]
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _rename(attribute.g.node, names)
                for entry in attribute.g.output:
                    entry.name = names.get(entry.name, entry.name)
