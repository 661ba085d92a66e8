"""Names and order of a TFLite file's inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence

from converter.tflite.flatbuffer import schema

__all__ = ["SIGNATURE", "reorder_by_signature", "set_signature"]

SIGNATURE = "serving_default"


def set_signature(model: schema.ModelT, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Give the first subgraph, whose inputs and outputs are in this order, a signature with these names, in place.

    The converter writes signatures only for SavedModels. A tensor may be two outputs, or input and output; a tensor of
    one role takes its name there, so that tools which ignore signatures show it too.
    """
    subgraph = model.subgraphs[0]
    indices = [*subgraph.inputs, *subgraph.outputs]
    signature = schema.SignatureDefT()
    signature.signatureKey = SIGNATURE
    signature.subgraphIndex = 0
    signature.inputs = _maps(inputs, subgraph.inputs)
    signature.outputs = _maps(outputs, subgraph.outputs)
    model.signatureDefs = [signature]
    for name, index in zip([*inputs, *outputs], indices, strict=True):
        if indices.count(index) == 1:
            subgraph.tensors[index].name = name.encode()


def _maps(names: Sequence[str], indices: Sequence[int]) -> list[schema.TensorMapT]:
    maps = []
    for name, index in zip(names, indices, strict=True):
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, int(index)
        maps.append(entry)
    return maps


def reorder_by_signature(model: schema.ModelT, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Put the first subgraph's inputs and outputs into the order of these names of its signature, in place.

    Raises KeyError for a name that the signature lacks.
    """
    signature, subgraph = model.signatureDefs[0], model.subgraphs[0]
    by_name = [
        {entry.name.decode(): entry.tensorIndex for entry in entries}
        for entries in (signature.inputs, signature.outputs)
    ]
    subgraph.inputs = [by_name[0][name] for name in inputs]
    subgraph.outputs = [by_name[1][name] for name in outputs]
