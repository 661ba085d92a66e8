"""The finishing touches on an ONNX file written by torch: names and shapes of the hub, metadata, nothing of this machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from converter.errors import UnsupportedError
from converter.file_limits import MAX_BYTES
from converter.hub.hub import Hub, Run, TensorSpec

__all__ = ["dynamic_axes", "finish_model", "model_opset", "save"]


def dynamic_axes(hub: Hub, runs: list[Run]) -> dict[str, dict[int, str]]:
    """{name: {axis: dimension's name}} of every unknown dimension; the batch is called batch wherever it appears."""
    axes: dict[str, dict[int, str]] = {}
    for spec in hub.inputs:
        axes[spec.name] = _named_axes(spec, hub.batch_dynamic)
    for position, spec in enumerate(hub.outputs):
        follows = hub.batch_dynamic and all(
            run.outputs[position].ndim and run.outputs[position].shape[0] == run.inputs[0].shape[0] for run in runs
        )
        axes[spec.name] = _named_axes(spec, follows)
    return {name: named for name, named in axes.items() if named}


def _named_axes(spec: TensorSpec, leads_with_batch: bool) -> dict[int, str]:
    return {
        axis: "batch" if axis == 0 and leads_with_batch else f"{spec.name}_{axis}"
        for axis, dim in enumerate(spec.shape)
        if dim is None
    }


def model_opset(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that the model asks for."""
    return next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def _restore_inputs(graph: onnx.GraphProto, hub: Hub) -> None:
    """The exporter by traces drops inputs that no result depends on; whoever runs the file gives them all the same."""
    there = {value.name: value for value in graph.input}
    if set(there) < {spec.name for spec in hub.inputs}:
        kinds = {spec.name: helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype)) for spec in hub.inputs}
        entries = [there.get(name) or helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()]
        copies = [onnx.ValueInfoProto.FromString(entry.SerializeToString()) for entry in entries]
        del graph.input[:]
        graph.input.extend(copies)


def finish_model(model: onnx.ModelProto, hub: Hub, runs: list[Run], versions: Mapping[str, str]) -> None:
    """In place: the hub's shapes on inputs and outputs, the converter's metadata; the exporters' traces are removed.

    The dynamo exporter notes source lines with full paths on every node, the other one in doc strings.
    Raises UnsupportedError when the model uses operators that are not ONNX's own.
    """
    graph = model.graph
    foreign = sorted({f"{node.domain}::{node.op_type}" for node in graph.node if node.domain not in ("", "ai.onnx")})
    used = {node.domain for node in graph.node}
    local = {(function.domain, function.name) for function in model.functions}
    unknown = [name for name in foreign if tuple(name.split("::")) not in local]
    if unknown:
        raise UnsupportedError(f"the exporter left operators that are not ONNX's: {', '.join(unknown[:5])}")
    _restore_inputs(graph, hub)
    axes = dynamic_axes(hub, runs)
    for values, specs in ((graph.input, hub.inputs), (graph.output, hub.outputs)):
        for value, spec in zip(values, specs, strict=True):
            element = value.type.tensor_type.elem_type
            names = axes.get(spec.name, {})
            dims = [dim if dim is not None else names[axis] for axis, dim in enumerate(spec.shape)]
            value.CopyFrom(helper.make_tensor_value_info(value.name, element, dims))
    del graph.value_info[:]
    graph.name = "converter"
    model.doc_string = graph.doc_string = ""
    for part in [*graph.node, *graph.initializer, *_inner_nodes(graph)]:
        part.doc_string = ""
        if part.metadata_props:
            del part.metadata_props[:]
    del graph.metadata_props[:]
    kept = [entry for entry in model.opset_import if entry.domain in ("", "ai.onnx") or entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    metadata = {
        "converter.source_sha256": hub.source.get("sha256") or "",
        "converter.versions": json.dumps(dict(sorted(versions.items()))),
    }
    helper.set_model_props(model, metadata)


def _inner_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Nodes of the branches and bodies of control flow."""
    found = []
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                found += [*attribute.g.node, *_inner_nodes(attribute.g)]
    return found


def save(model: onnx.ModelProto, path: Path) -> None:
    """Deterministic bytes. Raises UnsupportedError above protobuf's 2 GB."""
    if model.ByteSize() > MAX_BYTES:
        raise UnsupportedError("an ONNX file holds at most 2 GB, and the model's weights are larger")
    path.write_bytes(model.SerializeToString(deterministic=True))
