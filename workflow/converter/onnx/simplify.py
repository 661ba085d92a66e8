"""What a graph computes of constants and of sizes that are fixed becomes a constant; what nothing needs goes.

Weights stay what they are: only small constants are computed, so that neither the file nor its memory grows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from converter.onnx.core.graphs import (
    STANDARD,
    FreshNames,
    Scope,
    all_graphs,
    inferred,
    inner_graphs,
    model_opset,
    rename_values,
    used_names,
)
from converter.onnx.core.graphs import replace_fields as _replace
from converter.onnx.known_sizes import known_sizes

__all__ = ["remove_unused", "simplify"]

_LARGEST_BYTES = 64 * 1024
_MOST_ROUNDS = 8
# Their results are others each time, or are meant to be computed where they are used.
_NEVER = {
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
    "QuantizeLinear",
    "DequantizeLinear",
    "Constant",
}
# What may be far larger than its inputs is computed where its size is known before.
_GROWING = {
    "ConstantOfShape",
    "Expand",
    "Tile",
    "Range",
    "Pad",
    "Resize",
    "Upsample",
    "OneHot",
    "EyeLike",
    "CenterCropPad",
}
_NUMBERS = {
    TensorProto.FLOAT,
    TensorProto.DOUBLE,
    TensorProto.FLOAT16,
    TensorProto.BOOL,
    *(getattr(TensorProto, f"{sign}INT{bits}") for sign in ("", "U") for bits in (8, 16, 32, 64)),
}


def simplify(model: ModelProto) -> None:
    """In place; the names of inputs and outputs stay."""
    names = FreshNames(model)
    for _ in range(_MOST_ROUNDS):
        types = _types(model)
        changed = _remove_identities(model.graph, model_opset(model), Scope(model.graph))
        changed |= _fold(model.graph, None, model_opset(model), types, names)
        remove_unused(model)
        if not changed:
            break


def remove_unused(model: ModelProto) -> None:
    """Take away nodes and weights that no output depends on, in all graphs."""
    for graph in list(all_graphs(model.graph))[::-1]:
        needed = {value.name for value in graph.output}
        kept = []
        for node in reversed(graph.node):
            if needed.intersection(name for name in node.output if name):
                kept.append(node)
                needed.update(used_names(node))
        if len(kept) < len(graph.node):
            _replace(graph.node, kept[::-1])
        for place, tensor in reversed(list(enumerate(graph.initializer))):
            if tensor.name not in needed:
                del graph.initializer[place]
        for place, tensor in reversed(list(enumerate(graph.sparse_initializer))):
            if tensor.values.name not in needed:
                del graph.sparse_initializer[place]


def _types(model: ModelProto) -> dict[str, onnx.TypeProto]:
    """Of all values, as far as inference finds them; names that stand for several values in inner graphs are left out."""
    typed = inferred(model)
    found: dict[str, onnx.TypeProto] = {}
    twice: set[str] = set()
    for graph in all_graphs(typed.graph):
        for value in (*graph.value_info, *graph.output, *graph.input):
            if value.name in found and graph is not typed.graph:
                twice.add(value.name)
            found[value.name] = value.type
    return {name: kind for name, kind in found.items() if name not in twice}


def _remove_identities(graph: GraphProto, opset: int, scope: Scope) -> bool:
    """Identity, and Dropout outside of training: readers take what it reads. The graph's outputs keep their names."""
    changed = False
    for node in graph.node:
        for inner in inner_graphs(node):
            changed |= _remove_identities(inner, opset, Scope(inner, scope))
    outputs = {value.name for value in graph.output}
    producers = {name: node for node in graph.node for name in node.output if name}
    renamed: dict[str, str] = {}
    taken: set[str] = set()
    removed: set[int] = set()
    for node in graph.node:
        if not _passes(node, scope, opset):
            continue
        source, target = renamed.get(node.input[0], node.input[0]), node.output[0]
        if target not in outputs:
            renamed[target] = source
            taken.add(source)
        elif source in producers and source not in outputs and source not in taken:
            # The maker of the value gives it the output's name; who else reads it reads that.
            renamed[source] = target
        else:
            continue
        removed.add(id(node))
    if not removed:
        return changed
    nodes = [node for node in graph.node if id(node) not in removed]
    final = {name: _last(name, renamed) for name in renamed}
    for node in nodes:
        for position, name in enumerate(node.output):
            if name in final:
                node.output[position] = final[name]
        _rename_reads(node, final)
    for value in graph.output:
        value.name = final.get(value.name, value.name)
    stale = [value for value in graph.value_info if value.name in final]
    for value in stale:
        graph.value_info.remove(value)
    _replace(graph.node, nodes)
    return True


def _last(name: str, renamed: dict[str, str]) -> str:
    while name in renamed:
        name = renamed[name]
    return name


def _rename_reads(node: NodeProto, renamed: dict[str, str]) -> None:
    for position, name in enumerate(node.input):
        if name in renamed:
            node.input[position] = renamed[name]
    for inner in inner_graphs(node):
        own = {value.name for value in inner.input} | {name for made in inner.node for name in made.output}
        rename_values(inner, {name: new for name, new in renamed.items() if name not in own})


