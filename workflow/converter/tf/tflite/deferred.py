"""Large weights that pass by the converter: inputs of the graph while it is converted, constants of the file afterwards.

The converter (TensorFlow 2.21) needs 0.05 CPU s and six times its size in memory for each megabyte of constants. A
filter, a matrix or an embedding table that is an input of the graph instead reaches the same operator, at most through
a TRANSPOSE or RESHAPE, which is done here on the mapped weights while the file is written. Where the converter would
have done more with a constant (folded a scale into it, chosen FULLY_CONNECTED over BATCH_MATMUL), the weight is named
as misplaced, for another conversion with it inside.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from converter.tf.graph.graph import canonical, node_name
from converter.tf.graph.values import Value
from converter.tflite.flatbuffer import constant, is_constant, operator_name, schema
from converter.tflite.prune import drop_unused

__all__ = ["MIN_BYTES", "deferrable", "misplaced", "place", "transpose_matrices"]

MIN_BYTES = 256 * 1024  # below, the converter's work is too little to save

# Where a weight may arrive: operator of the graph -> its input's position.
_GRAPH_USES = {"Conv2D": 1, "Conv3D": 1, "MatMul": 1, "GatherV2": 0, "ResourceGather": 0}
_FILE_USES = {"CONV_2D": 1, "CONV_3D": 1, "FULLY_CONNECTED": 1, "GATHER": 0, "EMBEDDING_LOOKUP": 1}
# What the converter folds into a constant weight, and leaves behind an input.
_FOLDED_SCALES = ("MUL", "DIV")


def deferrable(graph_def: tf.compat.v1.GraphDef, weights: Mapping[str, np.ndarray]) -> list[str]:
    """Names of the weights that are large enough and used only where they may arrive, through Identity at most."""
    consumers: dict[str, list[tuple[tf.compat.v1.NodeDef, int]]] = {}
    for node in graph_def.node:
        for position, source in enumerate(node.input):
            consumers.setdefault(canonical(source), []).append((node, position))

    def arrives(name: str) -> bool:
        used = consumers.get(name, [])
        return bool(used) and all(
            arrives(node.name) if node.op == "Identity" else _GRAPH_USES.get(node.op) == position
            for node, position in used
        )

    return [
        node.name
        for node in graph_def.node
        if node.op == "Placeholder"
        and node.name in weights
        and weights[node.name].nbytes >= MIN_BYTES
        and node.attr["dtype"].type == tf.float32.as_datatype_enum
        and arrives(node.name)
    ]


def transpose_matrices(
    graph_def: tf.compat.v1.GraphDef, values: dict[str, np.ndarray | Value]
) -> tuple[tf.compat.v1.GraphDef, dict[str, np.ndarray | Value]]:
    """A copy in which the matrices among `values` are stored as FULLY_CONNECTED wants them, (units, inputs).

    A matrix that is an input and not yet transposed may become BATCH_MATMUL, which a constant never does.
    """
    result = tf.compat.v1.GraphDef()
    result.CopyFrom(graph_def)
    values = dict(values)
    nodes = {node.name: node for node in result.node}
    products: dict[str, list[tf.compat.v1.NodeDef]] = {}
    others = set()
    for node in result.node:
        for position, source in enumerate(node.input):
            name = _origin(nodes, source)
            if name not in values or node.op == "Identity":
                continue
            if node.op == "MatMul" and position == 1 and not node.attr["transpose_b"].b:
                products.setdefault(name, []).append(node)
            else:
                others.add(name)
    for name in set(products) - others:
        values[name] = _transposed(values[name], np.array([1, 0]))
        nodes[name].attr["shape"].shape.CopyFrom(tf.TensorShape(values[name].shape).as_proto())
        for node in products[name]:
            node.attr["transpose_b"].b = True
    return result, values


def _origin(nodes: Mapping[str, tf.compat.v1.NodeDef], source: str) -> str:
    name = node_name(source)
    while name in nodes and nodes[name].op == "Identity":
        name = node_name(nodes[name].input[0])
    return name


def misplaced(model: schema.ModelT, names: list[str]) -> set[str]:
    """Those of the last len(names) inputs of the model that did not arrive where a constant would be."""
    subgraph = model.subgraphs[0]
    deferred = dict(zip(_last_inputs(model, len(names)), names, strict=True))
    return {name for index, name in deferred.items() if not _arrives(model, subgraph, index)}


def _last_inputs(model: schema.ModelT, count: int) -> list[int]:
    return (
        [int(index) for index in model.subgraphs[0].inputs[len(model.subgraphs[0].inputs) - count :]] if count else []
    )


def _arrives(model: schema.ModelT, subgraph: schema.SubGraphT, index: int) -> bool:
    if index in subgraph.outputs:
        return False
    for operator in subgraph.operators:
        name = operator_name(model, operator)
        for position, source in enumerate(operator.inputs):
            if source != index:
                continue
            if _is_view(model, subgraph, operator) and position == 0:
                if not _arrives(model, subgraph, int(operator.outputs[0])):
                    return False
            elif _FILE_USES.get(name) != position or _is_scaled(model, subgraph, operator):
                return False
    return True


def _is_view(model: schema.ModelT, subgraph: schema.SubGraphT, operator: schema.OperatorT) -> bool:
    return operator_name(model, operator) in ("TRANSPOSE", "RESHAPE") and is_constant(
        model, subgraph.tensors[operator.inputs[1]]
    )


def _is_scaled(model: schema.ModelT, subgraph: schema.SubGraphT, operator: schema.OperatorT) -> bool:
    """Whether the operator's result is multiplied by a constant and nothing else."""
    if operator_name(model, operator) == "GATHER":
        return False
    consumers = [other for other in subgraph.operators if operator.outputs[0] in other.inputs]
    return any(
        operator_name(model, other) in _FOLDED_SCALES
        and any(is_constant(model, subgraph.tensors[index]) for index in other.inputs if index >= 0)
        for other in consumers
    )


