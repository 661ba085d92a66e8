"""Parts of a program that torch.export keeps apart without need: what runs under torch.no_grad or torch.autocast.

They become operators that run a graph of their own (wrap_with_set_grad_enabled, wrap_with_autocast, torch 2.13). A converted
file has no gradients; and an autocast that is switched off, or asks for float32, changes nothing in a float32 program.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch.export.graph_signature import SymIntArgument, TensorArgument

__all__ = ["inline_wrapped", "name_outputs", "place_graph", "replace_results"]


def inline_wrapped(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Put the graphs of such operators in their places, in the program itself, and return it."""
    module = program.graph_module
    wrapped = [node for node in module.graph.nodes if _is_inlined(node)]
    if not wrapped:
        return program
    while wrapped:
        _inline(module, wrapped[0])
        wrapped = [node for node in module.graph.nodes if _is_inlined(node)]  # one may stand within another
    name_outputs(program)
    module.graph.lint()
    module.recompile()
    return program


def name_outputs(program: torch.export.ExportedProgram) -> None:
    """The signature names the nodes that outputs and changed buffers come from: what was inlined has others."""
    (output,) = (node for node in program.graph.nodes if node.op == "output")
    for result, spec in zip(output.args[0], program.graph_signature.output_specs, strict=True):
        if isinstance(result, torch.fx.Node) and isinstance(spec.arg, TensorArgument | SymIntArgument):
            spec.arg.name = result.name


def _is_inlined(node: torch.fx.Node) -> bool:
    if node.op != "call_function" or not isinstance(node.target, torch._ops.HigherOrderOperator):
        return False
    if node.target.name() == "wrap_with_set_grad_enabled":
        return True
    # (device, dtype, enabled, cache_enabled, graph, *inputs)
    return node.target.name() == "wrap_with_autocast" and (node.args[2] is False or node.args[1] == torch.float32)


def _inline(module: torch.fx.GraphModule, node: torch.fx.Node) -> None:
    position = next(i for i, a in enumerate(node.args) if isinstance(a, torch.fx.Node) and a.op == "get_attr")
    items = place_graph(module, node, node.args[position], node.args[position + 1 :])  # type: ignore[arg-type]
    replace_results(module, node, items)


def place_graph(
    module: torch.fx.GraphModule, before: torch.fx.Node, part: torch.fx.Node, inputs: Sequence[Any]
) -> list[Any]:
    """Copy the graph that `part` reads, a graph of its own, in front of a node, given `inputs`. Its results."""
    inner = getattr(module, str(part.target))
    placed: dict[torch.fx.Node, Any] = {}
    given = iter(inputs)
    results: Any = ()
    with module.graph.inserting_before(before):
        for own in inner.graph.nodes:
            if own.op == "placeholder":
                placed[own] = next(given)
            elif own.op == "output":
                results = torch.fx.map_arg(own.args[0], lambda n: placed[n])
            elif own.op == "get_attr":
                name = _free_name(module, str(own.target))
                setattr(module, name, getattr(inner, str(own.target)))
                placed[own] = module.graph.get_attr(name)
                placed[own].meta = dict(own.meta)  # type: ignore[attr-defined]
            else:
                placed[own] = module.graph.node_copy(own, lambda n: placed[n])  # type: ignore[arg-type, return-value]
    return list(results) if isinstance(results, list | tuple) else [results]


def replace_results(module: torch.fx.GraphModule, node: torch.fx.Node, items: Sequence[Any]) -> None:
    """Put `items` in the place of the results of a node that runs graphs of its own, and remove it and what reads them."""
    parts = [argument for argument in node.args if isinstance(argument, torch.fx.Node) and argument.op == "get_attr"]
    for user in list(node.users):
        if user.op == "call_function" and user.target is operator.getitem and isinstance(user.args[1], int):
            user.replace_all_uses_with(items[user.args[1]])
            module.graph.erase_node(user)
    if node.users:
        node.replace_all_uses_with(items[0])
    module.graph.erase_node(node)
    for part in parts:
        if not part.users:
            module.graph.erase_node(part)


def _free_name(module: torch.fx.GraphModule, name: str) -> str:
    while hasattr(module, name):
        name += "_"
    return name
