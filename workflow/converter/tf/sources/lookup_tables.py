"""Lookup tables become constants: their contents are read from the loaded source, each lookup is a search and a gather."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from converter.errors import SourceError, UnsupportedError
from converter.hub.hub import TensorSpec
from converter.tf.graph.graph import GraphDef, NodeDef, node_name, prune
from converter.tf.graph.resources import TABLE, Bound
from converter.tf.graph.rewrite import Emitter, replace_operators
from converter.tf.graph.search import emit_index, is_searchable
from converter.tf.sources.vocabulary import inputs_behind
from converter.tf.trust.refused_operators import refuse_needed

__all__ = [
    *("Table", "TableReader", "captured_table", "initialize_tables", "session_tables", "table_nodes"),
    "tables_to_constants",
]

_TABLES = ("HashTable", "MutableHashTable", "MutableDenseHashTable", "AnonymousHashTable", "AnonymousMutable")
_INITIALIZERS = ("InitializeTable", "LookupTableImport")
_CHANGES = ("LookupTableInsert", "LookupTableRemove", "LookupTableImport")
_FINDS = ("LookupTableFind", "LookupTableFindV2")


@dataclass(frozen=True)
class Table:
    """keys: (K,), distinct. values: (K, ...)."""

    keys: np.ndarray
    values: np.ndarray


# From the dtypes of keys and values to the table's contents.
TableReader = Callable[[tf.DType, tf.DType], Table]


def captured_table(handle: tf.Tensor) -> TableReader:
    """Of a table that a traced function holds on to."""

    def read(keys: tf.DType, values: tf.DType) -> Table:
        exported = tf.raw_ops.LookupTableExportV2(table_handle=handle, Tkeys=keys, Tvalues=values)
        return _sorted(*(tensor.numpy() for tensor in exported))

    return read


def session_tables(session: tf.compat.v1.Session) -> dict[str, TableReader]:
    """Of the tables in a session's graph, by node; they must be initialized when they are read."""

    def reader(handle: tf.Tensor) -> TableReader:
        def read(keys: tf.DType, values: tf.DType) -> Table:
            export = tf.raw_ops.LookupTableExportV2 if handle.dtype == tf.resource else tf.raw_ops.LookupTableExport
            with session.graph.as_default():
                exported = export(table_handle=handle, Tkeys=keys, Tvalues=values)
            try:
                return _sorted(*session.run(exported))
            except (tf.errors.AbortedError, tf.errors.FailedPreconditionError) as error:  # it was never filled
                raise SourceError(
                    f"the source does not say what its lookup table {handle.op.name} holds: save it with the operator that "
                    "fills the table, or cut the model behind it with input_nodes"
                ) from error

        return read

    return {
        operation.name: reader(operation.outputs[0])
        for operation in session.graph.get_operations()
        if operation.type.startswith(_TABLES)
    }


def initialize_tables(
    session: tf.compat.v1.Session, source: Path, graph_def: GraphDef, outputs: Sequence[str], trusted: bool
) -> None:
    """Run what fills the tables that `outputs` need. Raises UntrustedError where that reads files."""
    used = {node.name for node in prune(graph_def, outputs).node}
    fills = [
        node.name for node in graph_def.node if node.op.startswith(_INITIALIZERS) and node_name(node.input[0]) in used
    ]
    if fills and not trusted:
        refuse_needed(source, graph_def, (), fills)
    session.run(fills)


def _sorted(keys: np.ndarray, values: np.ndarray) -> Table:
    """By key: tables are hashed in memory and have no order of their own."""
    order = np.argsort(keys, kind="stable")
    return Table(keys[order], values[order])


def table_nodes(graph_def: GraphDef, readers: Mapping[str, TableReader]) -> dict[str, Bound]:
    """The tables of a graph for `variables_to_placeholders`. Raises UnsupportedError for one that the graph changes."""
    bodies = [graph_def.node, *(function.node_def for function in graph_def.library.function)]
    if not any(node.op.startswith("LookupTable") for body in bodies for node in body):
        return {}  # what else a function captures is no table
    for body in bodies:
        for node in body:
            if node.op.startswith(_CHANGES):
                raise UnsupportedError(
                    f"the model changes its lookup table (node {node.name}, {node.op}): a converted model keeps no state, "
                    "so export a version whose tables stay as they are"
                )
    return {
        node.name: Bound(tf.int32.as_datatype_enum, (), node.name) for node in graph_def.node if node.name in readers
    }


