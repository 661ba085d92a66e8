"""Parameters `input_nodes` and `output_nodes`: the part of a model between tensors of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from onnx import ModelProto, NodeProto, ValueInfoProto

from converter.errors import ParameterError, nearest
from converter.onnx.core.graphs import inferred, used_names

__all__ = ["cut"]


def cut(model: ModelProto, inputs: Sequence[str], outputs: Sequence[str]) -> ModelProto:
    """The part of the main graph that computes `outputs` from `inputs`, in these orders; the model stays as it is.

    inputs: empty for those of the model's own that the outputs depend on. outputs: empty for the model's own. A node's name
    stands for its only output. Raises ParameterError for names that are not there, for inputs that the outputs do not depend
    on, and for outputs that depend on more than the inputs.
    """
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output if name}
    weights = {tensor.name for tensor in graph.initializer} | {part.values.name for part in graph.sparse_initializer}
    own = [value.name for value in graph.input if value.name not in weights]
    ends = [_tensor(name, "output_nodes", makers, own, graph.node) for name in outputs]
    ends = ends or [value.name for value in graph.output]
    starts = [_tensor(name, "input_nodes", makers, own, graph.node) for name in inputs]
    for names, parameter in ((starts, "input_nodes"), (ends, "output_nodes")):
        if twice := next((name for place, name in enumerate(names) if name in names[:place]), None):
            raise ParameterError(f"{parameter}: {twice} is named twice")
    needed = _needed(makers, ends, set(starts))
    if not starts:
        starts = [name for name in own if name in needed]
        if not starts:
            raise ParameterError(f"output_nodes: {', '.join(ends)} depend on no input of the model")
    if missing := [name for name in own if name in needed and name not in starts]:
        raise ParameterError(
            f"input_nodes: {', '.join(ends)} also depend{'s' * (len(ends) == 1)} on the input{'s' * (len(missing) > 1)} "
            f"{', '.join(missing)}: name {'them' if len(missing) > 1 else 'it'} too, or tensors behind"
        )
    if idle := [name for name in starts if name not in needed]:
        raise ParameterError(f"input_nodes: {', '.join(ends)} do not depend on {', '.join(idle)}: leave it out")
    return _part(model, starts, ends, needed)


def _tensor(name: str, parameter: str, makers: dict[str, NodeProto], own: list[str], nodes: Iterable[NodeProto]) -> str:
    if name in makers or name in own:
        return name
    named = [node for node in nodes if node.name == name]
    made = [output for node in named for output in node.output if output]
    if len(made) == 1:
        return made[0]
    if made:
        raise ParameterError(f"{parameter}: node {name} gives {', '.join(made)}: name one of these")
    close = nearest(name, [*makers, *own, *(node.name for node in nodes if node.name)])
    few = [*own, *makers][:5]
    hint = f"did you mean {' or '.join(close)}?" if close else f"it has, for one, {', '.join(few)}"
    raise ParameterError(f"{parameter}: the model has no tensor {name} in its main graph; {hint}")


def _needed(makers: dict[str, NodeProto], ends: list[str], starts: set[str]) -> set[str]:
    """All that the ends are computed from, up to the starts; both included."""
    needed: set[str] = set()
    pending = list(ends)
    while pending:
        name = pending.pop()
        if name in needed:
            continue
        needed.add(name)
        if name not in starts and name in makers:
            pending += used_names(makers[name])
    return needed


def _part(model: ModelProto, starts: list[str], ends: list[str], needed: set[str]) -> ModelProto:
    part = ModelProto()
    for field, value in model.ListFields():
        if field.name == "graph":
            continue
        if field.is_repeated:
            getattr(part, field.name).extend(value)
        else:
            setattr(part, field.name, value)
    source, graph = model.graph, part.graph
    graph.name, graph.doc_string = source.name, source.doc_string
    graph.metadata_props.extend(source.metadata_props)
    begin = set(starts)
    # A node that gives an input beside what is needed stays, and gives it to nobody.
    for node in source.node:
        if any(name in needed and name not in begin for name in node.output):
            graph.node.append(node)
            for position, name in enumerate(node.output):
                if name in begin:
                    graph.node[-1].output[position] = ""
    graph.initializer.extend(tensor for tensor in source.initializer if tensor.name in needed)
    graph.sparse_initializer.extend(entry for entry in source.sparse_initializer if entry.values.name in needed)
    types = _types(model)
    graph.input.extend(_typed(name, types, "input_nodes") for name in starts)
    graph.output.extend(_typed(name, types, "output_nodes") for name in ends)
    graph.value_info.extend(value for value in source.value_info if value.name in needed and value.name not in begin)
    kept = {value.name for value in (*graph.input, *graph.output)}
    for value in [value for value in graph.value_info if value.name in kept]:
        graph.value_info.remove(value)
    return part


def _types(model: ModelProto) -> dict[str, ValueInfoProto]:
    graph = inferred(model).graph
    return {value.name: value for value in (*graph.value_info, *graph.output, *graph.input)}


def _typed(name: str, types: dict[str, ValueInfoProto], parameter: str) -> ValueInfoProto:
    value = types.get(name)
    kind = value.type.WhichOneof("value") if value is not None else None
    if value is not None and kind == "tensor_type" and value.type.tensor_type.elem_type:
        return value
    if kind is None or kind == "tensor_type":
        raise ParameterError(f"{parameter}: the type of {name} is not known: name another tensor, before or behind it")
    raise ParameterError(f"{parameter}: {name} is no tensor but of kind {kind.removesuffix('_type')}: name another")
