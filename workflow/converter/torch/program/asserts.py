"""Numbers that a program reads from values of its inputs only to check them: `assert lengths.max().item() <= size`."""

from __future__ import annotations

import torch

__all__ = ["drop_checks", "only_checked"]

_aten = torch.ops.aten
_CHECKS = (
    _aten._assert_async.msg,
    _aten._assert_async.default,
    _aten._assert_scalar.default,
    _aten.sym_constrain_range.default,
    _aten.sym_constrain_range_for_size.default,
)


def only_checked(node: torch.fx.Node) -> bool:
    """Whether nothing but checks follows from this number."""
    return all(user.target in _CHECKS or (_is_number(user) and only_checked(user)) for user in node.users)


def drop_checks(program: torch.export.ExportedProgram) -> None:
    """Take the checks of such numbers out of the program, in place: no target stops at a wrong value."""
    graph = program.graph
    changed = False
    for node in reversed(list(graph.nodes)):
        reads = node.op == "call_function" and any(not _is_number(source) for source in node.all_input_nodes)
        if _is_number(node) and reads and node.users and only_checked(node):
            for user in _following(node):
                graph.erase_node(user)
            graph.erase_node(node)
            changed = True
    if changed:
        graph.eliminate_dead_code()
        program.graph_module.recompile()


def _is_number(node: torch.fx.Node) -> bool:
    return isinstance(node.meta.get("val"), torch.SymInt | torch.SymFloat | torch.SymBool | int | float | bool)


def _following(node: torch.fx.Node) -> list[torch.fx.Node]:
    """All that follows from a node, the last first."""
    found: dict[torch.fx.Node, None] = {}
    pending = list(node.users)
    while pending:
        user = pending.pop()
        found[user] = None
        pending += user.users
    order = {each: place for place, each in enumerate(node.graph.nodes)}
    return sorted(found, key=order.__getitem__, reverse=True)
