"""Permutations and reshapes: the only places where data moves because PyTorch and Keras order axes differently."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras

from converter.torch_to_keras.call import Call
from converter.torch_to_keras.values import (
    Dim,
    KerasTensor,
    Value,
    channels_last,
    keras_shape,
    magnitude,
    same,
    same_shape,
    static,
)

__all__ = [
    "MOST_AXES",
    "axis_last",
    "channels_last_tensor",
    "ordered",
    "permuted",
    "reshape_tensor",
    "shape_groups",
    "torch_tensor",
    "view",
]


def ordered(call: Call, value: Value, order: Sequence[int]) -> KerasTensor:
    """The Keras tensor of `value` with its axes in `order`, permuted if need be.

    Moving axes of size 1 past others moves no data: that is a Reshape.
    """
    order = tuple(order)
    if value.order == order:
        return value.tensor
    cache = call.conversion.permutations
    # The value is kept with the result, so that no other can take its id.
    known = cache.get((id(value.tensor), value.order, order))
    if known is not None:
        return known[1]
    moving = [axis for axis in value.order if static(value.shape[axis]) != 1]
    if moving == [axis for axis in order if static(value.shape[axis]) != 1] and value.order[0] == order[0]:
        tensor = reshape_tensor(call, value.tensor, value.storage_shape, [value.shape[axis] for axis in order])
    else:
        tensor = _transpose(call, value.tensor, [value.order.index(axis) for axis in order])
    cache[id(value.tensor), value.order, order] = (value.tensor, tensor)
    return tensor


# TensorFlow Lite's TRANSPOSE takes no more (LiteRT 2.3).
MOST_AXES = 6


def _transpose(call: Call, tensor: KerasTensor, axes: list[int]) -> KerasTensor:
    if len(axes) > MOST_AXES and (merged := _transposed_runs(call, tensor, axes)) is not None:
        return merged
    if axes[0] == 0:
        return call.layer(keras.layers.Permute, tensor, dims=tuple(axes[1:]))
    return call.op(keras.ops.transpose, tensor, axes)


def _transposed_runs(call: Call, tensor: KerasTensor, axes: list[int]) -> KerasTensor | None:
    """With axes that stay beside each other as one; None where that helps nothing, or sizes are unknown."""
    runs: list[list[int]] = []
    for axis in axes:
        if runs and axis == runs[-1][-1] + 1:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    sizes = tensor.shape
    if len(runs) > MOST_AXES or None in sizes:
        return None
    stored = sorted(runs)
    merged = call.op(keras.ops.reshape, tensor, tuple(math.prod(sizes[axis] for axis in run) for run in stored))
    moved = call.op(keras.ops.transpose, merged, [stored.index(run) for run in runs])
    return call.op(keras.ops.reshape, moved, tuple(sizes[axis] for axis in axes))


def torch_tensor(call: Call, value: Value) -> KerasTensor:
    """The Keras tensor with PyTorch's order of axes."""
    return ordered(call, value, range(len(value.shape)))


def channels_last_tensor(call: Call, value: Value) -> KerasTensor:
    """The Keras tensor as (N, ..., C)."""
    return ordered(call, value, channels_last(len(value.shape)))


def axis_last(call: Call, value: Value, axis: int) -> Value:
    """The value with PyTorch's `axis` last in storage, the others as they were."""
    axis %= len(value.shape)
    order = (*(a for a in value.order if a != axis), axis)
    if order == value.order:
        return value
    return Value(ordered(call, value, order), value.shape, order, value.nonnegative)


def permuted(value: Value, dims: Sequence[int]) -> Value:
    """PyTorch's permute: axis i of the result is axis dims[i]. No data moves."""
    dims = [dim % len(value.shape) for dim in dims]
    order = tuple(dims.index(axis) for axis in value.order)
    return Value(value.tensor, tuple(value.shape[dim] for dim in dims), order, value.nonnegative)


def reshape_tensor(call: Call, tensor: KerasTensor, old: Sequence[Dim], new: Sequence[Dim]) -> KerasTensor:
    """Reshape the Keras tensor of shape `old` to `new`. At most one size beside the batch may be unknown."""
    before = call.conversion.reshaped.get(id(tensor))
    if before is not None:
        _, tensor, old = before  # a reshape of a reshape is one
    if same_shape(old, new):
        return tensor
    reshaped = _reshaped(call, tensor, old, new)
    call.conversion.reshaped[id(reshaped)] = (reshaped, tensor, old)
    return reshaped