def _passes(node: NodeProto, scope: Scope, opset: int) -> bool:
    if node.domain not in STANDARD:
        return False
    if node.op_type == "Identity":
        return True
    if node.op_type != "Dropout" or any(node.output[1:]):
        return False
    if opset < 12 or len(node.input) < 3 or not node.input[2]:
        return True
    training = scope.constant(node.input[2])
    return training is not None and not training.any()


def _fold(
    graph: GraphProto, parent: Scope | None, opset: int, types: dict[str, onnx.TypeProto], names: FreshNames
) -> bool:
    """Make initializers of what constants give, and take branches that are always taken into the graph."""
    scope = Scope(graph, parent)
    changed = False
    for node in graph.node:
        for inner in inner_graphs(node):
            changed |= _fold(inner, scope, opset, types, names)
    values = known_sizes(graph, scope, types)
    foldable: list[NodeProto] = []
    made = set(values)
    for node in graph.node:
        if node.op_type in _NEVER or node.domain not in STANDARD or inner_graphs(node) or _settled(node, values):
            continue
        sources = [name for name in node.input if name]
        known = all(name in made or _is_small(scope.constant(name)) for name in sources)
        if known and all(_may_hold(node, name, types) for name in node.output if name):
            foldable.append(node)
            made.update(node.output)
    values |= _computed(foldable, values, scope, opset)
    kept = [node for node in graph.node if node.op_type == "Constant" or not _settled(node, values)]
    if len(kept) < len(graph.node):
        changed = True
        made = {name for node in graph.node for name in node.output} - {name for node in kept for name in node.output}
        graph.initializer.extend(onnx.numpy_helper.from_array(values[name], name) for name in sorted(made - {""}))
        for value in [value for value in graph.value_info if value.name in made]:
            graph.value_info.remove(value)
        _replace(graph.node, kept)
    return _take_branches(graph, parent, names) or changed


def _settled(node: NodeProto, values: dict[str, np.ndarray]) -> bool:
    return all(name in values for name in node.output if name)


def _is_small(array: np.ndarray | None) -> bool:
    return array is not None and array.nbytes <= _LARGEST_BYTES


def _may_hold(node: NodeProto, name: str, types: dict[str, onnx.TypeProto]) -> bool:
    kind = types.get(name)
    if kind is None or not kind.HasField("tensor_type") or kind.tensor_type.elem_type not in _NUMBERS:
        return False
    size = helper.tensor_dtype_to_np_dtype(kind.tensor_type.elem_type).itemsize
    if not kind.tensor_type.HasField("shape"):
        return node.op_type not in _GROWING
    for dim in kind.tensor_type.shape.dim:
        if not dim.HasField("dim_value"):
            return node.op_type not in _GROWING
        size *= dim.dim_value
    return size <= _LARGEST_BYTES


def _computed(nodes: list[NodeProto], values: dict[str, np.ndarray], scope: Scope, opset: int) -> dict[str, np.ndarray]:
    """What onnxruntime makes of the nodes, one after the other where it cannot run all; small results only."""
    if not nodes:
        return {}
    try:
        found = _run(nodes, values, scope, opset)
    except Exception:  # onnxruntime's own, of many kinds; a model that cannot be run fails later, with all that it says
        found = {}
        for node in nodes:
            try:
                found |= _run([node], {**values, **found}, scope, opset)
            except Exception:
                continue
    return {name: array for name, array in found.items() if array.nbytes <= _LARGEST_BYTES}


def _run(nodes: list[NodeProto], values: dict[str, np.ndarray], scope: Scope, opset: int) -> dict[str, np.ndarray]:
    import onnxruntime

    made = [name for node in nodes for name in node.output if name]
    read = dict.fromkeys(name for node in nodes for name in node.input if name and name not in made)
    arrays = {name: values[name] if name in values else scope.constant(name) for name in read}
    if any(array is None for array in arrays.values()):
        return {}
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items() if array is not None]
    graph = helper.make_graph(nodes, "constants", [], [onnx.ValueInfoProto(name=name) for name in made], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip(made, session.run(made, {}), strict=True))


def _take_branches(graph: GraphProto, parent: Scope | None, names: FreshNames) -> bool:
    """Put the branch of an If whose condition is constant in its place."""
    scope = Scope(graph, parent)
    nodes: list[NodeProto] = []
    changed = False
    for node in graph.node:
        condition = scope.constant(node.input[0]) if node.op_type == "If" and node.domain in STANDARD else None
        if condition is None or condition.size != 1:
            nodes.append(node)
            continue
        wanted = "then_branch" if condition.reshape(()) else "else_branch"
        branch = next(entry.g for entry in node.attribute if entry.name == wanted)
        nodes += _spliced(graph, branch, node, names)
        changed = True
    if changed:
        _replace(graph.node, nodes)
    return changed


def _spliced(graph: GraphProto, branch: GraphProto, node: NodeProto, names: FreshNames) -> Sequence[NodeProto]:
    made = [name for inner in branch.node for name in inner.output if name]
    made += [tensor.name for tensor in branch.initializer]
    rename_values(branch, {name: names(f"{node.output[0]}_{name}") for name in made})
    graph.initializer.extend(branch.initializer)
    graph.sparse_initializer.extend(branch.sparse_initializer)
    hand_on = [
        helper.make_node("Identity", [value.name], [name])
        for value, name in zip(branch.output, node.output, strict=True)
        if name
    ]
    return [*branch.node, *hand_on]
