"""What is computed of sizes alone: known even where a shape has other sizes beside them that are not."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, helper

from converter.onnx.core.graphs import STANDARD, Scope

__all__ = ["known_sizes"]

_ON_SIZES = {"Shape", "Gather", "Slice", "Concat", "Squeeze", "Unsqueeze", "Size"}
# Sizes and positions among them are few; what is longer is no shape.
_LONGEST = 1024


def known_sizes(graph: GraphProto, scope: Scope, types: Mapping[str, onnx.TypeProto]) -> dict[str, np.ndarray]:
    """The values of what is made of known sizes alone, even where a shape has others beside them."""
    partial: dict[str, np.ndarray] = {}
    for node in graph.node:
        if node.domain in STANDARD and node.op_type in _ON_SIZES and len(node.output) == 1:
            result = _on_sizes(node, partial, scope, types)
            if result is not None:
                partial[node.output[0]] = result
    return {
        name: array.astype(np.int64) for name, array in partial.items() if all(size is not None for size in array.flat)
    }


def _on_sizes(
    node: NodeProto, partial: dict[str, np.ndarray], scope: Scope, types: Mapping[str, onnx.TypeProto]
) -> np.ndarray | None:
    """Sizes as objects, None for those that are not known; None for all else than a vector or a number of sizes."""
    attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    if node.op_type in ("Shape", "Size"):
        kind = types.get(node.input[0])
        if kind is None or not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
            return None
        dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.tensor_type.shape.dim]
        if node.op_type == "Size":
            return None if None in dims else np.array(math.prod(dim for dim in dims if dim is not None), object)
        return np.array(dims[attributes.get("start", 0) : attributes.get("end")], object)
    if not any(name in partial for name in node.input):
        return None
    arrays = [array for name in node.input if name and (array := partial.get(name, scope.constant(name))) is not None]
    if len(arrays) < len(node.input) or any(array.size > _LONGEST for array in arrays):
        return None
    data, rest = arrays[0], arrays[1:]
    if node.op_type == "Concat":
        return np.concatenate([array.astype(object) for array in arrays])
    if node.input[0] not in partial or any(None in array.reshape(-1).tolist() for array in rest):
        return None
    if node.op_type == "Gather":
        fits = data.ndim == 1 and _within(rest[0], data.size)
        return np.asarray(np.take(data, rest[0].astype(np.int64)), object) if fits else None
    if node.op_type in ("Squeeze", "Unsqueeze"):
        wanted = data.reshape(-1) if node.op_type == "Unsqueeze" else data.reshape(()) if data.size == 1 else None
        return wanted if data.ndim == (node.op_type == "Squeeze") else None
    starts = rest or [attributes.get("starts"), attributes.get("ends")]
    begin, end, *_, step = [*[int(np.asarray(entry).reshape(-1)[0]) for entry in starts[:2]], 1]
    if len(rest) == 4:
        step = int(rest[3].reshape(-1)[0])
    return data[slice(begin, end)] if data.ndim == 1 and step == 1 else None


def _within(indices: np.ndarray, size: int) -> bool:
    return bool(np.all((indices >= -size) & (indices < size)))