def _reshaped(call: Call, tensor: KerasTensor, old: Sequence[Dim], new: Sequence[Dim]) -> KerasTensor:
    target = keras_shape(new)
    if old and new and same(old[0], new[0]):
        rest = target[1:]
        if len(rest) == 1 and len(old) > 2 and rest[0] is not None:
            return call.layer(keras.layers.Flatten, tensor)
        if rest.count(None) <= 1:
            return call.layer(keras.layers.Reshape, tensor, target_shape=tuple(-1 if d is None else d for d in rest))
    if target.count(None) > 1:
        raise call.unsupported(f"it makes a tensor of shape {list(target)} with several unknown sizes")
    return call.op(keras.ops.reshape, tensor, tuple(-1 if d is None else d for d in target))


def view(call: Call, value: Value, new: Sequence[Dim]) -> Value:
    """PyTorch's view: the same elements, in PyTorch's order, as shape `new`.

    Axes that are only split, or merged with their neighbours in storage, stay where they are, so that a channels-last
    tensor of (N, C, H, W) viewed as (N, G, C / G, H, W) is just (N, H, W, G, C / G).
    """
    new = tuple(new)
    if same_shape(value.shape, new):
        return value
    groups = shape_groups(value.shape, new)
    order = _contiguous_order(groups, value)
    tensor = ordered(call, value, order)
    blocks = _blocks_in_storage(groups, order)
    new_order = tuple(axis for block in blocks for axis in block)
    old_storage = [value.shape[axis] for axis in order]
    tensor = reshape_tensor(call, tensor, old_storage, [new[axis] for axis in new_order])
    return Value(tensor, new, new_order, value.nonnegative)


def shape_groups(old: Sequence[Dim], new: Sequence[Dim]) -> list[tuple[list[int], list[int]]]:
    """The finest partition into (old axes, new axes) of equal numbers of elements; axes of size 1 have their own."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        old_is_one = i < len(old) and static(old[i]) == 1
        new_is_one = j < len(new) and static(new[j]) == 1
        if old_is_one or new_is_one:
            groups.append(([i] if old_is_one else [], [j] if new_is_one else []))
            i, j = i + old_is_one, j + new_is_one
            continue
        olds, news = [i], [j]
        while not same(math.prod(old[a] for a in olds), math.prod(new[a] for a in news)):
            left, right = (math.prod(magnitude(d[a]) for a in axes) for d, axes in ((old, olds), (new, news)))
            if left < right and olds[-1] + 1 < len(old):
                olds.append(olds[-1] + 1)
            elif news[-1] + 1 < len(new):
                news.append(news[-1] + 1)
            else:
                olds, news = list(range(i, len(old))), list(range(j, len(new)))
                break
        i, j = olds[-1] + 1, news[-1] + 1
        groups.append((olds, news))
    return groups


def _contiguous_order(groups: list[tuple[list[int], list[int]]], value: Value) -> tuple[int, ...]:
    """The storage order nearest to the present one in which the axes of each group follow each other."""
    order = value.order
    if all(list(order[order.index(olds[0]) :][: len(olds)]) == olds for olds, _ in groups if olds):
        return order

    def place(olds: list[int]) -> int:
        moving = [axis for axis in olds if static(value.shape[axis]) != 1] or olds
        # A group goes where its last stored axis is; the batch stays first.
        return -1 if 0 in olds and order[0] == 0 else max(order.index(axis) for axis in moving)

    return tuple(axis for olds in sorted((olds for olds, _ in groups if olds), key=place) for axis in olds)


def _blocks_in_storage(groups: list[tuple[list[int], list[int]]], order: tuple[int, ...]) -> list[list[int]]:
    """The new axes of each group, groups in storage order.

    An inserted axis follows the group before it; one in front of all follows the first in storage, which is the batch.
    """
    keys = []
    place = 0
    for sequence, (olds, _) in enumerate(groups):
        seen = any(earlier for earlier, _ in groups[:sequence])
        place = order.index(olds[0]) if olds else place
        keys.append((place, sequence if olds or seen else len(groups)))
    return [news for _, (_, news) in sorted(zip(keys, groups, strict=True), key=lambda item: item[0]) if news]
