"""Parts of tensors: slices, and elements that indices choose."""

from __future__ import annotations

import numpy as np

from converter.errors import SourceError
from converter.tflite.flatbuffer import schema
from converter.tflite_to_onnx.core.registry import Call, operator

_END = 2**31 - 1
_MOST_INDICES = 1 << 22


@operator("SLICE", moves=True)
def _slice(call: Call) -> str:
    rank, x = call.rank(), call.real()
    starts, sizes = call.sizes(1, rank), call.sizes(2, rank)
    parts: list[tuple[int, int | str, int | str]] = []  # axis, start, end
    for axis, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        if start == 0 and size in (-1, call.shape()[axis]):
            continue
        end = _END if size == -1 else _sum(call, start, size)
        if isinstance(size, str):
            rest = call.node("Equal", size, call.graph.constant([-1]))
            end = call.node("Where", rest, call.graph.constant([_END]), call.graph.vector([end]))
        parts.append((axis, start, end))
    if not parts:
        return call.node("Identity", x)
    return call.node("Slice", x, *(call.graph.vector([part[place] for part in parts]) for place in (1, 2, 0)))


@operator("STRIDED_SLICE", moves=True)
def _strided_slice(call: Call) -> str:
    options = call.options(schema.StridedSliceOptionsT)
    strides = call.ints(3, "strides")
    count = len(strides)
    starts, ends = call.sizes(1, count), call.sizes(2, count)
    if 0 in strides:
        raise SourceError(f"its operator STRIDED_SLICE has strides {strides}")
    ellipsis = [place for place in range(count) if options.ellipsisMask >> place & 1]
    if len(ellipsis) > 1:
        raise SourceError("its operator STRIDED_SLICE has more than one ellipsis")
    x, graph = call.real(), call.graph
    new = [place for place in range(count) if options.newAxisMask >> place & 1 and place not in ellipsis]
    axes = _axes_of(call, count, ellipsis, new)
    parts: list[tuple[int, int | str, int | str, int]] = []  # axis, start, end, stride
    dropped = []
    for place, axis in axes.items():
        start, end, stride = starts[place], ends[place], strides[place]
        if options.shrinkAxisMask >> place & 1:
            dropped.append(axis)
            stop = _END if start == -1 else graph.plus(start, 1)
            if isinstance(start, str):  # that after the last one is the end
                last = call.node("Equal", start, graph.constant([-1]))
                stop = call.node("Where", last, graph.constant([_END]), graph.vector([stop]))
            parts.append((axis, start, stop, 1))
            continue
        if options.beginMask >> place & 1:
            start = 0 if stride > 0 else _END
        if options.endMask >> place & 1:
            end = _END if stride > 0 else -_END - 1
        elif options.offset:
            end = (
                graph.plus(start, end)
                if isinstance(end, int) and not isinstance(start, int)
                else _sum(call, start, end)
            )
        if (start, end, stride) != (0, _END, 1):
            parts.append((axis, start, end, stride))
    if parts:
        bounds = [graph.vector([part[place] for part in parts]) for place in (1, 2, 0, 3)]
        x = call.node("Slice", x, *bounds)
    if dropped:
        x = graph.squeeze(x, sorted(dropped))
    added = _new_places(call.rank(), count, ellipsis, new, dropped, axes)
    if added:
        x = graph.unsqueeze(x, added)
    return x if parts or dropped or added else call.node("Identity", x)


def _axes_of(call: Call, count: int, ellipsis: list[int], new: list[int]) -> dict[int, int]:
    """The axis of the input that each place of the slice is about; new axes and the ellipsis are about none."""
    used = count - len(ellipsis) - len(new)
    if used > call.rank():
        raise SourceError(f"its operator STRIDED_SLICE slices {used} of {call.rank()} axes")
    axes, axis = {}, 0
    for place in range(count):
        if place in ellipsis:
            axis += call.rank() - used
        elif place not in new:
            axes[place] = axis
            axis += 1
    return axes


