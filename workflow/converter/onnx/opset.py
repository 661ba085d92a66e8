"""A model at another opset, one boundary after the other: what changes there, adapters say, operator by operator.

onnx.version_converter (1.23) refuses most models downwards, knows nothing of many operators, and drops what it does not
know of a model. Where no adapter says otherwise, an operator stays as it is, after a look at its older definition: attributes
that this lacks may only have their default values, types that it lacks are replaced by wider ones, and an operator that did
not exist becomes the function that ONNX defines it by.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import onnx
import onnx.inliner
from onnx import GraphProto, ModelProto, NodeProto, defs

from converter.errors import UnsupportedError
from converter.onnx import adapters as _adapters  # noqa: F401  registers them
from converter.onnx.core.graphs import (
    STANDARD,
    FreshNames,
    Scope,
    all_graphs,
    forget_types,
    inferred,
    inner_graphs,
    model_opset,
    replace_fields,
)
from converter.onnx.core.registry import adapter
from converter.onnx.core.site import Site
from converter.onnx.fitting import check_attributes, fit_types
from converter.onnx.functions import function_model

__all__ = ["HIGHEST_OPSET", "LOWEST_OPSET", "convert_opset"]

LOWEST_OPSET, HIGHEST_OPSET = 7, 25
"""Below 7, broadcasting works differently; onnxruntime 1.32 has kernels for little of what came after 25."""

# Initializers need not be inputs from this version of the format on.
_LOWEST_IR = 4


def convert_opset(model: ModelProto, opset: int) -> ModelProto:
    """The model at this opset, the same object where it has it already; large weights may lie outside of it.

    Raises UnsupportedError where the opset cannot express an operator, or is not among those that are written.
    """
    current = model_opset(model)
    if current != opset and not LOWEST_OPSET <= opset <= HIGHEST_OPSET:
        raise UnsupportedError(
            f"onnx_opset {opset} cannot be written, only {LOWEST_OPSET} to {HIGHEST_OPSET}: "
            "set onnx_opset to one of these, or leave it out"
        )
    if current and current != opset:
        model = _inlined(model)
        _Conversion(model, opset).run(current)
    entry = next((entry for entry in model.opset_import if entry.domain in STANDARD), None)
    if entry is None:
        entry = model.opset_import.add()
    entry.version = opset
    model.ir_version = max(_LOWEST_IR, onnx.helper.find_min_ir_version_for(model.opset_import, ignore_unknown=True))
    return model


def _inlined(model: ModelProto) -> ModelProto:
    """Without functions of its own, whose nodes have no types of their own either."""
    return onnx.inliner.inline_local_functions(model) if model.functions else model


@functools.cache
def _boundaries(operator: str) -> frozenset[int]:
    """The opsets that define the operator anew."""
    return frozenset(
        schema.since_version for schema in _all_schemas() if schema.name == operator and schema.domain == ""
    )


@functools.cache
def _all_schemas() -> Sequence[defs.OpSchema]:
    return defs.get_all_schemas_with_history()


class _Conversion:
    def __init__(self, model: ModelProto, asked: int, names: FreshNames | None = None) -> None:
        self._model, self._asked = model, asked
        self._names = names or FreshNames(model)
        self._stale = True

    def run(self, current: int) -> None:
        while current != self._asked:
            upwards = self._asked > current
            boundary = current + 1 if upwards else current
            present = {node.op_type for graph in all_graphs(self._model.graph) for node in graph.node}
            if any(boundary in _boundaries(name) for name in present):
                if self._stale:
                    self._infer(current)
                self._graph(self._model.graph, None, boundary, upwards)
            current += 1 if upwards else -1
        forget_types(self._model)

    def _infer(self, opset: int) -> None:
        """Types and shapes of all values, as value_info; without raising where operators are not ONNX's."""
        entry = next(entry for entry in self._model.opset_import if entry.domain in STANDARD)
        entry.version = opset
        typed_model = inferred(self._model)
        for graph, typed in zip(all_graphs(self._model.graph), all_graphs(typed_model.graph), strict=True):
            replace_fields(graph.value_info, list(typed.value_info))
        self._stale = False

    def _graph(self, graph: GraphProto, parent: Scope | None, boundary: int, upwards: bool) -> None:
        scope = Scope(graph, parent)
        nodes: list[NodeProto] = []
        changed = False
        for node in graph.node:
            for inner in inner_graphs(node):
                self._graph(inner, scope, boundary, upwards)
            if node.domain in STANDARD and boundary in _boundaries(node.op_type):
                replaced = self._node(node, scope, boundary, upwards)
                changed = changed or len(replaced) != 1 or replaced[0] is not node
                nodes += replaced
            else:
                nodes.append(node)
        if changed:
            replace_fields(graph.node, nodes)
            self._stale = True

    def _node(self, node: NodeProto, scope: Scope, boundary: int, upwards: bool) -> list[NodeProto]:
        site = Site(node, scope, self._names, boundary, self._asked)
        operator = node.op_type
        if change := adapter(node.op_type, boundary, upwards):
            before = node.SerializeToString(deterministic=True)
            change(site)
            if not site.nodes and node.SerializeToString(deterministic=True) != before:
                self._stale = True
        if not upwards and not site.nodes and not _exists(node.op_type, boundary - 1):
            return self._function(site, boundary)
        if upwards:
            if not site.nodes and node.op_type == operator:
                check_attributes(site, _schema(node.op_type, boundary), upwards)
            return site.nodes or [node]
        result = []
        for made in site.nodes or [node]:
            if boundary in _boundaries(made.op_type) and _exists(made.op_type, boundary - 1):
                result += self._fitted(made, scope, boundary)
            elif made is not node and boundary in _boundaries(made.op_type):
                result += self._node(made, scope, boundary, upwards)
            else:
                result.append(made)
        return result

    def _fitted(self, node: NodeProto, scope: Scope, boundary: int) -> list[NodeProto]:
        """The node with the attributes and types of the opset below, else the nodes of its definition."""
        original = NodeProto()
        original.CopyFrom(node)
        site = Site(node, scope, self._names, boundary, self._asked)
        try:
            check_attributes(site, _schema(node.op_type, boundary - 1), upwards=False)
            fit_types(site, _schema(node.op_type, boundary - 1))
            return site.nodes or [node]
        except UnsupportedError as error:
            try:
                return self._function(Site(original, scope, self._names, boundary, self._asked), boundary)
            except UnsupportedError:
                raise error from None

    def _function(self, site: Site, boundary: int) -> list[NodeProto]:
        """The nodes of the operator's definition, at the opset below the boundary."""
        model = function_model(site, _schema(site.node.op_type, boundary), self._names)
        try:
            _Conversion(model, boundary - 1, self._names).run(model_opset(model))
        except UnsupportedError as error:
            raise site.refusal() from error
        site.scope.graph.initializer.extend(model.graph.initializer)
        return list(model.graph.node)


def _exists(operator: str, opset: int) -> bool:
    return any(version <= opset for version in _boundaries(operator))


def _schema(operator: str, opset: int) -> defs.OpSchema:
    return defs.get_schema(operator, opset, "")
