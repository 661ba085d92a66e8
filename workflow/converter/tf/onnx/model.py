"""From tf2onnx's model to the one that is written: the hub's names and shapes, canonical order, metadata, checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from converter.hub.hub import Hub, Run, TensorSpec
from converter.hub.reference import follows_batch
from converter.tf.onnx.deferred import DeferredTensors
from converter.tf.onnx.file import hoist_stand_ins
from converter.tf.onnx.graph import PreparedGraph
from converter.tf.onnx.names import canonicalize

__all__ = ["check_model", "finish_model", "output_specs"]


def output_specs(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> tuple[list[TensorSpec], list[str]]:
    """The outputs as an ONNX file can name them, and a sentence for each that had to be renamed.

    In ONNX a name stands for one tensor; a TensorFlow signature may call an input and an output alike.
    """
    taken = {spec.name for spec in inputs}
    renamed, notes = [], []
    for spec in outputs:
        name = spec.name
        while name in taken:
            name += "_output"
        taken.add(name)
        if name != spec.name:
            notes.append(f"output {spec.name} is named {name} in the ONNX file, where no two tensors share a name")
        renamed.append(TensorSpec(name, spec.shape, spec.dtype, spec.tensor))
    return renamed, notes


def finish_model(
    model: ModelProto,
    prepared: PreparedGraph,
    hub: Hub,
    outputs: Sequence[TensorSpec],
    runs: Sequence[Run],
    tensors: DeferredTensors,
    versions: Mapping[str, str],
) -> None:
    """Give `model`, in place, its final names, order, inputs, outputs and metadata.

    Unknown dimensions are named: "batch" for the batch, as `runs` show it on outputs, "unk__N" for each other one.
    """
    graph = model.graph
    found = {value.name: value.type.tensor_type.elem_type for value in [*graph.input, *graph.output]}
    names = dict(zip(prepared.inputs, (spec.name for spec in hub.inputs), strict=True))
    names |= dict(zip(prepared.outputs, (spec.name for spec in outputs), strict=True))
    counter = iter(range(1, 1 << 30))
    values = []
    for tensor, spec in zip(prepared.inputs, hub.inputs, strict=True):
        values.append(_value_info(tensor, spec, found.get(tensor), hub.batch_dynamic, counter))
    del graph.input[:]
    graph.input.extend(values)
    values = []
    for position, (tensor, spec) in enumerate(zip(prepared.outputs, outputs, strict=True)):
        follows = hub.batch_dynamic and follows_batch(runs, position)
        spec = replace(spec, shape=_shape_seen(runs, position) if spec.shape is None else spec.shape)
        values.append(_value_info(tensor, spec, found.get(tensor), follows, counter))
    del graph.output[:]
    graph.output.extend(values)
    canonicalize(model, names)
    for value in [*graph.input, *graph.output]:
        value.name = names.get(value.name, value.name)
    hoist_stand_ins(model, tensors)
    graph.name = "converter"
    domains = {node.domain for node in graph.node}
    kept = [entry for entry in model.opset_import if entry.domain == "" or entry.domain in domains]
    del model.opset_import[:]
    model.opset_import.extend([helper.make_opsetid(entry.domain, entry.version) for entry in kept])
    metadata = {
        "converter.source_sha256": hub.source.get("sha256") or "",
        "converter.versions": json.dumps(dict(sorted(versions.items()))),
    }
    helper.set_model_props(model, dict(sorted(metadata.items())))


def _value_info(tensor: str, spec: TensorSpec, found: int | None, batch: bool, counter) -> ValueInfoProto:  # noqa: ANN001
    """`found`: the element type in tf2onnx's model, which is the one that holds."""
    element = found or _element_type(spec.dtype)
    if spec.shape is None:
        return helper.make_tensor_value_info(tensor, element, None)
    dims: list[int | str] = []
    for axis, dim in enumerate(spec.shape):
        if dim is not None:
            dims.append(dim)
        else:
            dims.append("batch" if axis == 0 and batch else f"unk__{next(counter)}")
    return helper.make_tensor_value_info(tensor, element, dims)


def _element_type(dtype: str) -> int:
    return TensorProto.STRING if dtype == "string" else helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def _shape_seen(runs: Sequence[Run], position: int) -> tuple[None, ...] | None:
    """The rank that an output had in all runs, for one whose shape the graph does not know (TF1 loops)."""
    ranks = {run.outputs[position].ndim for run in runs}
    return (None,) * ranks.pop() if len(ranks) == 1 else None


def check_model(model: ModelProto, tensors: DeferredTensors) -> None:
    """onnx.checker on the model without its large tensors, which pass as inputs. Raises onnx.checker.ValidationError.

    An output of unknown rank is one without a shape, which the checker refuses and runtimes accept.
    """
    light = ModelProto()
    light.CopyFrom(model)
    for value in [*light.graph.input, *light.graph.output]:
        value.type.tensor_type.shape.SetInParent()
    del light.graph.initializer[:]
    for tensor in model.graph.initializer:
        if tensors.is_stand_in(tensor):
            light.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        else:
            light.graph.initializer.append(tensor)
    onnx.checker.check_model(light)
