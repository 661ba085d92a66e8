"""Writing operators into an exported program, with the shape and dtype of each as torch.export keeps them."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Mapping, Sequence

import torch

__all__ = ["Rule", "Writer", "rewrite"]

Rule = Callable[["Writer", torch.fx.Node], "torch.fx.Node | None"]
"""What computes the same as a node, or None where the node is to stay."""


class Writer:
    """Adds operators in front of one node of a program; a call returns the new node."""

    def __init__(self, node: torch.fx.Node) -> None:
        self._node = node

    def __call__(self, target: torch._ops.OpOverload, *args: object, **kwargs: object) -> torch.fx.Node:
        """Call an operator before the node that is replaced; arguments are nodes or Python values. Returns the new node."""
        graph = self._node.graph
        with graph.inserting_before(self._node):
            node = graph.call_function(target, args, kwargs)
        # Where the source calls it, and in which module: the operator stands for the node's.
        node.meta = {key: value for key, value in self._node.meta.items() if key != "val"}
        values, named = torch.fx.node.map_arg((args, kwargs), lambda argument: argument.meta["val"])
        with _fake_mode(self._node), torch.no_grad():
            node.meta["val"] = target(*values, **named)
        return node


def _fake_mode(node: torch.fx.Node) -> contextlib.AbstractContextManager:
    """The mode in which the program's shapes, known or symbolic, were computed."""
    values = [node.meta.get("val"), *(source.meta.get("val") for source in node.all_input_nodes)]
    modes = [value.fake_mode for value in values if isinstance(value, torch._subclasses.FakeTensor)]
    return modes[0] if modes else contextlib.nullcontext()


def rewrite(program: torch.export.ExportedProgram, rules: Mapping[Callable, Rule]) -> None:
    """Apply each rule to the nodes of its operator, in place. Names of outputs stay: the signature refers to them.

    One of several results is the result of operator.getitem.
    """
    changed = False
    for module in program.graph_module.modules():
        if not isinstance(module, torch.fx.GraphModule):
            continue
        for node in list(module.graph.nodes):
            rule = rules.get(node.target) if node.op == "call_function" and not node._erased else None
            if rule is None or not isinstance(node.meta.get("val"), torch.Tensor):
                continue
            result = rule(Writer(node), node)
            if result is None:
                continue
            whole = node.args[0] if node.target is operator.getitem else None
            _take_over(node, result)
            if whole is not None:
                _erase_unused([*whole.users, whole])
            changed = True
        if changed:
            module.recompile()


def _erase_unused(nodes: Sequence[torch.fx.Node]) -> None:
    for node in nodes:
        if not node.users:
            node.graph.erase_node(node)


def _take_over(node: torch.fx.Node, result: torch.fx.Node) -> None:
    """Make `node` what `result` is: the last operator that its rule wrote."""
    if result.users or result.op != "call_function":  # also read within the rule, or an input handed through
        node.target, node.args, node.kwargs = torch.ops.aten.alias.default, (result,), {}
        return
    node.target, node.args, node.kwargs = result.target, result.args, result.kwargs
    result.graph.erase_node(result)
