"""A TF1 checkpoint: its graph from the .meta, the values of its variables straight from the data files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import meta_graph_pb2

from converter.errors import SourceError
from converter.tf.graph.errors import reason
from converter.tf.graph.graph import GraphDef, NodeDef, node_name
from converter.tf.graph.resources import VARIABLE_OPS
from converter.tf.graph.values import Value
from converter.tf.trust.checkpoint_table import refuse_table

__all__ = ["checkpoint_values", "moving_averages", "read_meta_graph"]

_SAVES = {"SaveV2": (1, 2, 3), "SaveSlices": (1, 2, 3), "Save": (1, None, 2)}  # op: names, slices, first tensor
_READS = ("Identity", "ReadVariableOp", "RefIdentity", "Cast")


def read_meta_graph(path: Path) -> tuple[meta_graph_pb2.MetaGraphDef, str]:
    """The MetaGraphDef in a .meta file, and the prefix of the checkpoint that it names by its own name.

    The `checkpoint` file beside it is not asked: it names the newest checkpoint, with paths of the machine that trained.
    """
    if path.suffix == ".index":
        raise SourceError(
            f"{path} is a TensorFlow 2 checkpoint of values without a graph: "
            "export the model as a SavedModel or a Keras file and convert that"
        )
    data = path.read_bytes()
    meta = meta_graph_pb2.MetaGraphDef()
    try:
        meta.ParseFromString(data)
    except DecodeError:
        raise SourceError(f"{path} is damaged or no checkpoint graph ({len(data)} bytes): copy it again") from None
    if not meta.graph_def.node:
        raise SourceError(f"{path} holds no graph ({len(data)} bytes): copy it again")
    prefix = str(path.with_suffix(""))
    if not Path(prefix + ".index").is_file() and not Path(prefix).is_file():
        raise SourceError(
            f"{path} needs its values beside it: {Path(prefix).name}.index and its .data files are missing"
        )
    refuse_table(prefix)
    return meta, prefix


def checkpoint_values(
    graph_def: GraphDef, prefix: str, needed: Iterable[str], saver_scope: str = "save"
) -> dict[str, Value]:
    """Values of the variable nodes `needed`, by node name; each is read only when it is written on.

    Which entry belongs to which variable is what the graph's own save operations say; they know variables saved
    under other names (moving averages) and partitioned ones. Raises SourceError for damaged files and missing entries.
    """
    try:
        # Not tf.train.load_checkpoint, which reads the checkpoint that a folder of this name points to.
        reader = tf.compat.v1.train.NewCheckpointReader(prefix)
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    except Exception as error:  # IndexError and more, for damaged bytes (2.21)
        raise SourceError(f"the checkpoint {prefix} cannot be read: {reason(error)}") from error
    try:
        entries = _saved_entries(graph_def, saver_scope)
    except (LookupError, TypeError, ValueError) as error:
        raise SourceError(
            f"the graph of {prefix} is damaged where it says how variables are saved: copy it again"
        ) from error
    nodes = {node.name: node for node in graph_def.node}
    values = {}
    for name in needed:
        key, piece = _entry(nodes[name], entries, shapes)
        if not key:
            raise SourceError(
                f"the checkpoint {prefix} holds no value for the graph's variable {name}: "
                "give the .meta file that was saved with this checkpoint"
            )
        try:
            slices = _slices(piece)
            shape = _shape(shapes[key], slices)
        except (LookupError, ValueError) as error:
            raise SourceError(
                f"the graph of {prefix} saves {name} as the part {piece!r} of {key}, which is none: copy it again"
            ) from error
        _refuse_other(prefix, nodes[name], dtypes[key], shape)
        dtype = np.dtype(dtypes[key].as_numpy_dtype)
        values[name] = Value(name, dtype, shape, _reader(reader, prefix, key, slices))
    return values


def _entry(
    node: NodeDef, entries: Mapping[str, list[tuple[str, str]]], shapes: Mapping[str, object]
) -> tuple[str, str]:
    """The entry of the checkpoint, and the part of it, that a variable is restored from; ("", "") where there is none."""
    likely = [*entries.get(node.name, []), (node.name, ""), (_shared_name(node), "")]
    return next((entry for entry in likely if entry[0] in shapes), ("", ""))


def moving_averages(graph_def: GraphDef, prefix: str, needed: Iterable[str], saver_scope: str = "save") -> list[str]:
    """Entries that hold an average, as tf.train.ExponentialMovingAverage keeps it, of variables whose plain value is taken."""
    shapes = tf.compat.v1.train.NewCheckpointReader(prefix).get_variable_to_shape_map()
    entries = _saved_entries(graph_def, saver_scope)
    nodes = {node.name: node for node in graph_def.node}
    taken = [_entry(nodes[name], entries, shapes)[0] for name in needed]
    return sorted(average for key in taken if (average := f"{key}/ExponentialMovingAverage") in shapes)


def _refuse_other(prefix: str, node: NodeDef, dtype: tf.DType, shape: Sequence[int]) -> None:
    """Raise SourceError for a value that is not of the type and the shape that its variable has in the graph."""
    wanted = tf.as_dtype(node.attr["dtype"].type)
    wanted_shape = tf.TensorShape(node.attr["shape"].shape if "shape" in node.attr else None)
    if node.op == "Variable" and wanted_shape.rank == 0:  # of the first TensorFlow: no shape is known
        wanted_shape = tf.TensorShape(None)
    if dtype != wanted or dtype in (tf.resource, tf.variant) or not wanted_shape.is_compatible_with(shape):
        raise SourceError(
            f"the checkpoint {prefix} holds {node.name} as {dtype.name} {list(shape)}, and its graph has it as {wanted.name} "
            f"{wanted_shape}: give the .meta file that was saved with this checkpoint"
        )


def _reader(reader: Any, prefix: str, key: str, slices: tuple[slice, ...]):  # noqa: ANN202 (a closure)
    def read() -> np.ndarray:
        try:
            return np.asarray(reader.get_tensor(key))[slices]
        except MemoryError:
            raise
        except Exception as error:  # RuntimeError for a short data file, IndexError for an empty one (2.21)
            raise SourceError(f"the checkpoint {prefix} is damaged at {key}: {reason(error)}") from error

    return read


def _shared_name(node: NodeDef) -> str:
    return node.attr["shared_name"].s.decode() if "shared_name" in node.attr else ""


def _saved_entries(graph_def: GraphDef, saver_scope: str) -> dict[str, list[tuple[str, str]]]:
    """For each variable node, the (entry, slice) under which the graph's savers write it; the main saver's first."""
    nodes = {node.name: node for node in graph_def.node}
    entries: dict[str, list[tuple[str, str]]] = {}
    saves = [node for node in graph_def.node if node.op in _SAVES]
    saves.sort(key=lambda node: not node.name.startswith(saver_scope + "/"))
    for save in saves:
        names_at, slices_at, first = _SAVES[save.op]
        names = _strings(nodes, save.input[names_at])
        pieces = _strings(nodes, save.input[slices_at]) if slices_at else [""] * len(names)
        tensors = [source for source in save.input[first:] if not source.startswith("^")]
        for entry, piece, source in zip(names, pieces, tensors, strict=False):
            variable = _variable_behind(nodes, source)
            if variable:
                entries.setdefault(variable, []).append((entry, piece))
    return entries


def _strings(nodes: dict[str, NodeDef], source: str) -> list[str]:
    node = nodes[node_name(source)]
    if node.op != "Const":
        return []
    return [text.decode() for text in tf.make_ndarray(node.attr["value"].tensor).reshape(-1)]


def _variable_behind(nodes: dict[str, NodeDef], source: str) -> str | None:
    node = nodes.get(node_name(source))
    while node is not None and node.op in _READS:
        node = nodes.get(node_name(node.input[0]))
    return node.name if node is not None and node.op in VARIABLE_OPS else None


def _slices(piece: str) -> tuple[slice, ...]:
    """The part of an entry that a partitioned variable holds: "100 20 0,50:0,20" is rows 0 to 50 of 100; "" is all of it."""
    if not piece:
        return ()
    parts = piece.split()[-1].split(":")
    return tuple(
        slice(None) if part == "-" else slice(int(part.split(",")[0]), sum(map(int, part.split(",")))) for part in parts
    )


def _shape(full: list[int], slices: tuple[slice, ...]) -> tuple[int, ...]:
    if not slices:
        return tuple(full)
    return tuple(len(range(*piece.indices(size))) for piece, size in zip(slices, full, strict=True))
