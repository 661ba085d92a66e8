"""Sizes of tensors, and tensors of other sizes with the same elements."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from converter.onnx_to_torch.core.registry import Call, on_sizes, operator
from converter.onnx_to_torch.core.values import Known

__all__: list[str] = []

# Up to here arrays of numbers that sizes decide are computed before the model runs; larger ones are no shapes or axes.
_MOST_NUMBERS = 256


def _sizes(call: Call) -> list[Any]:
    value = call.inputs[0]
    return list(value.array.shape if isinstance(value, Known) else call.tensor(0).shape)


@operator("Shape")
def _shape(call: Call) -> Known:
    sizes = _sizes(call)[call.attribute("start", 0) : call.attribute("end", None)]
    if isinstance(call.inputs[0], Known):
        return call.constant(np.array(sizes, np.int64))
    return call.sizes(sizes)


@operator("Size")
def _size(call: Call) -> Known:
    count = math.prod(_sizes(call))
    return call.constant(np.array(count, np.int64)) if isinstance(call.inputs[0], Known) else call.sizes(count)


@on_sizes("Shape", "Size")
def _shape_of_sizes(call: Call, arrays: list[np.ndarray]) -> Known:
    return _shape(call) if call.node.op_type == "Shape" else _size(call)


def _wanted(call: Call, shape: list[Any]) -> list[Any]:
    """The sizes that Reshape gives, -1 among them."""
    sizes = call.ints(1) or []
    if call.attribute("allowzero", 0):
        return sizes
    return [shape[axis] if isinstance(size, int) and size == 0 else size for axis, size in enumerate(sizes)]


@operator("Reshape")
def _reshape(call: Call) -> torch.Tensor:
    x = call.tensor(0)
    return x.reshape(_wanted(call, list(x.shape)))


@on_sizes("Reshape")
def _reshape_sizes(call: Call, arrays: list[np.ndarray]) -> np.ndarray | None:
    sizes = _wanted(call, list(arrays[0].shape))
    return arrays[0].reshape(sizes) if _are_plain(sizes) else None


def _flattened(call: Call, shape: list[Any]) -> list[Any]:
    axis = call.attribute("axis", 1)
    return [math.prod(shape[:axis]), math.prod(shape[axis:])]


@operator("Flatten")
def _flatten(call: Call) -> torch.Tensor:
    x = call.tensor(0)
    if x.ndim > 1 and call.attribute("axis", 1) in (1, 1 - x.ndim):
        return x.flatten(1)
    return x.reshape(_flattened(call, list(x.shape)))


@on_sizes("Flatten")
def _flatten_sizes(call: Call, arrays: list[np.ndarray]) -> np.ndarray:
    return arrays[0].reshape(_flattened(call, list(arrays[0].shape)))


def _axes(call: Call, rank: int) -> list[int] | None:
    """Of Squeeze and Unsqueeze, counted from the front; an attribute before opset 13."""
    axes = call.ints(1) if call.has(1) else call.attribute("axes")
    if axes is None:
        return None
    if not _are_plain(axes):
        raise call.refusal("needs axes that are known before the model runs, which this model computes")
    return sorted(axis % rank for axis in axes)


@operator("Squeeze")
def _squeeze(call: Call) -> torch.Tensor:
    x = call.tensor(0)
    axes = _axes(call, x.ndim)
    if axes is None:
        axes = [axis for axis, size in enumerate(x.shape) if isinstance(size, int) and size == 1]
    for axis in axes:
        size = x.shape[axis]
        # torch would leave an axis of another size where it is, and the tensor with another rank.
        if not isinstance(size, int) or size != 1:
            raise call.refusal(f"removes axis {axis}, which has size 1 for some inputs only: give it in input_shape")
    return x.squeeze(axes) if axes else x


@on_sizes("Squeeze")
def _squeeze_sizes(call: Call, arrays: list[np.ndarray]) -> np.ndarray:
    axes = _axes(call, arrays[0].ndim)
    return np.squeeze(arrays[0], None if axes is None else tuple(axes))


@operator("Unsqueeze")
def _unsqueeze(call: Call) -> torch.Tensor:
    x = call.tensor(0)
    for axis in _axes(call, x.ndim + _count_of_axes(call)) or []:
        x = x.unsqueeze(axis)
    return x


@on_sizes("Unsqueeze")
def _unsqueeze_sizes(call: Call, arrays: list[np.ndarray]) -> np.ndarray:
    return np.expand_dims(arrays[0], _axes(call, arrays[0].ndim + _count_of_axes(call)) or ())


def _count_of_axes(call: Call) -> int:
    return len((call.ints(1) if call.has(1) else call.attribute("axes")) or [])


@operator("Transpose")
def _transpose(call: Call) -> torch.Tensor:
    x = call.tensor(0)
    return x.permute(call.attribute("perm") or list(range(x.ndim))[::-1])


@on_sizes("Transpose")
def _transpose_sizes(call: Call, arrays: list[np.ndarray]) -> np.ndarray:
    return arrays[0].transpose(call.attribute("perm"))


@operator("Expand")
def _expand(call: Call) -> torch.Tensor:
    """To the shape that both broadcast to: where the one given has a 1, the tensor keeps its size."""
    x, sizes = call.tensor(0), call.ints(1) or []
    shape = [1] * (len(sizes) - x.ndim) + list(x.shape)
    sizes = [1] * (len(shape) - len(sizes)) + sizes
    added = len(shape) - x.ndim
    # -1: as it is.
    wanted = [size if axis < added or _is_one(shape[axis]) else -1 for axis, size in enumerate(sizes)]
    return x.expand(wanted) if any(not isinstance(size, int) or size != -1 for size in wanted) else x


def _is_one(size: Any) -> bool:
    # Sizes that vary are never 1 while torch.export traces a model.
    return isinstance(size, int) and size == 1


@on_sizes("Expand")
def _expand_sizes(call: Call, arrays: list[np.ndarray]) -> np.ndarray | None:
    sizes = call.ints(1) or []
    if not _are_plain(sizes):
        return None
    return _if_few(lambda shape: np.broadcast_to(arrays[0], shape), np.broadcast_shapes(arrays[0].shape, sizes))


@operator("Concat")
def _concat(call: Call) -> torch.Tensor:
    return torch.cat(call.tensors(), call.attribute("axis", 1))


@on_sizes("Concat")
def _concat_sizes(call: Call, arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([array.astype(object) for array in arrays], call.attribute("axis", 1))


def _lengths(call: Call, size: Any) -> list[Any]:
    """Of the parts that Split makes of an axis; opset 18 lets the last be shorter."""
    lengths = call.ints(1) if call.has(1) else call.attribute("split")
    if lengths is not None:
        return lengths
    count = call.attribute("num_outputs", call.outputs_asked)
    part = -(-size // count)
    return [part] * (count - 1) + [size - part * (count - 1)]


@operator("Split")
def _split(call: Call) -> tuple[torch.Tensor, ...]:
    x, axis = call.tensor(0), call.attribute("axis", 0)
    return tuple(x.split(_lengths(call, x.shape[axis]), axis))


@on_sizes("Split")
def _split_sizes(call: Call, arrays: list[np.ndarray]) -> tuple[np.ndarray, ...] | None:
    axis = call.attribute("axis", 0)
    lengths = _lengths(call, arrays[0].shape[axis])
    return tuple(np.split(arrays[0], np.cumsum(lengths)[:-1], axis)) if _are_plain(lengths) else None


@operator("Tile")
def _tile(call: Call) -> torch.Tensor:
    return call.tensor(0).repeat(call.ints(1) or [])


@on_sizes("Tile")
def _tile_sizes(call: Call, arrays: list[np.ndarray]) -> np.ndarray | None:
    repeats = call.ints(1) or []
    if not _are_plain(repeats):
        return None
    return _if_few(lambda _: np.tile(arrays[0], repeats), np.multiply(arrays[0].shape, repeats))


def _if_few(compute: Any, shape: Any) -> np.ndarray | None:
    return compute(tuple(shape)) if math.prod(map(int, shape)) <= _MOST_NUMBERS else None


def _are_plain(numbers: list[Any]) -> bool:
    return all(isinstance(number, int) for number in numbers)
