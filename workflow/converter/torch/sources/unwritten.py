"""Memory that a model reads before anything was written to it (torch.empty): zeros, so that it means the same each time.

What depends on no input is computed while a file is made, and stored in it: whatever the process had left in that memory,
published where the outputs need not show it (times zero, not chosen).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch

from converter.errors import UnsupportedError
from converter.torch.exact.rewriting import Rule, Writer, rewrite
from converter.torch.program.kept_state import all_nodes
from converter.torch.trust.bounds import unbounded_operator

__all__ = ["refuse_unwritten", "write_program", "write_script"]

_aten = torch.ops.aten


def _full(write: Writer, node: torch.fx.Node) -> torch.fx.Node:
    size = node.args[1 if isinstance(node.args[0], torch.fx.Node) else 0]
    value = node.meta["val"]
    return write(_aten.full.default, size, 0, dtype=value.dtype, device=value.device)


def _like(write: Writer, node: torch.fx.Node) -> torch.fx.Node:
    return write(_aten.full_like.default, node.args[0], 0, dtype=node.meta["val"].dtype)


_RULES: dict[torch._ops.OpOverload, Rule] = {
    _aten.empty.memory_format: _full,
    _aten.empty_permuted.default: _full,
    _aten.empty_strided.default: _full,
    _aten.new_empty.default: _full,
    _aten.new_empty_strided.default: _full,
    _aten.empty_like.default: _like,
}


def write_program(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Edit the program in place, and return it."""
    rewrite(program, _RULES)
    return program


# In TorchScript, for operators of so many inputs: what takes their place, and which of the inputs that has.
_SCRIPT = {
    ("aten::empty", 6): ("aten::zeros", (0, 1, 2, 3, 4)),
    ("aten::empty_like", 6): ("aten::zeros_like", (0, 1, 2, 3, 4, 5)),
    ("aten::empty_strided", 6): ("aten::zeros", (0, 2, 3, 4, 5)),
    ("aten::new_empty", 6): ("aten::new_zeros", (0, 1, 2, 3, 4, 5)),
    ("aten::new_empty_strided", 7): ("aten::new_zeros", (0, 1, 3, 4, 5, 6)),
}
_LEFT = re.compile(r"aten::(new_)?empty(_\w+)?")


def write_script(script: torch.jit.ScriptModule) -> None:
    """The same in all methods of a module that has not run, and whose graph nobody has inlined, which is kept (torch 2.13)."""
    for part in script.modules():
        for method in part._c._method_names():
            graph = part._c._get_method(method).graph
            for node in list(all_nodes(graph)):
                if found := _SCRIPT.get((node.kind(), len(list(node.inputs())))):
                    _take_place(graph, node, *found)


def refuse_unwritten(path: Path, script: torch.jit.ScriptModule) -> None:
    """Raise UnsupportedError where a module reads such memory after write_script, in functions that are no methods."""
    kinds = {node.kind() for node in all_nodes(script.inlined_graph)} if hasattr(script, "forward") else set()
    if found := sorted(kind for kind in kinds if _LEFT.fullmatch(kind) or unbounded_operator(kind)):
        raise UnsupportedError(
            f"{path} reads memory that it has not written ({found[0]}): use torch.zeros there, and save it again"
        )


def _take_place(graph: torch.Graph, node: torch.Node, kind: str, positions: Sequence[int]) -> None:
    inputs = list(node.inputs())
    new = graph.create(kind, [inputs[position] for position in positions], 1)
    new.insertBefore(node)
    new.output().setType(node.output().type())
    node.output().replaceAllUsesWith(new.output())
    node.destroy()
