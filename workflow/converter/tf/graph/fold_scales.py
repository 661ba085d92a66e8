"""Batch normalization folded into the filters before it, on weights that stay beside the graph.

A convolution or matrix product followed by a multiplication with one constant per channel is the same product with
scaled weights. The TFLite converter does this with constants inside the graph; for weights outside it is done here:

    Mul(Conv2D(x, w), s)                   ->  Conv2D(x, w * s)
    Mul(BiasAdd(Conv2D(x, w), b), s)       ->  BiasAdd(Conv2D(x, w * s), b * s)
    FusedBatchNormV3(Conv2D(x, w), ...)    ->  AddV2(Conv2D(x, w * s), t)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from converter.tf.graph.graph import GraphDef, NodeDef, canonical, node_name, topological
from converter.tf.graph.values import Value

__all__ = ["fold_scales"]

_PRODUCTS = ("Conv2D", "MatMul")
_SUMS = ("BiasAdd", "AddV2", "Add")
_EVALUATED: dict[str, Callable[..., np.ndarray]] = {
    "Const": np.asarray,
    "Identity": np.asarray,
    "Add": np.add,
    "AddV2": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "RealDiv": np.divide,
    "Sqrt": np.sqrt,
    "Rsqrt": lambda x: 1 / np.sqrt(x),
    "Reshape": np.reshape,
    "ExpandDims": lambda x, axis: np.expand_dims(x, int(axis)),
    "Squeeze": np.squeeze,
}
_MAX_SCALE_BYTES = 256 * 1024
_NORMALIZATIONS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")


@dataclass
class _Fold:
    """A product whose result is scaled: `product` -> `bias` (may be None) -> `scaling`, all nodes of the graph."""

    weight: str
    product: NodeDef
    bias: NodeDef | None
    scaling: NodeDef
    constants: list[str]  # tensors to evaluate: the bias's operand, then those of the scaling


def fold_scales(
    graph_def: GraphDef, weights: Mapping[str, np.ndarray], names: Iterable[str]
) -> tuple[GraphDef, dict[str, Value]]:
    """A copy of the graph without such scales, and the scaled values, by name, of those of `names` that they concerned.

    A weight is scaled only if its product, and its bias's sum, have no other use.
    """
    result = GraphDef()
    result.CopyFrom(graph_def)
    folds = _find(result, weights, set(names))
    if not folds:
        return result, {}
    tensors = list(dict.fromkeys(tensor for fold in folds for tensor in fold.constants))
    constants = _evaluate(graph_def, weights, tensors)
    scaled = {}
    for fold in folds:
        values = [constants[tensor] for tensor in fold.constants]
        bias = values.pop(0) if fold.bias is not None else None
        scale, offset = _scale_and_offset(fold.scaling, values)
        shape = weights[fold.weight].shape
        axis = 0 if fold.product.op == "MatMul" and fold.product.attr["transpose_b"].b else len(shape) - 1
        channels = _per_channel(scale, shape[axis])
        if channels is None:
            continue
        scaled[fold.weight] = _scaled(fold.weight, weights, channels, axis)
        _apply(result, fold, scale, bias, offset)
    return result, scaled


def _find(graph_def: GraphDef, weights: Mapping[str, np.ndarray], names: set[str]) -> list[_Fold]:
    nodes = {node.name: node for node in graph_def.node}
    consumers: dict[str, list[NodeDef]] = {}
    for node in graph_def.node:
        for source in node.input:
            consumers.setdefault(node_name(source), []).append(node)
    constant = _constants(graph_def, weights)

    def weight_of(source: str) -> str:
        name = node_name(source)
        while nodes[name].op == "Identity":
            name = node_name(nodes[name].input[0])
        return name

    def only_consumer(node: NodeDef) -> NodeDef | None:
        users = consumers.get(node.name, [])
        return users[0] if len(users) == 1 and len(set(users[0].input)) == len(users[0].input) else None

    def other_operand(node: NodeDef, operand: NodeDef) -> str | None:
        """The constant operand of a binary node, where the other one is `operand`."""
        sources = [source for source in node.input if node_name(source) != operand.name]
        return sources[0] if len(sources) == 1 and node_name(sources[0]) in constant else None

    def first_output_only(node: NodeDef) -> bool:
        sources = [source for user in consumers.get(node.name, []) for source in user.input]
        return all(canonical(source) == node.name for source in sources if node_name(source) == node.name)

    uses: dict[str, int] = {}
    folds = []
    for node in graph_def.node:
        if node.op not in _PRODUCTS:
            continue
        weight = weight_of(node.input[1])
        uses[weight] = uses.get(weight, 0) + 1
        if weight not in names or node.attr["data_format"].s not in (b"", b"NHWC"):
            continue
        scaling, bias, needed = only_consumer(node), None, []
        if scaling is not None and scaling.op in _SUMS and (operand := other_operand(scaling, node)):
            bias, scaling, needed = scaling, only_consumer(scaling), [operand]
        before = bias or node
        if scaling is None:
            continue
        if scaling.op == "Mul" and (operand := other_operand(scaling, before)):
            folds.append(_Fold(weight, node, bias, scaling, [*needed, operand]))
        elif (
            _is_inference_normalization(scaling, before)
            and all(node_name(source) in constant for source in scaling.input[1:5])
            and first_output_only(scaling)
        ):
            folds.append(_Fold(weight, node, bias, scaling, [*needed, *scaling.input[1:5]]))
    return [fold for fold in folds if uses[fold.weight] == 1]


def _is_inference_normalization(node: NodeDef, operand: NodeDef) -> bool:
    return (
        node.op in _NORMALIZATIONS
        and "is_training" in node.attr
        and not node.attr["is_training"].b
        and node.attr["data_format"].s in (b"", b"NHWC")
        and node_name(node.input[0]) == operand.name
    )


def _constants(graph_def: GraphDef, weights: Mapping[str, np.ndarray]) -> set[str]:
    """Names of the nodes whose value depends on constants and small weights only: no input of the model, no loop."""
    nodes = {node.name: node for node in graph_def.node}
    constant: set[str] = set()
    for name in topological(nodes, list(nodes)):
        node = nodes[name]
        if node.op == "Placeholder":
            known = name in weights and weights[name].nbytes <= _MAX_SCALE_BYTES
        else:
            known = node.op in _EVALUATED and all(node_name(source) in constant for source in node.input)
        if known:
            constant.add(name)
    return constant


def _evaluate(graph_def: GraphDef, weights: Mapping[str, np.ndarray], tensors: list[str]) -> dict[str, np.ndarray]:
    """Values of tensors that `_constants` knows. In numpy: a TensorFlow session costs more than all of it."""
    nodes = {node.name: node for node in graph_def.node}
    values: dict[str, np.ndarray] = {}
    for name in topological(nodes, [node_name(tensor) for tensor in tensors]):
        node = nodes[name]
        if node.op == "Placeholder":
            values[name] = weights[name]
        elif node.op == "Const":
            values[name] = tf.make_ndarray(node.attr["value"].tensor)
        else:
            operands = [values[node_name(source)] for source in node.input if not source.startswith("^")]
            if node.op == "Squeeze" and (axes := node.attr["squeeze_dims"].list.i):
                operands.append(tuple(axes))
            values[name] = np.asarray(_EVALUATED[node.op](*operands))
    return {tensor: values[node_name(tensor)] for tensor in tensors}


def _scale_and_offset(scaling: NodeDef, values: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
    if scaling.op == "Mul":
        return values[0], None
    gamma, beta, mean, variance = values
    scale = (gamma / np.sqrt(variance + np.float32(scaling.attr["epsilon"].f))).astype(np.float32)
    return scale, beta - mean * scale


def _per_channel(scale: np.ndarray, channels: int) -> np.ndarray | None:
    """The scale as (channels,), or None where it varies along another axis."""
    if scale.size not in (1, channels) or (scale.size > 1 and scale.shape[-1] != channels):
        return None
    return np.broadcast_to(scale.reshape(-1), (channels,))


def _scaled(name: str, weights: Mapping[str, np.ndarray], channels: np.ndarray, axis: int) -> Value:
    """The weight times the scale, computed when it is written."""
    array = weights[name]
    factors = channels.reshape([-1 if i == axis else 1 for i in range(array.ndim)])
    return Value(name, array.dtype, array.shape, lambda: (weights[name] * factors).astype(array.dtype))


def _apply(
    graph_def: GraphDef, fold: _Fold, scale: np.ndarray, bias: np.ndarray | None, offset: np.ndarray | None
) -> None:
    before = fold.product
    if fold.bias is not None:
        position = next(i for i, source in enumerate(fold.bias.input) if node_name(source) != fold.product.name)
        value = bias * (scale.reshape(-1) if fold.bias.op == "BiasAdd" else scale)
        fold.bias.input[position] = _constant(graph_def, f"{fold.scaling.name}/scaled_bias", value)
        before = fold.bias
    name, dtype = fold.scaling.name, fold.product.attr["T"].type
    fold.scaling.Clear()
    fold.scaling.name = name
    fold.scaling.attr["T"].type = dtype
    fold.scaling.input.append(before.name)
    if offset is None:
        fold.scaling.op = "Identity"
    else:
        fold.scaling.op = "AddV2"
        fold.scaling.input.append(_constant(graph_def, f"{name}/offset", offset))


def _constant(graph_def: GraphDef, name: str, value: np.ndarray) -> str:
    node = graph_def.node.add(name=name, op="Const")
    proto = tf.make_tensor_proto(value.astype(np.float32))
    node.attr["dtype"].type = proto.dtype
    node.attr["value"].tensor.CopyFrom(proto)
    return name
