"""The source's own session of a checkpoint: its graph, restored by its own saver. It only makes the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from converter.errors import SourceError
from converter.tf.graph.errors import reason
from converter.tf.graph.graph import GraphDef, node_name, prune
from converter.tf.graph.resources import VARIABLE_OPS
from converter.tf.graph.values import Value
from converter.tf.sources.graph_source import GraphSource
from converter.tf.trust.refused_operators import refuse_restores

__all__ = ["restored_session"]

_TABLES = ("InitializeTable", "LookupTableImport")


@contextmanager
def restored_session(
    meta: meta_graph_pb2.MetaGraphDef,
    prefix: str,
    source: GraphSource,
    values: Mapping[str, Value],
    trusted: bool = False,
) -> Iterator[tuple[tf.compat.v1.Session, Callable[[], None]]]:
    """(session, restore): a session on the part of the graph that the outputs need, its variables restored from `prefix`.

    Each of them through the graph's own restore operations, so that the reference does not depend on this package's
    reading of the checkpoint; a graph without a saver gets `values`.
    """
    graph_def = source.graph_def
    variables = _variables(graph_def, source)
    assigns = _restore_assigns(graph_def, meta.saver_def, variables)
    used = {node.name for node in prune(graph_def, [spec.tensor for spec in source.outputs]).node}
    tables = [node.name for node in graph_def.node if node.op.startswith(_TABLES) and node_name(node.input[0]) in used]
    wanted = [*(spec.tensor for spec in (*source.inputs, *source.outputs)), *assigns.values(), *tables]
    needed = prune(graph_def, wanted, list(source.constants))
    filename = meta.saver_def.filename_tensor_name
    if not trusted:
        refuse_restores(Path(f"{prefix}.meta"), graph_def, [*assigns.values(), *tables], filename)
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(needed, name="")
    with tf.compat.v1.Session(graph=graph) as session:

        def restore() -> None:
            try:
                session.run(list(assigns.values()), {filename: prefix} if assigns else {})
                _assign(session, {name: values[name] for name in variables if name not in assigns and name in values})
            except Exception as error:  # whatever TensorFlow raises for shapes and types that do not fit
                raise SourceError(
                    f"the checkpoint {prefix} does not fit its graph or is damaged: {reason(error)}"
                ) from error

        restore()
        session.run(tables)
        yield session, restore


def _variables(graph_def: GraphDef, source: GraphSource) -> list[str]:
    """The variables that the outputs depend on with nothing folded away."""
    needed = prune(graph_def, [spec.tensor for spec in source.outputs])
    return [node.name for node in needed.node if node.op in VARIABLE_OPS]


def _restore_assigns(graph_def: GraphDef, saver: Any, variables: list[str]) -> dict[str, str]:
    """For each variable, the saver's operation that assigns its restored value, by variable."""
    scope = saver.restore_op_name.rpartition("/")[0]
    filename = node_name(saver.filename_tensor_name)
    if not scope or not any(node.name == filename for node in graph_def.node):
        return {}
    found = {}
    for node in graph_def.node:
        if node.op in ("Assign", "AssignVariableOp") and node.name.startswith(scope + "/"):
            variable = node_name(node.input[0])
            if variable in variables:
                found.setdefault(variable, node.name)
    return found


def _assign(session: tf.compat.v1.Session, values: Mapping[str, Value]) -> None:
    with session.graph.as_default():
        for name, value in values.items():
            handle = session.graph.get_operation_by_name(name).outputs[0]
            array = tf.compat.v1.placeholder(value.dtype, value.shape)
            if handle.dtype == tf.resource:
                operation = tf.raw_ops.AssignVariableOp(resource=handle, value=array)
            else:
                operation = tf.raw_ops.Assign(ref=handle, value=array).op
            session.run(operation, {array: value.read()})
