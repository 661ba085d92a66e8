"""The program without operators that write into their inputs, decomposed as far as converters need it."""

from __future__ import annotations

import operator
from typing import Any

import torch

from converter.torch.compositions.table import is_composed
from converter.torch.extensions.exported_recurrence import followable_recurrence
from converter.torch_to_keras.registry import converter_of, decompositions

__all__ = ["functional_program"]

aten = torch.ops.aten
# Operators whose result is always memory of its own: nothing else can see that it is overwritten.
_FRESH = {
    aten.conv1d.default, aten.conv2d.default, aten.conv3d.default, aten.conv2d.padding, aten.linear.default,
    aten.batch_norm.default, aten.layer_norm.default, aten.group_norm.default, aten.add.Tensor, aten.sub.Tensor,
    aten.mul.Tensor, aten.div.Tensor, aten.cat.default, aten.conv_transpose2d.input, aten.matmul.default,
}  # fmt: skip


def functional_program(
    program: torch.export.ExportedProgram,
) -> tuple[torch.export.ExportedProgram, torch.fx.Graph]:
    """The program and the graph to convert.

    torch's own way, `run_decompositions`, traces the program again: of a resnet18's conversion that is more than half of
    the time. Where each operator has a converter already, and each that writes into its input (`relu_`) overwrites what
    nobody else reads, the graph is taken as it is, with `relu` in the place of `relu_`.
    """
    graph = _without_writes(program.graph)
    if graph is not None:
        return program, graph
    with followable_recurrence():
        program = program.run_decompositions(decompositions())
    return program, program.graph


def _without_writes(graph: torch.fx.Graph) -> torch.fx.Graph | None:
    """A copy of the graph with operators that write replaced, None where that is not enough."""
    copied = torch.fx.Graph()
    copies: dict[torch.fx.Node, torch.fx.Node] = {}
    for node in graph.nodes:
        target = node.target
        if node.op == "call_function":
            target = _replacement(node)
            if target is None:
                return None
        elif node.op == "get_attr":
            return None
        copies[node] = copied.node_copy(node, copies.__getitem__)
        copies[node].target = target
    return copied


def _replacement(node: torch.fx.Node) -> Any:
    """The node's operator or its counterpart that does not write; None where there is no converter for it."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        symbolic = isinstance(node.meta.get("val"), torch.SymInt | torch.SymFloat | torch.SymBool | int | float)
        return target if target is operator.getitem or symbolic else None
    if not target._schema.is_mutable:
        if is_composed(node):
            return None
        known = converter_of(target) is not None or target.__name__.startswith(("sym_", "_assert"))
        return target if known else None
    name, _, overload = target.__name__.partition(".")
    pure = getattr(getattr(aten, name.removesuffix("_"), None), overload, None)
    overwritten = node.args[0]
    if not name.endswith("_") or converter_of(pure) is None or len(overwritten.users) != 1:
        return None
    fresh = overwritten.target in _FRESH or (
        overwritten.op == "call_function"
        and isinstance(overwritten.target, torch._ops.OpOverload)
        and overwritten.target._schema.is_mutable
        and _replacement(overwritten) is not None
    )
    return pure if fresh else None
