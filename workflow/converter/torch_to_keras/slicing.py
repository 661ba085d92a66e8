"""Slices: an indexing where operations are allowed, else cropping layers around the axis."""

from __future__ import annotations

import math
import operator

from keras import layers

from converter.torch_to_keras.call import Call
from converter.torch_to_keras.layout import reshape_tensor, view
from converter.torch_to_keras.registry import converts
from converter.torch_to_keras.values import Dim, KerasTensor, Value, expression_of, same, static

__all__ = ["known_bound", "select_axis", "slice_axis"]


def slice_axis(call: Call, value: Value, axis: int, start: int, stop: int, step: int = 1) -> Value:
    """value[..., start:stop:step, ...] along PyTorch's `axis`, within bounds, all numbers."""
    axis %= len(value.shape)
    size = static(value.shape[axis])
    if size is not None and (start, stop, step) == (0, size, 1):
        return value
    shape = (*value.shape[:axis], -(-(stop - start) // step), *value.shape[axis + 1 :])
    place = value.axis(axis)
    if call.layers_only:
        tensor = _crop(call, value, place, start, stop, step, shape)
    else:
        index = slice(start, stop, step if step != 1 else None)
        tensor = call.op(operator.getitem, value.tensor, (*(slice(None),) * place, index))
    return Value(tensor, shape, value.order, value.nonnegative)


def _crop(
    call: Call, value: Value, place: int, start: int, stop: int, step: int, shape: tuple[Dim, ...]
) -> KerasTensor:
    """Cropping2D of axis 2 of (N, before, axis, after); a pooling of size 1 with strides takes every step-th."""
    stored = value.storage_shape
    if place == 0 or static(stored[place]) is None:
        raise call.unsupported("HDF5 files cannot hold a slice of an axis of unknown size: convert to .keras instead")
    before, after = math.prod(stored[1:place]), math.prod(stored[place + 1 :])
    boxed = (stored[0], before, stored[place], after)
    tensor = reshape_tensor(call, value.tensor, stored, boxed)
    margins = (start, stored[place] - stop)
    if margins != (0, 0):
        tensor = call.layer(layers.Cropping2D, tensor, cropping=((0, 0), margins))
    if step != 1:
        tensor = call.layer(layers.AveragePooling2D, tensor, pool_size=1, strides=(1, step))
    count = -(-(stop - start) // step)
    return reshape_tensor(call, tensor, (stored[0], before, count, after), [shape[a] for a in value.order])


def select_axis(call: Call, value: Value, axis: int, index: int) -> Value:
    """value[..., index, ...] without that axis."""
    axis %= len(value.shape)
    size = static(value.shape[axis])
    if index < 0 and size is None:
        # An end that is counted from the back of an axis of unknown size: a slice to its end.
        place = value.axis(axis)
        tensor = call.op(operator.getitem, value.tensor, (*(slice(None),) * place, index))
        sliced = (*value.shape[:axis], *value.shape[axis + 1 :])
        order = tuple(a - (a > axis) for a in value.order if a != axis)
        return Value(tensor, sliced, order, value.nonnegative)
    index = index % size if size is not None else index
    if value.parts is not None and axis == 0:
        return value.parts[index]
    part = slice_axis(call, value, axis, index, index + 1)
    return view(call, part, (*value.shape[:axis], *value.shape[axis + 1 :]))


@converts("slice.Tensor")
def slice_tensor(call: Call, value: Value, dim: int, start: int | None, stop: int | None, step: int) -> Value:
    size = value.shape[dim]
    if same(call.shape[dim], size):
        return value
    known = static(size)
    start = 0 if start is None else start
    if known is None:
        return _open_slice(call, value, dim, start, stop, step)
    start, stop, step = slice(known_bound(call, start), known_bound(call, stop), step).indices(known)
    if value.parts is not None and dim == 0:
        parts = value.parts[start:stop:step]
        return Value(slice_axis(call, value, 0, start, stop, step).tensor, call.shape, value.order, parts=parts)
    return slice_axis(call, value, dim, start, stop, step)


def _open_slice(call: Call, value: Value, dim: int, start: int, stop: int | None, step: int) -> Value:
    """A slice of an axis of unknown size: its ends are taken as Python takes them.

    One of two positive ends is left open at a time: TensorFlow's converter (2.21) takes them for a SLICE of a known size, at
    which LiteRT raises where the axis is shorter.
    """
    first, last = known_bound(call, start), known_bound(call, _largest_stop(stop, value.shape[dim]))
    last = None if last is not None and last >= 2**62 else last
    tensor, axis = value.tensor, value.axis(dim)
    if first is not None and last is not None and first > 0 and last > 0 and step == 1:
        tensor = call.op(operator.getitem, tensor, (*(slice(None),) * axis, slice(first, None)))
        first, last = 0, max(last - first, 0)
    index = (*(slice(None),) * axis, slice(first or None, last, step))
    return Value(call.op(operator.getitem, tensor, index), call.shape, value.order, value.nonnegative)


def _largest_stop(stop: Dim | None, size: Dim) -> Dim | None:
    """n, where `stop` is the smaller of the axis's size and n: a slice ends where the axis does."""
    if stop is None or static(stop) is not None:
        return stop
    expression = expression_of(stop)
    if type(expression).__name__ == "Min" and expression_of(size) in expression.args:
        numbers = [argument for argument in expression.args if argument.is_Integer]
        if len(numbers) == 1 and len(expression.args) == 2 and numbers[0] >= 0:
            return int(numbers[0])
    return stop


def known_bound(call: Call, bound: Dim | None) -> int | None:
    """An end of a slice as a number; raises UnsupportedError where it is a size that is not known yet."""
    if bound is not None and static(bound) is None:
        raise call.unsupported(f"it slices up to {bound}, a size that is not known before the model runs")
    return None if bound is None else static(bound)


def known_place(call: Call, place: Dim) -> int:
    """As known_bound, of what is always given: a place, or a size."""
    found = known_bound(call, place)
    assert found is not None
    return found


@converts("select.int")
def select(call: Call, value: Value, dim: int, index: int) -> Value:
    return select_axis(call, value, dim, known_place(call, index))


@converts("split.Tensor")
def split(call: Call, value: Value, size: int, dim: int) -> tuple[Value, ...]:
    total = static(value.shape[dim])
    if total is None:
        raise call.unsupported("it splits an axis of unknown size")
    return tuple(
        slice_axis(call, value, dim, start, min(start + size, total))
        for start in range(0, total, known_place(call, size))
    )


@converts("chunk.default")
def chunk(call: Call, value: Value, count: int, dim: int) -> tuple[Value, ...]:
    total = static(value.shape[dim])
    if total is None:
        raise call.unsupported("it splits an axis of unknown size")
    return split(call, value, -(-total // count), dim)


@converts("split_with_sizes.default")
def split_with_sizes(call: Call, value: Value, sizes: list[int], dim: int) -> tuple[Value, ...]:
    parts, start = [], 0
    for size in sizes:
        parts.append(slice_axis(call, value, dim, start, start + known_place(call, size)))
        start += known_place(call, size)
    return tuple(parts)


@converts("unbind.int")
def unbind(call: Call, value: Value, dim: int) -> tuple[Value, ...]:
    size = static(value.shape[dim])
    if size is None:
        raise call.unsupported("it unbinds an axis of unknown size")
    return tuple(select_axis(call, value, dim, index) for index in range(size))
