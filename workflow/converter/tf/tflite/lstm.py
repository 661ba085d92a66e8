"""Fused LSTM operators: no silent clipping, and the state they keep."""

from __future__ import annotations

from converter.tflite.flatbuffer import operators, schema

__all__ = ["STATE_NOTE", "keeps_state", "remove_cell_clip"]

STATE_NOTE = (
    "the model keeps its recurrent state between invocations: call reset_all_variables() on the interpreter "
    "before each new sequence"
)

_FUSED = ("LSTM", "UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM")


def remove_cell_clip(model: schema.ModelT) -> int:
    """Set the clip of every fused LSTM to 0, which means none, in place. Returns how many had one.

    The converter (TensorFlow 2.21) writes cell_clip = 10 whatever the source says: a cell beyond 10 comes out wrong.
    """
    clipped = 0
    for _, operator, name in operators(model):
        if name in _FUSED and operator.builtinOptions.cellClip:
            operator.builtinOptions.cellClip = 0.0
            clipped += 1
    return clipped


def keeps_state(model: schema.ModelT) -> bool:
    """Whether anything survives from one invocation to the next: variable tensors, or assigned resource variables."""
    return any(tensor.isVariable for subgraph in model.subgraphs for tensor in subgraph.tensors) or any(
        name == "ASSIGN_VARIABLE" for _, _, name in operators(model)
    )
