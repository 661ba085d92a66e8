"""Remove from a TFLite model what nothing refers to any more."""

from __future__ import annotations

from collections.abc import Iterable

from converter.tflite.flatbuffer import schema

__all__ = ["drop_unused"]


def drop_unused(model: schema.ModelT) -> None:
    """Drop, in place, tensors that no operator, signature, input or output uses, then unused buffers and operator codes.

    Buffer 0 stays: the schema reserves it for "no data". References are renumbered, order is kept.
    """
    for position, subgraph in enumerate(model.subgraphs):
        signatures = [s for s in model.signatureDefs or [] if s.subgraphIndex == position]
        maps = [entry for s in signatures for entry in [*(s.inputs or []), *(s.outputs or [])]]
        used = {*_plain(subgraph.inputs), *_plain(subgraph.outputs), *(entry.tensorIndex for entry in maps)}
        for operator in subgraph.operators or []:
            used |= {*_plain(operator.inputs), *_plain(operator.outputs), *_plain(operator.intermediates)}
        new = _renumbering(len(subgraph.tensors), used)
        subgraph.tensors = [tensor for index, tensor in enumerate(subgraph.tensors) if index in new]
        subgraph.inputs, subgraph.outputs = _renumbered(subgraph.inputs, new), _renumbered(subgraph.outputs, new)
        for entry in maps:
            entry.tensorIndex = new[entry.tensorIndex]
        for operator in subgraph.operators or []:
            operator.inputs, operator.outputs = _renumbered(operator.inputs, new), _renumbered(operator.outputs, new)
            if operator.intermediates is not None:
                operator.intermediates = _renumbered(operator.intermediates, new)
    _drop_buffers(model)
    _drop_operator_codes(model)


def _drop_buffers(model: schema.ModelT) -> None:
    tensors = [tensor for subgraph in model.subgraphs for tensor in subgraph.tensors]
    used = {0, *(tensor.buffer for tensor in tensors), *(entry.buffer for entry in model.metadata or [])}
    used |= {*_plain(model.metadataBuffer)}
    new = _renumbering(len(model.buffers), used)
    model.buffers = [buffer for index, buffer in enumerate(model.buffers) if index in new]
    for holder in [*tensors, *(model.metadata or [])]:
        holder.buffer = new[holder.buffer]
    if model.metadataBuffer is not None:
        model.metadataBuffer = _renumbered(model.metadataBuffer, new)


def _drop_operator_codes(model: schema.ModelT) -> None:
    operators = [operator for subgraph in model.subgraphs for operator in subgraph.operators or []]
    new = _renumbering(len(model.operatorCodes), {operator.opcodeIndex for operator in operators})
    model.operatorCodes = [code for index, code in enumerate(model.operatorCodes) if index in new]
    for operator in operators:
        operator.opcodeIndex = new[operator.opcodeIndex]


def _plain(indices: Iterable[int] | None) -> list[int]:
    return [] if indices is None else [int(index) for index in indices]


def _renumbering(count: int, used: set[int]) -> dict[int, int]:
    """Old index to new; an absent optional input, -1, stays."""
    kept = [index for index in range(count) if index in used]
    return {-1: -1} | {old: new for new, old in enumerate(kept)}


def _renumbered(indices: Iterable[int] | None, new: dict[int, int]) -> list[int]:
    return [new[index] for index in _plain(indices)]
