"""Operators that an older opset lacks, as the function that ONNX defines them by."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.inliner
from onnx import FunctionProto, ModelProto, defs, helper

from converter.onnx.core.graphs import FreshNames, all_graphs, inner_graphs, rename_values, replace_fields
from converter.onnx.core.site import Site
from converter.onnx.simplify import remove_unused

__all__ = ["function_model"]

_DOMAIN = "converter.definition"


def function_model(site: Site, schema: defs.OpSchema, names: FreshNames) -> ModelProto:
    """The node's definition as a model, whose inputs and outputs have the names of the node's; all others are new ones.

    Its opset is the highest that ONNX has the definition in, up to the one above the site's boundary. Raises
    UnsupportedError where there is no definition.
    """
    body = _body(site, schema)
    if body is None:
        raise site.refusal()
    version = next(entry.version for entry in body.opset_import if entry.domain == "")
    node = onnx.NodeProto()
    node.CopyFrom(site.node)
    node.domain = body.domain = _DOMAIN
    body.name = node.op_type
    for name, said in schema.attributes.items():
        given = any(entry.name == name for entry in node.attribute)
        if not given and said.default_value.type and (name in body.attribute):
            node.attribute.append(said.default_value)
    known = {entry.name for entry in node.attribute}
    _drop_references(body.node, known)
    inputs = list(dict.fromkeys(name for name in node.input if name))
    outputs = [name for name in node.output if name]
    model = helper.make_model(
        helper.make_graph(
            [node],
            "definition",
            [_typed(site, name) for name in inputs],
            [_typed(site, name) for name in outputs],
        ),
        functions=[body],
        opset_imports=[helper.make_opsetid("", version), helper.make_opsetid(_DOMAIN, 1)],
        ir_version=10,
    )
    model = onnx.inliner.inline_local_functions(model)
    replace_fields(model.opset_import, [helper.make_opsetid("", version)])
    _make_scalars(model.graph)
    _rename(model, {*inputs, *outputs}, names, site.node.name or outputs[0])
    remove_unused(model)
    return model


def _make_scalars(graph: onnx.GraphProto) -> None:
    """AffineGrid's definition (onnx 1.23) gives Range vectors of one number, of which onnxruntime takes none that it knows."""
    nodes = []
    for node in graph.node:
        for inner in inner_graphs(node):
            _make_scalars(inner)
        if node.op_type == "Range":
            for position, name in enumerate(node.input):
                node.input[position] = scalar = f"{node.output[0]}_scalar_{position}"
                nodes.append(helper.make_node("Reshape", [name, f"{scalar}_shape"], [scalar]))
                graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(0, np.int64), f"{scalar}_shape"))
        nodes.append(node)
    replace_fields(graph.node, nodes)


def _body(site: Site, schema: Any) -> FunctionProto | None:
    """schema: an OpSchema, of whose methods for definitions its types say nothing (onnx 1.23)."""

    def best(versions: list[int]) -> int:
        return max((version for version in versions if version <= site.boundary), default=0)

    if schema.has_function and (version := best(schema.function_opset_versions)):
        return FunctionProto.FromString(schema.get_function_with_opset_version(version))
    if schema.has_context_dependent_function and (version := best(schema.context_dependent_function_opset_versions)):
        types = [site.scope.type(name) or onnx.TypeProto() for name in site.node.input]
        serialized = [kind.SerializeToString() for kind in types]
        text = schema.get_context_dependent_function_with_opset_version(
            version, site.node.SerializeToString(), serialized
        )
        return FunctionProto.FromString(text) if text else None
    return None


def _drop_references(nodes, known: set[str]) -> None:  # noqa: ANN001  (a repeated field)
    """Take away attributes that refer to those that the node does not have."""
    for node in nodes:
        kept = [entry for entry in node.attribute if not entry.ref_attr_name or entry.ref_attr_name in known]
        if len(kept) < len(node.attribute):
            replace_fields(node.attribute, kept)


def _typed(site: Site, name: str) -> onnx.ValueInfoProto:
    value = onnx.ValueInfoProto(name=name)
    if (kind := site.scope.type(name)) is not None:
        value.type.CopyFrom(kind)
    return value


def _rename(model: ModelProto, kept: set[str], names: FreshNames, stem: str) -> None:
    graphs = list(all_graphs(model.graph))
    made: dict[str, None] = {}
    for graph in graphs:
        made.update(dict.fromkeys(name for node in graph.node for name in node.output))
        made.update(dict.fromkeys(value.name for value in graph.input))
        made.update(dict.fromkeys(tensor.name for tensor in graph.initializer))
    rename_values(model.graph, {name: names(f"{stem}_{name}") for name in made if name and name not in kept})
    for graph in graphs:
        for node in graph.node:
            node.name = names(f"{stem}_{node.op_type}")
