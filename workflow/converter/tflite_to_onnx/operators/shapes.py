"""Shapes: reshaping, transposing, joining, splitting, padding, repeating."""

from __future__ import annotations

import math

import numpy as np

from converter.errors import SourceError
from converter.tflite.flatbuffer import schema
from converter.tflite_to_onnx.core.registry import Call, operator


@operator("RESHAPE", moves=True)
def _reshape(call: Call) -> str:
    tail = [2] if call.output().dtype.kind == "c" else []  # complex numbers are pairs
    if call.has(1) and call.input(1).array is None:
        sizes = call.int64(1)
        if tail:
            sizes = call.node("Concat", sizes, call.graph.constant(tail), axis=0)
        return call.graph.reshape_to(call.real(), sizes)
    options = call.options(schema.ReshapeOptionsT)
    sizes = call.ints(1, "shape") if call.has(1) else [int(size) for size in _given(options.newShape, call)]
    if sizes.count(-1) > 1 or any(size < -1 for size in sizes):
        raise SourceError(f"its operator RESHAPE asks for the shape {sizes}")
    return call.graph.reshape(call.real(), [*sizes, *tail])


def _given(sizes: list[int] | np.ndarray | None, call: Call) -> list[int] | np.ndarray:
    if sizes is None:
        raise SourceError("its operator RESHAPE has no shape")
    return [] if list(sizes) == [0] and call.output().shape == () else sizes  # old files: a scalar


@operator("SQUEEZE", moves=True)
def _squeeze(call: Call) -> str:
    found = call.options(schema.SqueezeOptionsT).squeezeDims
    rank = call.rank()
    axes = sorted({call.axis(int(axis), rank) for axis in ([] if found is None else found)})
    return call.graph.squeeze(call.real(), axes or [axis for axis, size in enumerate(call.shape()) if size == 1])


@operator("EXPAND_DIMS", moves=True)
def _expand_dims(call: Call) -> str:
    return call.graph.unsqueeze(call.real(), [call.axis(int(call.number(1, "axis")), call.rank() + 1)])


@operator("TRANSPOSE", moves=True)
def _transpose(call: Call) -> str:
    perm = [call.axis(axis, call.rank()) for axis in call.ints(1, "order")]
    if sorted(perm) != list(range(call.rank())):
        raise SourceError(f"its operator TRANSPOSE has the order {perm} for {call.rank()} axes")
    return call.graph.transpose(call.real(), perm)


@operator("SHAPE")
def _shape(call: Call) -> str:
    sizes = call.node("Shape", call.real())
    return sizes if call.output().dtype == np.int64 else call.graph.cast(sizes, call.output().dtype)


@operator("RANK")
def _rank(call: Call) -> str:
    return call.graph.constant(call.rank(), call.output().dtype)


@operator("CONCATENATION")
def _concatenation(call: Call) -> str:
    options = call.options(schema.ConcatenationOptionsT)
    joined = call.node("Concat", *call.reals(), axis=call.axis(options.axis, call.rank()))
    return call.activated(joined, options.fusedActivationFunction)


@operator("PACK")
def _pack(call: Call) -> str:
    axis = call.axis(call.options(schema.PackOptionsT).axis, call.rank() + 1)
    return call.node("Concat", *(call.graph.unsqueeze(name, [axis]) for name in call.reals()), axis=axis)


@operator("UNPACK", moves=True)
def _unpack(call: Call) -> tuple[str, ...]:
    options = call.options(schema.UnpackOptionsT)
    axis = call.axis(options.axis, call.rank())
    parts = _parts(call, call.real(), axis, [1] * len(call.outputs))
    return tuple(call.graph.squeeze(part, [axis]) for part in parts)


