"""Types, shapes and sizes of what nodes give, as they are written: a file's own shapes hold for one size of its inputs."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import onnx

from converter.errors import SourceError, UnsupportedError

__all__ = ["TensorType", "known_numbers", "output_types"]

# Larger constants are no shapes, axes or sizes.
_MOST_BYTES = 4096
_MOST_NUMBERS = 64


@dataclass(frozen=True)
class TensorType:
    """A dtype by ONNX's number, and a shape; None for an axis of free size, and for a shape of an unknown number of axes."""

    kind: int
    shape: tuple[int | None, ...] | None

    @classmethod
    def of(cls, array: np.ndarray) -> TensorType:
        """That of a constant."""
        return cls(onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)

    def proto(self) -> onnx.TypeProto:
        """As ONNX writes it."""
        return onnx.helper.make_tensor_type_proto(self.kind, self.shape)


def output_types(
    node: onnx.NodeProto,
    types: Mapping[str, TensorType],
    arrays: Mapping[str, np.ndarray],
    numbers: Mapping[str, np.ndarray],
    opset: int,
) -> dict[str, TensorType]:
    """Types of the node's outputs, of those of its inputs. Raises SourceError where these do not fit the operator."""
    given = [name for name in node.input if name]
    if node.op_type == "Slice" and 0 in (types[node.input[0]].shape or ()):
        # onnx 1.23 ends the process where a step is negative (std::clamp of an empty range).
        first = types[node.input[0]]
        free = tuple(0 if size == 0 else None for size in first.shape or ())
        return {node.output[0]: TensorType(first.kind, free)}
    data = {
        name: onnx.numpy_helper.from_array(arrays[name], name)
        for name in given
        if name in arrays and arrays[name].nbytes <= _MOST_BYTES and arrays[name].dtype.kind != "c"
    }
    opsets = [onnx.helper.make_opsetid("", opset)]
    try:
        found = onnx.shape_inference.infer_node_outputs(
            onnx.defs.get_schema(node.op_type, opset, ""),
            node,
            {name: types[name].proto() for name in given},
            data,
            opset_imports=opsets,
            ir_version=onnx.helper.find_min_ir_version_for(opsets),
        )
    except onnx.checker.ValidationError as error:
        raise UnsupportedError(
            f"the TensorFlow Lite model has types that ONNX lacks ({node.op_type}: {error})"
        ) from error
    except onnx.shape_inference.InferenceError as error:
        raise SourceError(f"shapes or types of its tensors do not fit each other ({node.op_type}: {error})") from error
    result = {}
    for name, proto in found.items():
        tensor = proto.tensor_type
        dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
        if any(dim is not None and dim < 0 for dim in dims):
            raise SourceError(f"shapes of its tensors do not fit each other ({node.op_type} gives {dims})")
        shape = tuple(dims) if tensor.HasField("shape") else None
        result[name] = TensorType(tensor.elem_type, _with_numbers(node, shape, types, numbers))
    return result


def _with_numbers(
    node: onnx.NodeProto,
    shape: tuple[int | None, ...] | None,
    types: Mapping[str, TensorType],
    numbers: Mapping[str, np.ndarray],
) -> tuple[int | None, ...] | None:
    """The shape, where an input of sizes tells more of it, some of which may be known."""
    place = {"Reshape": 1, "Expand": 1, "ConstantOfShape": 0, "Resize": 3}.get(node.op_type)
    if place is None or (shape is not None and None not in shape):
        return shape
    sizes = _sizes(node.input[place], types, numbers)
    if sizes is None or (node.op_type == "Reshape" and shape is not None and len(shape) != len(sizes)):
        return shape
    if node.op_type == "Expand":
        own = types[node.input[0]].shape
        if own is None:
            return shape
        longest = max(len(own), len(sizes))
        aligned = [[1] * (longest - len(part)) + list(part) for part in (own, sizes)]
        sizes = [second if first == 1 else first for first, second in zip(*aligned, strict=True)]
    return tuple(size if size is not None and size >= 0 else None for size in sizes)