def place(model: schema.ModelT, arrays: list[np.ndarray | Value]) -> None:
    """Make the last len(arrays) inputs constants of these values, in place. None of them may be `misplaced`.

    They are read, scaled and transposed when `tflite_file.write` comes to them, one at a time.
    """
    subgraph = model.subgraphs[0]
    indices = _last_inputs(model, len(arrays))
    subgraph.inputs = [int(index) for index in subgraph.inputs[: len(subgraph.inputs) - len(arrays)]]
    for index, array in zip(indices, arrays, strict=True):
        _place(model, subgraph, index, array)
    drop_unused(model)


def _transposed(array: np.ndarray | Value, order: np.ndarray) -> Value:
    shape = tuple(array.shape[axis] for axis in order)
    return Value("", array.dtype, shape, lambda: np.transpose(np.asarray(array), order))


def _reshaped(array: np.ndarray | Value, shape: np.ndarray) -> Value:
    return Value("", array.dtype, tuple(shape.tolist()), lambda: np.asarray(array))


def _place(model: schema.ModelT, subgraph: schema.SubGraphT, index: int, array: np.ndarray | Value) -> None:
    views = [
        operator
        for operator in subgraph.operators
        if index in operator.inputs and _is_view(model, subgraph, operator) and operator.inputs[0] == index
    ]
    for operator in views:
        argument = constant(model, subgraph.tensors[operator.inputs[1]])
        transposes = operator_name(model, operator) == "TRANSPOSE"
        value = _transposed(array, argument) if transposes else _reshaped(array, argument)
        subgraph.operators.remove(operator)
        _place(model, subgraph, int(operator.outputs[0]), value)
    if any(index in operator.inputs for operator in subgraph.operators):
        tensor = subgraph.tensors[index]
        buffer = schema.BufferT()
        buffer.data = array
        tensor.buffer = len(model.buffers)
        tensor.shape, tensor.shapeSignature = list(array.shape), None
        model.buffers.append(buffer)
