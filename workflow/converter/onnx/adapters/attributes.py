"""What was an attribute first and is an input now, and axes that count from the end."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from converter.onnx.core.registry import down, up
from converter.onnx.core.site import Site

_REDUCTIONS = (
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSumSquare",
)
_AXIS = ("ArgMax", "ArgMin", "Concat", "Flatten", "Gather", "Compress", "ScatterElements")
_AXES = (*_REDUCTIONS, "ReduceSum", "Squeeze")


@up(13, "ReduceSum", "Squeeze", "Unsqueeze")
@up(18, *_REDUCTIONS)
def _axes_to_input(site: Site) -> None:
    axes = site.pop("axes")
    if axes is not None:
        site.set_input(1, site.value(axes, stem="axes"))


@down(13, "ReduceSum", "Squeeze", "Unsqueeze")
@down(18, *_REDUCTIONS)
def _axes_to_attribute(site: Site) -> None:
    without = site.pop("noop_with_empty_axes", 0)
    axes = site.ints(1, "axes") if site.has(1) else []
    site.drop_inputs(1)
    if axes:
        site.set(axes=axes)
    elif without:
        _reduce_nothing(site)


def _reduce_nothing(site: Site) -> None:
    """What onnxruntime computes over no axes: the operation of each element alone."""
    x, output, name = site.input(0), site.node.output[0], site.node.op_type
    if name in ("ReduceL1", "ReduceL2"):
        site.add("Abs", [x], output)
    elif name == "ReduceLogSum":
        site.add("Log", [x], output)
    elif name == "ReduceSumSquare":
        site.add("Mul", [x, x], output)
    else:
        site.add("Identity", [x], output)


@up(13, "Split")
def _split_sizes_to_input(site: Site) -> None:
    sizes = site.pop("split")
    if sizes is not None:
        site.set_input(1, site.value(sizes, stem="split"))


@down(13, "Split")
def _split_sizes_to_attribute(site: Site) -> None:
    if site.has(1):
        site.set(split=site.ints(1, "sizes"))
    site.drop_inputs(1)


@up(18, "Split")
def _number_of_parts(site: Site) -> None:
    if not site.has(1):
        site.set(num_outputs=len(site.node.output))


@down(18, "Split")
def _parts_of_one_size(site: Site) -> None:
    """Where they are not, the last part is smaller, which older opsets need to be told, or slices take each part."""
    count = site.pop("num_outputs")
    if count is None or site.has(1):
        return
    shape, axis = site.shape(0), site.attribute("axis", 0)
    size = shape[axis] if shape is not None else None
    if size is None:
        _slices(site, count, axis)
    elif size % count:
        part = -(-size // count)
        sizes = [max(0, min(part, size - part * index)) for index in range(count)]
        site.set_input(1, site.value(sizes, stem="split"))


def _slices(site: Site, count: int, axis: int) -> None:
    rank = site.rank(0)
    axes = site.value([axis if axis >= 0 or rank is None else axis + rank], stem="axes")
    sizes = site.add("Shape", [site.input(0)], dtype=TensorProto.INT64)
    size = site.add("Gather", [sizes, axes], axis=0, dtype=TensorProto.INT64)
    more = site.add("Add", [size, site.value([count - 1])], dtype=TensorProto.INT64)
    part = site.add("Div", [more, site.value([count])], dtype=TensorProto.INT64)
    for index, output in enumerate(site.node.output):
        if output:
            bounds = [
                site.add("Mul", [part, site.value([place])], dtype=TensorProto.INT64) for place in (index, index + 1)
            ]
            site.add("Slice", [site.input(0), *bounds, axes], output)


@up(10, "TopK")
def _count_to_input(site: Site) -> None:
    site.set_input(1, site.value([site.pop("k")], stem="k"))


@down(10, "TopK")
def _count_to_attribute(site: Site) -> None:
    site.set(k=site.ints(1, "counts")[0])
    site.drop_inputs(1)


@down(11, "TopK")
def _largest(site: Site) -> None:
    """The smallest are the largest of the negated values; sorted ones are an order that unsorted ones may have."""
    site.pop("sorted")
    _axis_from_start(site)
    dtype = site.dtype(0)
    if not site.pop("largest", 1):
        if dtype in (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16):
            negated = site.add("Neg", [site.input(0)], like=site.input(0))
            _finish_smallest(site, negated, dtype)
        elif dtype in (TensorProto.INT32, TensorProto.INT16, TensorProto.INT8, TensorProto.UINT8, TensorProto.UINT16):
            exact = site.cast(site.input(0), TensorProto.DOUBLE)
            _finish_smallest(site, site.add("Neg", [exact], like=exact), dtype)
        else:
            raise site.refusal("with the attribute largest")


def _finish_smallest(site: Site, negated: str, dtype: int) -> None:
    values, indices = (*site.node.output, "")[:2]
    site.set_input(0, negated)
    of_negated = site.fresh(negated, site.dtype_of(negated))
    del site.node.output[:]
    site.node.output.extend([of_negated, indices] if indices else [of_negated])
    site.stay()
    if values:
        again = site.add("Neg", [of_negated], values if site.dtype_of(negated) == dtype else None, like=of_negated)
        if again != values:
            site.cast(again, dtype, values)


@up(11, "Clip")
def _bounds_to_inputs(site: Site) -> None:
    for position, name in ((1, "min"), (2, "max")):
        bound = site.pop(name)
        if bound is not None:
            site.set_input(position, site.value(bound, site.known_dtype(0), stem=name))


@down(11, "Clip")
def _bounds_to_attributes(site: Site) -> None:
    bounds = [site.constant(position) for position in (1, 2)]
    computed = any(site.has(place) and bound is None for place, bound in zip((1, 2), bounds, strict=True))
    # onnxruntime 1.32 clips nothing but float32 with attributes.
    if computed or site.dtype(0) != TensorProto.FLOAT:
        _bounded(site)
        return
    for name, bound in zip(("min", "max"), bounds, strict=True):
        if bound is not None:
            site.set(**{name: float(bound.reshape(()))})
    site.drop_inputs(1)


def _bounded(site: Site) -> None:
    current = site.input(0)
    given = [(operator, site.input(place)) for operator, place in (("Max", 1), ("Min", 2)) if site.has(place)]
    for operator, bound in given or [("Identity", "")]:
        last = operator == (given[-1][0] if given else operator)
        inputs = [current, bound] if bound else [current]
        current = site.add(operator, inputs, site.node.output[0] if last else None, like=site.input(0))


@down(12, "Clip")
def _clip_of_large_integers(site: Site) -> None:
    """64 bits of integers have no wider type, but comparisons of their own."""
    if site.dtype(0) != TensorProto.INT64:
        return
    current, given = (
        site.input(0),
        [(op, site.input(place)) for op, place in (("Less", 1), ("Greater", 2)) if site.has(place)],
    )
    if not given:
        site.add("Identity", [current], site.node.output[0])
    for position, (operator, bound) in enumerate(given):
        beyond = site.add(operator, [current, bound], like=current, dtype=TensorProto.BOOL)
        output = site.node.output[0] if position == len(given) - 1 else None
        current = site.add("Where", [beyond, bound, current], output, like=current)


@up(12, "Dropout")
def _ratio_to_input(site: Site) -> None:
    """Its default has been 0.5 always, and it drops nothing but in training."""
    site.pop("ratio")


@up(10, "Dropout")
def _boolean_mask(site: Site) -> None:
    """The mask of an inference, which is true everywhere, was of the type of the values."""
    if site.wants(1):
        raise site.obstacle("gives its mask")


@down(12, "Dropout")
def _ratio_to_attribute(site: Site) -> None:
    training = site.has(2) and (site.constant(2) is None or bool(site.known(2, "modes").reshape(())))
    if training and (site.constant(1) is None or site.known(1, "ratios").reshape(()) != 0):
        raise site.refusal("with an input training_mode")
    site.pop("seed")
    if site.wants(1):
        # Its mask is the inputs' own of a comparison that is true everywhere, NaN aside.
        _mask(site)
        return
    site.drop_inputs(1)


def _mask(site: Site) -> None:
    sizes = site.add("Shape", [site.input(0)], dtype=TensorProto.INT64)
    true = site.value(np.array([1], np.uint8), np.uint8, stem="true")
    expanded = site.add("Expand", [true, sizes], like=site.input(0), dtype=TensorProto.UINT8)
    site.cast(expanded, TensorProto.BOOL, site.node.output[1])
    if site.wants(0):
        site.add("Identity", [site.input(0)], site.node.output[0])


@down(10, "Dropout")
def _mask_of_values(site: Site) -> None:
    if site.wants(1):
        raise site.refusal("with an output mask")


@up(20, "DFT")
def _transform_axis_to_input(site: Site) -> None:
    site.set_input(2, site.value(site.pop("axis", 1), stem="axis"))


@down(20, "DFT")
def _transform_axis_to_attribute(site: Site) -> None:
    axis = site.ints(2, "axes")[0] if site.has(2) else -2
    site.set(axis=axis % site.known_rank(0))
    site.drop_inputs(2)


@down(11, *_AXIS)
def _axis_from_start(site: Site) -> None:
    """Where the rank is not known, the axis stays: onnxruntime 1.32 counts from the end at all opsets."""
    axis, rank = site.attribute("axis"), site.rank(0)
    if axis is not None and axis < 0 and rank is not None:
        site.set(axis=axis + rank)


@down(11, *_AXES)
def _axes_from_start(site: Site) -> None:
    axes, rank = site.attribute("axes"), site.rank(0)
    if axes is not None and min(axes, default=0) < 0 and rank is not None:
        site.set(axes=sorted(axis % rank for axis in axes) if rank else [])


@down(11, "Unsqueeze")
def _new_axes_from_start(site: Site) -> None:
    axes, rank = site.attribute("axes"), site.rank(0)
    if min(axes) < 0 and rank is not None:
        site.set(axes=[axis % (rank + len(axes)) for axis in axes])


@down(11, "Split")
def _split_axis_from_start(site: Site) -> None:
    _axis_from_start(site)
    shape, axis = site.shape(0), site.attribute("axis", 0)
    # onnxruntime 1.32 wants the parts' sizes, or their number, at all opsets below.
    if site.attribute("split") is None and shape is not None and shape[axis] is not None:
        site.set(split=[shape[axis] // len(site.node.output)] * len(site.node.output))