def _new_places(
    rank: int, count: int, ellipsis: list[int], new: list[int], dropped: list[int], axes: dict[int, int]
) -> list[int]:
    """Where in the result the new axes are."""
    places, position = [], 0
    for place in range(count):
        if place in ellipsis:
            position += rank - (count - len(ellipsis) - len(new))
        elif place in new:
            places.append(position)
            position += 1
        elif axes[place] not in dropped:
            position += 1
    return places


def _sum(call: Call, first: int | str, second: int | str) -> int | str:
    if isinstance(second, int):
        return call.graph.plus(first, second)
    return call.graph.plus(second, first) if isinstance(first, int) else call.node("Add", first, second)


@operator("GATHER", moves=True)
def _gather(call: Call) -> str:
    options = call.options(schema.GatherOptionsT)
    axis = call.axis(options.axis, call.rank())
    batch = options.batchDims + (call.rank(1) if options.batchDims < 0 else 0)
    x, indices = call.real(), call.stored(1)
    if not batch:
        return call.node("Gather", x, _index(call, indices, 1), axis=axis)
    if not 0 < batch <= axis or batch > call.rank(1):
        raise SourceError(f"its operator GATHER has {batch} axes of a batch, and gathers along {axis}")
    # ONNX has batches with GatherND only, whose indices are vectors, and which takes what follows whole.
    order = [*range(batch), axis, *(place for place in range(batch, call.rank()) if place != axis)]
    found = call.node(
        "GatherND",
        call.graph.transpose(x, order),
        call.graph.unsqueeze(call.int64(1), [call.rank(1)]),
        batch_dims=batch,
    )
    chosen, before = call.rank(1) - batch, axis - batch
    rank = call.rank() + chosen - 1
    places = [*range(batch), *range(batch + chosen, batch + chosen + before), *range(batch, batch + chosen)]
    return call.graph.transpose(found, [*places, *range(batch + chosen + before, rank)])


def _index(call: Call, name: str, position: int) -> str:
    """Indices of a type that ONNX takes."""
    return name if call.input(position).dtype in (np.int32, np.int64) else call.graph.cast(name, np.int64)


@operator("GATHER_ND", moves=True)
def _gather_nd(call: Call) -> str:
    return call.node("GatherND", call.real(), call.int64(1))


@operator("SCATTER_ND")
def _scatter_nd(call: Call) -> str:
    zeros = call.node("Expand", call.graph.constant(0, call.dtype(1)), call.int64(2))
    return call.node("ScatterND", zeros, call.int64(0), call.real(1), reduction="add")


@operator("SPARSE_TO_DENSE")
def _sparse_to_dense(call: Call) -> str:
    dense = call.node("Expand", call.graph.reshape(call.real(3), []), call.int64(1))
    indices, rank = call.int64(0), call.rank(0)
    if rank < 2:
        indices = call.graph.reshape(indices, [-1, 1] if len(call.output().shape) == 1 else [1, -1])
    values = call.real(2)
    if call.rank(2) == 0:
        shape = call.node("Shape", indices)
        values = call.node("Expand", values, call.graph.slice(shape, 0, 1, 0))
    return call.node("ScatterND", dense, indices, values)


@operator("DYNAMIC_UPDATE_SLICE")
def _dynamic_update_slice(call: Call) -> str:
    sizes = [size for size in call.shape(1) if size is not None]
    if len(sizes) != call.rank(1) or not sizes or np.prod(sizes, dtype=np.int64) * len(sizes) > _MOST_INDICES:
        raise call.refusal("writes a part of free size, or of very many elements")
    graph = call.graph
    # The part is moved to where it fits.
    room = call.node("Sub", call.node("Shape", call.real()), graph.constant(sizes))
    start = call.node("Max", call.node("Min", call.int64(2), room), graph.constant(0))
    places = np.stack(np.meshgrid(*(np.arange(size) for size in sizes), indexing="ij"), -1)
    return call.node("ScatterND", call.real(), call.node("Add", graph.constant(places), start), call.real(1))


@operator("WHERE")
def _where(call: Call) -> str:
    indices = call.graph.transpose(call.node("NonZero", call.stored()), (1, 0))
    return indices if call.output().dtype == np.int64 else call.graph.cast(indices, call.output().dtype)


