"""torch.cond for files without branches: both sides are computed, and the results of the right one taken.

What the other side computes is lost, so it may be anything but an error: sides with operators that raise for some values
(a look-up behind the end of a table, a division of whole numbers by zero) stay as they are, and the target refuses them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from converter.torch.program.inlining import name_outputs, place_graph, replace_results

__all__ = ["select_branches"]

# Beginnings of the names of operators that look something up, or check; and of those that divide, shift or take powers, which
# raise for some whole numbers.
_LOOK_UP = ("index", "_index", "_unsafe_index", "gather", "take", "embedding", "scatter", "_assert", "put", "_embedding",
            "linalg", "_linalg", "cholesky", "inverse", "multinomial", "bincount", "one_hot")  # fmt: skip
_DIVIDE = ("div", "floor_divide", "remainder", "fmod", "pow", "bitwise_left_shift", "bitwise_right_shift", "__lshift__",
           "__rshift__")  # fmt: skip


def select_branches(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Replace each torch.cond that can be in the program itself, and return it."""
    module = program.graph_module
    changed = False
    while (node := next(filter(lambda node: _is_replaced(module, node), module.graph.nodes), None)) is not None:
        _select(module, node)
        changed = True
    if changed:
        name_outputs(program)
        module.graph.lint()
        module.recompile()
    return program


def _is_replaced(module: torch.fx.GraphModule, node: torch.fx.Node) -> bool:
    if node.op != "call_function" or node.target is not torch.ops.higher_order.cond:
        return False
    predicate, *parts, _ = node.args
    if not isinstance(predicate, torch.fx.Node) or not isinstance(predicate.meta.get("val"), torch.Tensor):
        return False  # of sizes
    sides = [list(_results(getattr(module, str(part.target)))) for part in parts]  # type: ignore[union-attr]
    alike = len(sides[0]) == len(sides[1]) and all(map(_are_alike, *sides))
    return alike and not any(_may_raise(getattr(module, str(part.target))) for part in parts)  # type: ignore[union-attr]


def _results(graph: torch.fx.GraphModule) -> Iterator[Any]:
    (output,) = (node for node in graph.graph.nodes if node.op == "output")
    for result in output.args[0]:
        yield result.meta.get("val") if isinstance(result, torch.fx.Node) else result


def _are_alike(one: Any, other: Any) -> bool:
    """Whether both are tensors of one dtype and shape."""
    if not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor):
        return False
    return one.dtype == other.dtype and [str(dim) for dim in one.shape] == [str(dim) for dim in other.shape]


def _may_raise(graph: torch.fx.GraphModule) -> bool:
    for node in graph.graph.nodes:
        if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
            if (
                isinstance(node.target, torch._ops.HigherOrderOperator)
                and node.target is not torch.ops.higher_order.cond
            ):
                return True
            continue
        name = node.target.__name__
        if name.startswith(_LOOK_UP):
            return True
        value = node.meta.get("val")
        is_whole = isinstance(value, torch.Tensor) and not value.dtype.is_floating_point
        by_number = len(node.args) > 1 and isinstance(node.args[1], int) and node.args[1] > 0
        if name.startswith(_DIVIDE) and is_whole and not by_number:
            return True
    return any(_may_raise(part) for part in graph.children() if isinstance(part, torch.fx.GraphModule))


def _select(module: torch.fx.GraphModule, node: torch.fx.Node) -> None:
    predicate, true, false, operands = node.args
    sides = [place_graph(module, node, part, operands) for part in (true, false)]  # type: ignore[arg-type]
    chosen = []
    with module.graph.inserting_before(node):
        for one, other in zip(*sides, strict=True):
            selected = module.graph.call_function(torch.ops.aten.where.self, (predicate, one, other))
            selected.meta = {**node.meta, "val": one.meta["val"]}
            chosen.append(selected)
    replace_results(module, node, chosen)