@operator("SPLIT")
def _split(call: Call) -> tuple[str, ...]:
    axis, count = call.axis(int(call.number(0, "axis")), call.rank(1)), len(call.outputs)
    size = call.hint(1)[axis]
    if size is None:
        raise call.refusal("splits an axis of free size")
    if count == 0 or size % count:
        raise SourceError(f"its operator SPLIT makes {count} parts of {size}")
    return _parts(call, call.real(1), axis, [size // count] * count)


@operator("SPLIT_V", moves=True)
def _split_v(call: Call) -> tuple[str, ...]:
    axis, sizes = call.axis(int(call.number(2, "axis")), call.rank()), call.ints(1, "sizes")
    size = call.hint()[axis]
    if -1 in sizes:
        if size is None:
            raise call.refusal("splits an axis of free size")
        sizes[sizes.index(-1)] = size - sum(sizes) - 1
    if len(sizes) != len(call.outputs) or any(part < 0 for part in sizes):
        raise SourceError(f"its operator SPLIT_V makes parts of {sizes}")
    return _parts(call, call.real(), axis, sizes)


def _parts(call: Call, name: str, axis: int, sizes: list[int]) -> tuple[str, ...]:
    if len(sizes) == 1:
        return (call.node("Identity", name),)
    return call.node("Split", name, call.graph.constant(sizes), outputs=len(sizes), axis=axis)


@operator("PAD", "PADV2", "MIRROR_PAD")
def _pad(call: Call) -> str:
    x, rank = call.real(), call.rank()
    if call.name == "MIRROR_PAD" and call.options(schema.MirrorPadOptionsT).mode == schema.MirrorPadMode.SYMMETRIC:
        return _symmetric(call, x)
    if call.input(1).array is None:
        pads = call.graph.reshape(call.graph.transpose(call.int64(1), (1, 0)), [-1])
    else:
        pads = call.graph.constant(np.reshape(_widths(call), (rank, 2)).T.reshape(-1))
    if call.name == "MIRROR_PAD":
        return call.node("Pad", x, pads, mode="reflect")
    if call.name == "PADV2":
        return call.node("Pad", x, pads, call.graph.reshape(call.real(2), []))
    return call.node("Pad", x, pads)


def _widths(call: Call) -> list[int]:
    widths = call.ints(1, "widths")
    if len(widths) != 2 * call.rank() or min(widths, default=0) < 0:
        raise SourceError(f"its operator {call.name} pads {call.rank()} axes by {widths}")
    return widths


def _symmetric(call: Call, x: str) -> str:
    """Mirrored with the edge itself, which ONNX has no mode for."""
    for axis, (before, after) in enumerate(np.reshape(_widths(call), (-1, 2)).tolist()):
        parts = [x]
        if before:
            parts.insert(0, call.graph.slice(x, before - 1, -(2**31), axis, -1))
        if after:
            parts.append(call.graph.slice(x, -1, -after - 1, axis, -1))
        x = call.node("Concat", *parts, axis=axis) if len(parts) > 1 else x
    return x


@operator("TILE", moves=True)
def _tile(call: Call) -> str:
    return call.node("Tile", call.real(), call.int64(1))


@operator("FILL")
def _fill(call: Call) -> str:
    return call.node("Expand", call.graph.reshape(call.real(1), []), call.int64(0))


@operator("BROADCAST_TO", moves=True)
def _broadcast_to(call: Call) -> str:
    return call.node("Expand", call.real(), call.int64(1))


@operator("BROADCAST_ARGS")
def _broadcast_args(call: Call) -> str:
    lengths = [call.shape(position)[0] if call.rank(position) == 1 else None for position in (0, 1)]
    if lengths[0] is None or lengths[1] is None:
        raise call.refusal("joins shapes of an unknown number of axes")
    longest = max(lengths[0], lengths[1])
    first, second = (
        call.node("Concat", call.graph.constant([1] * (longest - length)), call.int64(position), axis=0)
        for position, length in enumerate((lengths[0], lengths[1]))
    )
    shape = call.node("Where", call.node("Equal", first, call.graph.constant([1])), second, first)
    return call.graph.cast(shape, call.output().dtype)


@operator("RANGE")
def _range(call: Call) -> str:
    return call.node("Range", *(call.graph.reshape(name, []) for name in call.reals()))


@operator("REVERSE_V2", moves=True)
def _reverse(call: Call) -> str:
    axes = call.axes(1, call.rank())
    if not axes:
        return call.node("Identity", call.real())
    bounds = ([-1] * len(axes), [-(2**31)] * len(axes), axes, [-1] * len(axes))
    return call.node("Slice", call.real(), *(call.graph.constant(numbers) for numbers in bounds))


@operator("REVERSE_SEQUENCE", moves=True)
def _reverse_sequence(call: Call) -> str:
    options = call.options(schema.ReverseSequenceOptionsT)
    time, batch = (call.axis(axis, call.rank()) for axis in (options.seqDim, options.batchDim))
    if time == batch:
        raise SourceError("its operator REVERSE_SEQUENCE reverses the axis of the batch")
    # ONNX has time and batch in front.
    order = [time, batch, *(axis for axis in range(call.rank()) if axis not in (time, batch))]
    turned = call.graph.transpose(call.real(), order)
    y = call.node("ReverseSequence", turned, call.int64(1), time_axis=0, batch_axis=1)
    return call.graph.transpose(y, np.argsort(order).tolist())


@operator("SPACE_TO_DEPTH", "DEPTH_TO_SPACE", moves=True)
def _space_to_depth(call: Call) -> str:
    kind = "SpaceToDepth" if call.name == "SPACE_TO_DEPTH" else "DepthToSpace"
    options = schema.SpaceToDepthOptionsT if call.name == "SPACE_TO_DEPTH" else schema.DepthToSpaceOptionsT
    turned = call.graph.transpose(call.real(), (0, 3, 1, 2))
    return call.graph.transpose(call.node(kind, turned, blocksize=int(call.options(options).blockSize)), (0, 2, 3, 1))


def _blocks(call: Call) -> tuple[list[int], list[list[int]], int]:
    """Sizes of blocks, widths of padding or crops, how many axes there are in space."""
    blocks, widths = call.ints(1, "blocks"), call.ints(2, "widths")
    if len(widths) != 2 * len(blocks) or min(*blocks, 1) < 1 or len(blocks) >= call.rank() or min(*widths, 0) < 0:
        raise SourceError(f"its operator {call.name} has blocks {blocks} and widths {widths} for {call.rank()} axes")
    return blocks, [widths[place : place + 2] for place in range(0, len(widths), 2)], len(blocks)


@operator("SPACE_TO_BATCH_ND")
def _space_to_batch(call: Call) -> str:
    blocks, widths, axes = _blocks(call)
    graph, rest = call.graph, call.rank() - axes - 1
    begins, afters = ([pair[side] for pair in widths] for side in (0, 1))
    pads = [0, *begins, *[0] * rest, 0, *afters, *[0] * rest]
    sizes = graph.sizes(call.real())
    padded = [graph.plus(size, sum(pair)) for size, pair in zip(sizes[1 : axes + 1], widths, strict=True)]
    x = call.node("Pad", call.real(), graph.constant(pads)) if any(pads) else call.real()
    inner = [graph.over(size, block) for size, block in zip(padded, blocks, strict=True)]
    split = [part for pair in zip(inner, blocks, strict=True) for part in pair]
    x = graph.reshape(x, [sizes[0], *split, *sizes[axes + 1 :]])
    places, own = [2 + 2 * axis for axis in range(axes)], [1 + 2 * axis for axis in range(axes)]
    x = graph.transpose(x, [*places, 0, *own, *range(2 * axes + 1, 2 * axes + 1 + rest)])
    return graph.reshape(x, [graph.times(sizes[0], math.prod(blocks)), *inner, *sizes[axes + 1 :]])


@operator("BATCH_TO_SPACE_ND", moves=True)
def _batch_to_space(call: Call) -> str:
    blocks, crops, axes = _blocks(call)
    graph, rest = call.graph, call.rank() - axes - 1
    sizes = graph.sizes(call.real())
    batch = graph.over(sizes[0], math.prod(blocks))
    x = graph.reshape(call.real(), [*blocks, batch, *sizes[1:]])
    pairs = [place for axis in range(axes) for place in (axes + 1 + axis, axis)]
    x = graph.transpose(x, [axes, *pairs, *range(2 * axes + 1, 2 * axes + 1 + rest)])
    joined = [graph.times(size, block) for size, block in zip(sizes[1 : axes + 1], blocks, strict=True)]
    x = graph.reshape(x, [batch, *joined, *sizes[axes + 1 :]])
    for axis, (before, after) in enumerate(crops, start=1):
        if before or after:
            x = graph.slice(x, before, -after if after else 2**31, axis)
    return x
