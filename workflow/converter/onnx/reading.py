"""ONNX files: read with the weights that lie beside them, and written with the large ones beside them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from converter.errors import SourceError, UnsupportedError
from converter.file_limits import MAX_BYTES
from converter.planning.onnx_files import external_files
from converter.safety.onnx_external import refuse_external_data
from converter.verification.runtimes import OnnxModel
from converter.wording import first_line

__all__ = ["WEIGHTS", "all_nodes", "open_model", "operators", "read_model", "write_model"]

WEIGHTS = "weights.bin"
# Smaller ones stay in the graph: sizes, axes and scales are read with it.
_LARGE = 1024
_STANDARD = ("", "ai.onnx")
_LOWEST_OPSET = 7
_LONGEST_REASON = 300
# What onnxruntime (1.32) says beside the reason: kinds of errors, and places in its own source.
_OWN_PLACES = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : |/onnxruntime_src/.*?(?:&|bool)\) |\w+\.cc:\d+ \w+ ")


def read_model(path: Path) -> onnx.ModelProto:
    """The model with all its weights. Raises UntrustedError for weights outside of its folder, SourceError for damaged files."""
    refuse_external_data(path)
    if sum(file.stat().st_size for file in (path, *external_files(path))) > MAX_BYTES:
        raise UnsupportedError(
            f"{path} and its weights are larger than 2 GB, and ONNX models are read up to that: convert the model that it "
            "was made from"
        )
    try:
        model = onnx.load(str(path))
    except (DecodeError, OSError, ValueError, TypeError, OverflowError, onnx.checker.ValidationError) as error:
        raise SourceError(f"{path} is damaged: {first_line(error)}") from error
    if not model.graph.node or not model.graph.output:
        raise SourceError(f"{path} holds no ONNX graph with outputs: is it the file that you mean?")
    opset = next((entry.version for entry in model.opset_import if entry.domain in _STANDARD), None)
    if opset is not None and opset < _LOWEST_OPSET and _is_unchanged(model, opset):
        opset = _LOWEST_OPSET
        next(entry for entry in model.opset_import if entry.domain in _STANDARD).version = opset
    if opset is not None and not _LOWEST_OPSET <= opset <= onnx.defs.onnx_opset_version():
        newest = onnx.defs.onnx_opset_version()
        raise UnsupportedError(
            f"{path} is of opset {opset}, and those from {_LOWEST_OPSET} to {newest} are read: export the model again with "
            "one of these"
        )
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise SourceError(f"{path} is no valid ONNX model: {first_line(error)}") from error
    initial = {tensor.name for tensor in model.graph.initializer}
    # Before version 4 of the format each initializer had to be among the inputs too.
    kept = [entry for entry in model.graph.input if entry.name not in initial]
    if len(kept) < len(model.graph.input):
        del model.graph.input[:]
        model.graph.input.extend(kept)
    return model


def _is_unchanged(model: onnx.ModelProto, opset: int) -> bool:
    """Whether all its operators mean the same in the lowest opset that is read."""
    if model.functions:
        return False
    for node in all_nodes(model.graph):
        if node.domain in _STANDARD:
            try:
                then, now = (
                    onnx.defs.get_schema(node.op_type, version).since_version for version in (opset, _LOWEST_OPSET)
                )
            except onnx.defs.SchemaError:
                return False
            if then != now:
                return False
    return True


def write_model(model: onnx.ModelProto, folder: Path) -> None:
    """model.onnx in the folder, and the large weights in weights.bin beside it; the model keeps its own."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    onnx.save_model(
        copied,
        str(folder / "model.onnx"),
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=WEIGHTS,
        size_threshold=_LARGE,
    )


def open_model(path: Path, source: Path) -> OnnxModel:
    """The file at `path` in onnxruntime. Raises UnsupportedError, in the name of `source`, where that does not take it."""
    try:
        return OnnxModel(path)
    except MemoryError:
        raise
    except Exception as error:  # onnxruntime's exceptions have no class in common
        said = _OWN_PLACES.sub("", " ".join(str(error).split())).replace(str(path), "the model")[:_LONGEST_REASON]
        raise UnsupportedError(f"onnxruntime, which {source} is compared with, does not take it: {said}") from error


def operators(model: onnx.ModelProto) -> dict[str, int]:
    """How often each operator occurs, in all graphs, most frequent first; those of other domains with their domain's name."""
    names = (
        node.op_type if node.domain in _STANDARD else f"{node.domain}.{node.op_type}" for node in all_nodes(model.graph)
    )
    return dict(Counter(names).most_common())


def all_nodes(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    """The nodes of the graph and of the graphs within it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from all_nodes(attribute.g)
            for inner in attribute.graphs:
                yield from all_nodes(inner)
