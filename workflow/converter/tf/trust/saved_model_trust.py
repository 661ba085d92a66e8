"""What a SavedModel may not do without trust: loading one runs functions and restores files that it names itself."""

from __future__ import annotations

import os
from pathlib import Path

from google.protobuf.message import Message
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.python.framework import op_def_registry

from converter.errors import UntrustedError
from converter.tf.graph.graph import GraphDef, NodeDef, canonical, node_name, prune
from converter.tf.trust.refused_operators import function_calls, passed_on, refuse, refuse_restores
from converter.wording import TRUST

__all__ = ["refuse_untrusted"]

_TABLE_FILES = ("InitializeTableFromTextFile", "InitializeTableFromTextFileV2")
_INITIALIZERS = ("saved_model_main_op", "legacy_init_op")
# Loading runs more than what the outputs need: naming output_nodes would not help.
_REMEDY = "export it again without it"


def refuse_untrusted(directory: Path, meta: meta_graph_pb2.MetaGraphDef, alone: bool = True) -> None:
    """Raise UntrustedError for assets outside of the directory and for operators that reach out (see refused_operators).

    `alone`: the directory has no other graph. Where it has, TensorFlow (2.21) loads this one as one of TensorFlow 1.
    """
    for asset in meta.asset_file_def:
        name = asset.filename
        if os.path.isabs(name) or ".." in Path(name).parts:
            raise UntrustedError(f"{directory} names an asset outside of itself ({name}): export it again, or {TRUST}")
    _refuse_constant_parts(directory, meta.graph_def)
    if meta.HasField("object_graph_def"):
        _refuse_in_objects(directory, meta)
    if not alone or not meta.HasField("object_graph_def"):
        _refuse_in_graph(directory, meta)


def _refuse_constant_parts(directory: Path, graph_def: GraphDef) -> None:
    """Operators that TensorFlow might evaluate while it loads the graph, wherever they are (refused_operators.disarm)."""
    bodies = [graph_def.node, *(function.node_def for function in graph_def.library.function)]
    refuse(directory, (node for body in bodies for node in body if _is_constant(node)), _is_table_file, _REMEDY)


def _is_constant(node: NodeDef) -> bool:
    definition = op_def_registry.get(node.op)
    return definition is not None and not definition.is_stateful


def _is_table_file(node: NodeDef) -> bool:
    return node.op in _TABLE_FILES


def _refuse_in_objects(directory: Path, meta: meta_graph_pb2.MetaGraphDef) -> None:
    """TensorFlow 2: the functions of all objects, some of which loading calls. The saver's own are not among them."""
    graph_def, objects = meta.graph_def, meta.object_graph_def
    # The loader looks them up in the library, whether they are listed or not (and then stumbles over most, 2.21).
    names = {name for node in objects.nodes for name in node.function.concrete_functions}
    names |= {node.bare_concrete_function.concrete_function_name for node in objects.nodes}
    functions = function_calls(graph_def, (), sorted(names.union(objects.concrete_functions)))
    called = set()
    for function in graph_def.library.function:
        called |= {entry.signature.name for entry in function_calls(graph_def, function.node_def)}
    for function in functions:
        name = function.signature.name
        assets = _asset_arguments(function, objects) if name not in called else set()

        def is_asset(node: NodeDef, assets: set[str] = assets) -> bool:
            return _is_table_file(node) and node.input[1] in assets

        refuse(directory, function.node_def, is_asset, _REMEDY)


def _asset_arguments(function: Message, objects: Message) -> set[str]:
    """The arguments of a function that its object graph binds to assets, which lie within the directory."""
    entry = objects.concrete_functions.get(function.signature.name)
    bound = list(entry.bound_inputs) if entry is not None else []
    names = [argument.name for argument in function.signature.input_arg]
    if len(bound) > len(names) or not all(0 <= node < len(objects.nodes) for node in bound):
        return set()  # damaged: TensorFlow says so as it loads it
    captured = names[len(names) - len(bound) :]
    return {
        name for name, node in zip(captured, bound, strict=True) if objects.nodes[node].WhichOneof("kind") == "asset"
    }


def _refuse_in_graph(directory: Path, meta: meta_graph_pb2.MetaGraphDef) -> None:
    """TensorFlow 1: what its loader runs, the initialization and the restoring; the outputs are looked at with the graph."""
    graph_def, saver = meta.graph_def, meta.saver_def
    names = {node.name for node in graph_def.node}
    nodes = {node.name: node for node in graph_def.node}
    assets = {canonical(asset.tensor_info.name) for asset in meta.asset_file_def}
    runs = [name for key in _INITIALIZERS for name in meta.collection_def[key].node_list.value]
    runs += [info.name for key, info in _initializer_outputs(meta)]

    def is_asset(node: NodeDef) -> bool:
        return _is_table_file(node) and bool(assets & passed_on(nodes, node.input[1]))

    started = prune(graph_def, [name for name in runs if node_name(name) in names])
    refuse(directory, started.node, is_asset, _REMEDY)
    called = (node for entry in function_calls(graph_def, started.node) for node in entry.node_def)
    refuse(directory, called, remedy=_REMEDY)
    if node_name(saver.restore_op_name) in names:
        refuse_restores(directory, graph_def, [saver.restore_op_name], saver.filename_tensor_name)


def _initializer_outputs(meta: meta_graph_pb2.MetaGraphDef) -> list:
    signature = meta.signature_def.get("__saved_model_init_op")
    return list(signature.outputs.items()) if signature is not None else []
