"""Reading a graph from a .pb or .pbtxt file, and saying what else a file of that name may be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from google.protobuf import text_format
from google.protobuf.message import DecodeError, Message
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from converter.errors import SourceError
from converter.tf.graph.graph import GraphDef, function_names

__all__ = ["read_graph_file", "refuse_recursion", "refuse_unfrozen"]


def read_graph_file(path: Path) -> GraphDef:
    """The GraphDef in a file. Raises SourceError for an empty or damaged file, a SavedModel's, a MetaGraph, other formats."""
    data = path.read_bytes()
    if not data.strip():
        raise SourceError(f"{path} is empty: copy it again")
    is_text = path.suffix == ".pbtxt"
    graph_def = _parse(data, GraphDef(), is_text)
    if graph_def is not None and graph_def.node and all(node.name and node.op for node in graph_def.node):
        return graph_def
    saved_model = _parse(data, saved_model_pb2.SavedModel(), is_text)
    if saved_model is not None and any(meta.graph_def.node for meta in saved_model.meta_graphs):
        raise SourceError(
            f"{path} is the graph of a SavedModel, its variables are kept elsewhere: write convert_from: {path.parent}"
            f"{'' if path.name.startswith('saved_model.pb') else ' (a directory with this file named saved_model.pb)'}"
        )
    meta = _parse(data, meta_graph_pb2.MetaGraphDef(), is_text)
    if meta is not None and meta.graph_def.node:
        raise SourceError(f"{path} is the graph of a checkpoint: name it .meta beside its .index and .data files")
    if not is_text and _parse(data, GraphDef(), True):
        raise SourceError(f"{path} is a graph written as text: name it .pbtxt")
    raise SourceError(f"{path} is damaged or no TensorFlow graph ({len(data)} bytes): copy it again")


def _parse(data: bytes, message: Message, is_text: bool) -> Message | None:
    try:
        if is_text:
            return text_format.Parse(data.decode(), message)
        message.ParseFromString(data)
        return message
    except (DecodeError, text_format.ParseError, UnicodeDecodeError):
        return None


def refuse_recursion(path: Path, graph_def: GraphDef) -> None:
    """Raise SourceError for a function that calls itself, directly or not: TensorFlow crashes as it inlines it (2.21)."""
    calls = {
        function.signature.name: {name for node in function.node_def for name in (node.op, *function_names(node))}
        for function in graph_def.library.function
    }
    # Functions that call none of those that are left, again and again: what remains runs in circles.
    while free := [name for name, called in calls.items() if not called & calls.keys()]:
        for name in free:
            del calls[name]
    if calls:
        raise SourceError(f"{path} is damaged: its function {min(calls)} calls itself without end")


def refuse_unfrozen(path: Path, variables: Sequence[str]) -> None:
    """Raise SourceError for a graph that needs variables, whose values no .pb holds."""
    if variables:
        raise SourceError(
            f"{path} is not frozen: the values of its {len(variables)} variables ({', '.join(variables[:3])}"
            f"{', ...' if len(variables) > 3 else ''}) are not in it; freeze it with tf.graph_util, "
            "or convert the checkpoint (.meta) or SavedModel that it was made from"
        )