@operator("ONE_HOT")
def _one_hot(call: Call) -> str:
    options = call.options(schema.OneHotOptionsT)
    axis = call.axis(options.axis, call.rank() + 1)
    graph = call.graph
    depth = graph.reshape(call.int64(1), [1])
    values = call.node("Concat", *(graph.reshape(call.real(place), [1]) for place in (3, 2)), axis=0)
    # ONNX counts negative indices from the end; here they choose nothing.
    indices = call.int64(0)
    indices = call.node("Where", call.node("Less", indices, graph.constant(0)), depth, indices)
    return call.node("OneHot", indices, depth, values, axis=axis)


@operator("UNIQUE")
def _unique(call: Call) -> tuple[str, ...]:
    values, _, places, _ = call.node("Unique", call.real(), outputs=4, sorted=0)
    return values, places if call.output(1).dtype == np.int64 else call.graph.cast(places, call.output(1).dtype)


_SEGMENTS = {
    "SEGMENT_SUM": ("add", 0),
    "UNSORTED_SEGMENT_SUM": ("add", 0),
    "UNSORTED_SEGMENT_PROD": ("mul", 1),
    "UNSORTED_SEGMENT_MAX": ("max", None),
    "UNSORTED_SEGMENT_MIN": ("min", None),
}


@operator("SEGMENT_SUM", "UNSORTED_SEGMENT_SUM", "UNSORTED_SEGMENT_PROD")
def _segments(call: Call) -> str:
    return _segmented(call)


@operator("UNSORTED_SEGMENT_MAX", "UNSORTED_SEGMENT_MIN", opset=18)
def _segments_ordered(call: Call) -> str:
    return _segmented(call)


def _segmented(call: Call) -> str:
    reduction, initial = _SEGMENTS[call.name]
    graph, dtype, indices = call.graph, call.dtype(), call.int64(1)
    if initial is None:
        limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
        initial = limits.min if reduction == "max" else limits.max
    if call.name == "SEGMENT_SUM":
        count = graph.vector([graph.plus(graph.reshape(graph.reduce("ReduceMax", indices, [0]), [1]), 1)])
    else:
        count = graph.reshape(call.int64(2), [1])
    if call.rank(1) > 1:  # indices of more axes: the data in rows
        indices = graph.reshape(indices, [-1])
    rest = graph.sizes(call.real())[call.rank(1) :]
    data = graph.node("Reshape", call.real(), graph.vector([-1, *rest])) if call.rank(1) > 1 else call.real()
    blank = call.node("Expand", graph.constant(initial, dtype), graph.vector([count, *rest]))
    if call.name != "SEGMENT_SUM":  # rows with a negative index are left out: they go to one more row, which is cut off
        blank = call.node("Expand", graph.constant(initial, dtype), graph.vector([graph.plus(count, 1), *rest]))
        indices = call.node("Where", call.node("Less", indices, graph.constant(0)), count, indices)
    found = call.node("ScatterND", blank, graph.unsqueeze(indices, [1]), data, reduction=reduction)
    if call.name == "SEGMENT_SUM":
        return found
    return call.node("Slice", found, graph.constant([0]), count, graph.constant([0]))


@operator("MATRIX_DIAG", "MATRIX_SET_DIAG")
def _matrix_diag(call: Call) -> str:
    size = call.shape(0 if call.name == "MATRIX_DIAG" else 1)[-1]
    if size is None or size > 1 << 12:
        raise call.refusal("has a diagonal of free or very large size")
    graph = call.graph
    if call.name == "MATRIX_DIAG":
        row = graph.unsqueeze(call.real(), [call.rank() - 1])
        return call.node("Where", graph.constant(np.eye(size, dtype=bool), bool), row, call.scalar(0))
    rows, columns = call.shape()[-2:]
    if rows is None or columns is None or size != min(rows, columns):
        raise call.refusal("writes the diagonal of a matrix of free size")
    diagonal = call.real(1)
    if columns > size:
        widths = [0] * (2 * call.rank(1))
        widths[-1] = columns - size
        diagonal = call.node("Pad", diagonal, graph.constant(widths))
    row = graph.unsqueeze(diagonal, [call.rank(1) - 1])
    return call.node("Where", graph.constant(np.eye(rows, columns, dtype=bool), bool), row, call.real())
