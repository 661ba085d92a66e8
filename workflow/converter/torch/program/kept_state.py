"""State that a model keeps from call to call: no converted file has any, and a few calls need not show it (a counter)."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch.export.graph_signature import InputKind, OutputKind

from converter.torch.extensions.exported_recurrence import followable_recurrence

__all__ = ["all_nodes", "changed_attribute", "changed_container", "kept_state"]


def kept_state(program: torch.export.ExportedProgram) -> str | None:
    """The name of a buffer that the program changes, and that its outputs depend on; None where there is none.

    Buffers that are written before they are read, or only counted (BatchNorm.num_batches_tracked), are no state.
    """
    if not program.graph_signature.buffers_to_mutate and not _may_write_to_buffer(program):
        return None
    # Operators that write in place are replaced, and what they write to is listed.
    with followable_recurrence():
        functional = copy.deepcopy(program).run_decompositions({})
    changed = set(functional.graph_signature.buffers_to_mutate.values())
    for spec in functional.graph_signature.input_specs:
        if spec.kind == InputKind.BUFFER and spec.target in changed and _reaches_output(functional, spec.arg.name):
            return spec.target
    return None


def _may_write_to_buffer(program: torch.export.ExportedProgram) -> bool:
    """Whether an operator writes to what may be a part of a buffer: what was computed from one first of all."""
    buffers = {
        spec.arg.name
        for spec in program.graph_signature.input_specs
        if spec.kind in (InputKind.BUFFER, InputKind.CONSTANT_TENSOR)
    }
    for node in program.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if isinstance(node.target, torch._ops.HigherOrderOperator) and _writes_within(program):
            return True
        if node.op != "call_function" or schema is None or not schema.is_mutable:
            continue
        for position, argument in enumerate(schema.arguments):
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            written = node.args[position] if position < len(node.args) else node.kwargs.get(argument.name)
            if any(_origin(part) in buffers for part in (written if isinstance(written, list | tuple) else [written])):
                return True
    return False


def _writes_within(program: torch.export.ExportedProgram) -> bool:
    """Whether an operator in a graph within the graph writes in place."""
    inner = (part for part in program.graph_module.modules() if part is not program.graph_module)
    nodes = itertools.chain.from_iterable(part.graph.nodes for part in inner if isinstance(part, torch.fx.GraphModule))
    return any(getattr(getattr(node.target, "_schema", None), "is_mutable", False) for node in nodes)


def _origin(node: object) -> str | None:
    """The input that a value was made from, following the first tensor of each operator, as views have it."""
    while isinstance(node, torch.fx.Node) and node.op == "call_function" and node.all_input_nodes:
        node = node.all_input_nodes[0]
    return node.name if isinstance(node, torch.fx.Node) else None


def _reaches_output(program: torch.export.ExportedProgram, name: str) -> bool:
    follows = {node for node in program.graph.nodes if node.op == "placeholder" and node.name == name}
    for node in program.graph.nodes:
        if node.op == "call_function" and any(source in follows for source in node.all_input_nodes):
            follows.add(node)
    results = {
        spec.arg.name
        for spec in program.graph_signature.output_specs
        if spec.kind == OutputKind.USER_OUTPUT and hasattr(spec.arg, "name")
    }
    return any(node.name in results for node in follows)


# TorchScript


def all_nodes(block: Any) -> Iterator[object]:
    """The nodes of a graph or a block, and of the blocks within them."""
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from all_nodes(inner)


def changed_attribute(script: torch.jit.ScriptModule) -> str | None:
    """An attribute that forward assigns to, or writes into, in a branch that can be taken in eval mode."""
    assigned = (node.s("name") for node in all_nodes(script.inlined_graph) if node.kind() == "prim::SetAttr")
    found = next(assigned, None) or changed_container(script)
    if found is not None or not any(_written(node) for node in all_nodes(script.inlined_graph)):
        return found
    # The code of BatchNorm counts its calls in training mode: a frozen module has lost that branch.
    frozen = torch.jit.freeze(script.eval(), optimize_numerics=False)
    return next(filter(None, map(_written, all_nodes(frozen.graph))), None)


def changed_container(script: torch.jit.ScriptModule) -> str | None:
    """An attribute that is a list or a dictionary, and that forward changes."""
    return next((name for node in all_nodes(script.inlined_graph) if (name := _written(node, ("List", "Dict")))), None)


def _written(node: Any, kinds: tuple[str, ...] = ("List", "Dict", "Tensor")) -> str | None:
    """The attribute that a node writes into in place."""
    for value, argument in zip(node.inputs(), _arguments(node), strict=False):
        is_write = argument.alias_info is not None and argument.alias_info.is_write
        if is_write and value.type().kind().removesuffix("Type") in kinds and (name := _attribute(value)) is not None:
            return name
    return None


def _attribute(value: Any) -> str | None:
    """The attribute that a value is, or is a view or an element of."""
    while (node := value.node()).kind() != "prim::GetAttr":
        arguments = _arguments(node)
        passes_on = node.kind() in ("aten::__getitem__", "prim::unchecked_cast")
        if not (passes_on or (arguments and arguments[0].alias_info is not None)):
            return None
        value = next(iter(node.inputs()))
    return node.s("name")


def _arguments(node: Any) -> list[object]:
    schema = node.schema()
    return [] if not schema or schema == "(no schema)" else torch._C.parse_schema(schema).arguments