def tables_to_constants(
    graph_def: GraphDef, readers: Mapping[str, TableReader], inputs: Sequence[TensorSpec]
) -> dict[str, list[np.ndarray]]:
    """Replace, in place, what reads a table (attribute TABLE); returns the keys that each input is looked up in, by name.

    Raises UnsupportedError for tables whose keys are neither whole numbers nor texts, and SourceError for empty ones that
    the source never filled.
    """
    nodes = {node.name: node for node in graph_def.node}
    bodies = [graph_def.node, *(function.node_def for function in graph_def.library.function)]
    types = {
        node.attr[TABLE].s.decode(): (tf.as_dtype(node.attr["Tin"].type), tf.as_dtype(node.attr["Tout"].type))
        for body in bodies
        for node in body
        if node.op in _FINDS and TABLE in node.attr
    }
    read: dict[str, Table] = {}
    keys: dict[str, list[np.ndarray]] = {}

    def table_of(node: NodeDef) -> Table | None:
        name = node.attr[TABLE].s.decode()
        if name not in types:
            return None
        if not is_searchable(types[name][0]):
            raise UnsupportedError(
                f"the model looks up {types[name][0].name} in a table (node {node.name}), and only whole numbers and "
                "texts can be looked up in a converted model: cut the model behind it"
            )
        if name not in read:
            read[name] = readers[name](*types[name])
        return read[name]

    def find(node: NodeDef, emit: Emitter, value: Callable) -> tuple[str, tf.DType] | None:
        table = table_of(node)
        if table is None:
            return None
        dtype, result = (tf.as_dtype(node.attr[name].type) for name in ("Tin", "Tout"))
        if emit.in_function:  # of whose arguments it is not known what they are
            looked_up = [spec.name for spec in inputs if spec.dtype == ("string" if dtype == tf.string else dtype.name)]
        else:
            looked_up = inputs_behind(nodes, node.input[1], inputs)
        for name in looked_up:
            keys.setdefault(name, []).append(table.keys)
        index = emit_index(emit, node.input[1], dtype, table.keys)
        first = emit.const(0, tf.int32)
        values = _with_default(node, emit, value(node.input[2]), table.values, result)
        return emit("GatherV2", values, index, first, Tparams=result, Tindices=tf.int32, Taxis=tf.int32), result

    def size(node: NodeDef, emit: Emitter, value: Callable) -> tuple[str, tf.DType] | None:
        table = table_of(node)
        return None if table is None else (emit.const(len(table.keys), tf.int64), tf.int64)

    sizes = dict.fromkeys(("LookupTableSize", "LookupTableSizeV2"), size)
    replace_operators(graph_def, sizes | dict.fromkeys(_FINDS, find))
    for body in (graph_def.node, *(function.node_def for function in graph_def.library.function)):
        for node in body:
            if TABLE in node.attr:
                raise UnsupportedError(
                    f"a converted model has no lookup tables for {node.op} (node {node.name}): cut the model behind it"
                )
    for node in graph_def.node:
        if node.name in readers and node.op == "Placeholder":
            _zero(node)  # an argument of loops and branches, which do not read it any more
    return keys


def _with_default(node: NodeDef, emit: Emitter, default: np.ndarray | None, values: np.ndarray, dtype: tf.DType) -> str:
    """The values behind the one that stands for all other keys."""
    row = values.shape[1:]
    if default is not None and default.shape == row:
        return emit.const(np.concatenate([default[None], values]), dtype)
    # Reshape fails where there is a default value of its own for each key.
    shaped = emit("Reshape", node.input[2], emit.const([1, *row], tf.int32), T=dtype, Tshape=tf.int32)
    axis = emit.const(0, tf.int32)
    return emit("ConcatV2", shaped, emit.const(values, dtype), axis, T=dtype, Tidx=tf.int32, N=2)


def _zero(node: NodeDef) -> None:
    name = node.name
    node.Clear()
    node.name, node.op = name, "Const"
    node.attr["dtype"].type = tf.int32.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(0, tf.int32))
