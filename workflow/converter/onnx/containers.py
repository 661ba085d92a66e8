"""Models whose inputs or outputs are sequences or optionals, as models of tensors: what samples are drawn for, and compared.

A sequence among the inputs is given two tensors, an optional its value; of a sequence among the outputs, its length and each
of its tensors are compared, of an optional its value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, TypeProto, ValueInfoProto, helper

from converter.errors import SourceError, UnsupportedError
from converter.hub.hub import TensorSpec
from converter.onnx.core.graphs import FreshNames, replace_fields
from converter.verification.runtimes import OnnxModel
from converter.wording import first_line

__all__ = ["containers_of", "lengths_of", "refuse_containers", "tensors_only"]

_ELEMENTS = 2
_UNKNOWN_SIZE = 2
_CONTAINERS = ("sequence_type", "optional_type")


def containers_of(model: ModelProto) -> dict[str, str]:
    """By name of an input or output that is no tensor: "sequence" or "optional"."""
    entries = [*model.graph.input, *model.graph.output]
    return {e.name: form.removesuffix("_type") for e in entries if (form := e.type.WhichOneof("value")) in _CONTAINERS}


def refuse_containers(containers: Mapping[str, str]) -> None:
    """Raises UnsupportedError where there are any: formats other than ONNX hold tensors only."""
    for name, kind in containers.items():
        raise UnsupportedError(
            f"{name} is {'a sequence' if kind == 'sequence' else 'an optional'}, and only .onnx files hold those as inputs "
            "and outputs: cut the model there with input_nodes or output_nodes, or ask for an .onnx file"
        )


def tensors_only(model: ModelProto, lengths: Mapping[str, int]) -> ModelProto:
    """A copy whose inputs and outputs are tensors; the model itself where they are so already.

    lengths: of sequences among the outputs, by name; of others the length alone is an output.
    """
    if not containers_of(model):
        return model
    copied = ModelProto()
    copied.CopyFrom(model)
    names, before, inputs = FreshNames(copied), [], []
    for entry in copied.graph.input:
        inputs += _taken_apart(entry, names, before)
    nodes, outputs = [*before, *copied.graph.node], []
    for entry in copied.graph.output:
        outputs += _told(entry, names, nodes, lengths.get(entry.name, 0))
    replace_fields(copied.graph.node, nodes)
    replace_fields(copied.graph.input, inputs)
    replace_fields(copied.graph.output, outputs)
    return copied


def _taken_apart(entry: ValueInfoProto, names: FreshNames, nodes: list[NodeProto]) -> list[ValueInfoProto]:
    """The tensors that the input is made of, by nodes that are appended."""
    kind, value = entry.type, entry.name
    if kind.WhichOneof("value") == "optional_type":
        value = names(f"{entry.name}_value")
        nodes.append(helper.make_node("Optional", [value], [entry.name]))
        kind = kind.optional_type.elem_type
        if kind.WhichOneof("value") == "tensor_type":
            return [_typed(value, kind)]
    if kind.WhichOneof("value") != "sequence_type":
        return [entry]
    parts = [names(f"{entry.name}_{index}") for index in range(_ELEMENTS)]
    nodes.append(helper.make_node("SequenceConstruct", parts, [value]))
    nodes[-2:] = nodes[-1:] + nodes[-2:-1] if value != entry.name else nodes[-2:]  # what an optional holds comes first
    return [_typed(part, kind.sequence_type.elem_type) for part in parts]


def _told(entry: ValueInfoProto, names: FreshNames, nodes: list[NodeProto], length: int) -> list[ValueInfoProto]:
    """What is said of the output, by nodes that are appended."""
    kind, value = entry.type, entry.name
    if kind.WhichOneof("value") == "optional_type":
        value = names(f"{entry.name}_value")
        nodes.append(helper.make_node("OptionalGetElement", [entry.name], [value]))
        kind = kind.optional_type.elem_type
        if kind.WhichOneof("value") == "tensor_type":
            return [_typed(value, kind)]
    if kind.WhichOneof("value") != "sequence_type":
        return [entry]
    count = names(f"{entry.name}_length")
    nodes.append(helper.make_node("SequenceLength", [value], [count]))
    found = [helper.make_tensor_value_info(count, TensorProto.INT64, [])]
    for index in range(length):
        place, part = names(f"{entry.name}_place"), names(f"{entry.name}_{index}")
        number = onnx.numpy_helper.from_array(np.array(index, np.int64))
        nodes.append(helper.make_node("Constant", [], [place], value=number))
        nodes.append(helper.make_node("SequenceAt", [value, place], [part]))
        found.append(_typed(part, kind.sequence_type.elem_type))
        found[-1].type.tensor_type.ClearField("shape")
    return found


def _typed(name: str, kind: TypeProto) -> ValueInfoProto:
    entry = ValueInfoProto(name=name)
    entry.type.CopyFrom(kind)
    return entry


def lengths_of(model: ModelProto, inputs: Sequence[TensorSpec], runtime: OnnxModel, source: Path) -> dict[str, int]:
    """Of the sequences among the outputs, by name. inputs, runtime: of the model as `tensors_only` makes it without lengths.

    Raises SourceError where the model does not run on zeros.
    """
    zeros = [
        np.zeros([_UNKNOWN_SIZE if size is None else size for size in spec.shape or ()], spec.dtype) for spec in inputs
    ]
    try:
        results = dict(zip((spec.name for spec in runtime.outputs), runtime.run(zeros), strict=True))
    except Exception as error:  # whatever the runtime raises
        raise SourceError(f"{source}: the model itself fails on inputs of zeros: {first_line(error)}") from error
    return {
        entry.name: int(results[f"{entry.name}_length"])
        for entry in model.graph.output
        if f"{entry.name}_length" in results
    }