def _sizes(name: str, types: Mapping[str, TensorType], numbers: Mapping[str, np.ndarray]) -> list[int | None] | None:
    if name in numbers and numbers[name].ndim == 1:
        return numbers[name].tolist()
    found = types[name].shape
    if found is None or len(found) != 1 or found[0] is None or found[0] > _MOST_NUMBERS:
        return None
    free: list[int | None] = [None] * found[0]
    return free


def _each(function: Callable[..., int]) -> Callable[..., np.ndarray]:
    def of_known(*numbers: int | None) -> int | None:
        return None if None in numbers else function(*numbers)

    return lambda *arrays: np.asarray(np.frompyfunc(of_known, len(arrays), 1)(*arrays), object)


_ELEMENTWISE: dict[str, Callable[..., np.ndarray]] = {
    "Add": _each(lambda x, y: x + y),
    "Sub": _each(lambda x, y: x - y),
    "Mul": _each(lambda x, y: x * y),
    "Max": _each(max),
    "Min": _each(min),
}


def known_numbers(
    node: onnx.NodeProto, types: Mapping[str, TensorType], numbers: Mapping[str, np.ndarray], result: TensorType
) -> np.ndarray | None:
    """The node's one output as whole numbers, None where the data tell one; None where they are no sizes.

    numbers: the same of its inputs, constants among them.
    """
    if result.kind not in (onnx.TensorProto.INT32, onnx.TensorProto.INT64):
        return None
    kind = node.op_type
    if kind == "Shape":
        shape = types[node.input[0]].shape
        return None if shape is None else np.array(shape, object)
    if kind not in _OF_NUMBERS and kind not in _ELEMENTWISE:
        return None
    arrays: list[np.ndarray] = []
    for name in node.input:
        array = numbers[name] if name in numbers else _unknown(types[name])
        if array is None:
            return None
        arrays.append(array)
    try:
        if kind in _ELEMENTWISE:
            found = np.asarray(functools.reduce(_ELEMENTWISE[kind], arrays), object)
        else:
            axis = next((entry.i for entry in node.attribute if entry.name == "axis"), 0)
            found = _OF_NUMBERS[kind](arrays, axis)
    except (ValueError, IndexError, TypeError, np.exceptions.AxisError):
        return None
    limits = np.iinfo(onnx.helper.tensor_dtype_to_np_dtype(result.kind))
    known = [number for number in found.reshape(-1).tolist() if number is not None]
    if found.size > _MOST_NUMBERS or (found.size and not known):
        return None
    return found if all(limits.min <= number <= limits.max for number in known) else None


def _unknown(tensor: TensorType) -> np.ndarray | None:
    """Of as many numbers as the tensor has."""
    if tensor.shape is None or None in tensor.shape or math.prod(cast("tuple[int, ...]", tensor.shape)) > _MOST_NUMBERS:
        return None
    return np.full(cast("tuple[int, ...]", tensor.shape), None, object)


def _slice(arrays: Sequence[np.ndarray], axis: int) -> np.ndarray:
    data, starts, ends = arrays[:3]
    axes, steps = arrays[3] if len(arrays) > 3 else [0], arrays[4] if len(arrays) > 4 else [1]
    if data.ndim != 1 or list(axes) != [0]:
        raise ValueError
    return data[slice(starts.item(), ends.item(), steps[0])]


def _of_parts(function: Callable[..., Any]) -> Callable[[Sequence[np.ndarray], int], np.ndarray]:
    return lambda arrays, axis: np.asarray(function(arrays[0], *arrays[1:]), object)


_OF_NUMBERS: dict[str, Callable[[Sequence[np.ndarray], int], np.ndarray]] = {
    "Cast": _of_parts(lambda data: data),
    "Concat": lambda arrays, axis: np.concatenate(arrays, axis),
    "Gather": lambda arrays, axis: np.asarray(np.take(arrays[0], arrays[1].astype(np.int64), axis), object),
    "Identity": _of_parts(lambda data: data),
    "Reshape": _of_parts(lambda data, shape: data.reshape(shape.tolist())),
    "Slice": _slice,
    "Squeeze": _of_parts(lambda data, axes: np.squeeze(data, tuple(axes.tolist()))),
    "Unsqueeze": _of_parts(lambda data, axes: np.expand_dims(data, tuple(axes.tolist()))),
}
