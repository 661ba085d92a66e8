"""Pad, Slice, Shape, Expand and their like."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, numpy_helper

from converter.onnx.core.graphs import constant_tensor
from converter.onnx.core.registry import down, up
from converter.onnx.core.site import Site

_INT64 = TensorProto.INT64


@up(11, "Pad")
def _pads_to_input(site: Site) -> None:
    site.set_input(1, site.value(site.pop("pads"), stem="pads"))
    value = site.pop("value")
    if value:
        site.set_input(2, site.value(value, site.known_dtype(0), stem="value"))


@down(11, "Pad")
def _pads_to_attribute(site: Site) -> None:
    site.set(pads=site.ints(1, "paddings"))
    if site.has(2):
        site.set(value=float(site.known(2, "values").reshape(())))
    site.drop_inputs(1)


@down(18, "Pad")
def _pads_of_all_axes(site: Site) -> None:
    if site.has(3):
        rank, axes = site.known_rank(0), site.ints(3, "axes")
        order = [0] * (2 * rank)  # of what is padded to each side of each axis, behind a 0
        for place, axis in enumerate(axes):
            order[axis % rank], order[rank + axis % rank] = 1 + place, 1 + len(axes) + place
        pads = site.constant(1)
        if pads is not None:
            site.set_input(1, site.value(np.concatenate([[0], pads])[order], stem="pads"))
        else:
            padded = site.add("Concat", [site.value([0]), site.input(1)], axis=0, dtype=_INT64)
            site.set_input(1, site.add("Gather", [padded, site.value(order)], axis=0, dtype=_INT64))
    site.drop_inputs(3)
    _without_last(site)
    if site.nodes:
        site.stay()


@down(19, "Pad")
def _not_around(site: Site) -> None:
    if site.attribute("mode", "constant") == "wrap":
        raise site.refusal("with the mode wrap")


@up(10, "Slice")
def _bounds_to_inputs(site: Site) -> None:
    for position, name in ((1, "starts"), (2, "ends"), (3, "axes")):
        values = site.pop(name)
        if values is not None:
            site.set_input(position, site.value(values, stem=name))


@down(10, "Slice")
def _bounds_to_attributes(site: Site) -> None:
    if site.has(4) and any(step != 1 for step in site.ints(4, "steps")):
        raise site.refusal("with steps")
    for position, name in ((1, "starts"), (2, "ends"), (3, "axes")):
        if site.has(position):
            site.set(**{name: site.ints(position, name)})
    site.drop_inputs(1)


@down(11, "Slice")
def _slices_from_start(site: Site) -> None:
    axes = site.constant(3)
    if axes is not None and (axes < 0).any():
        site.set_input(3, site.value(axes.astype(np.int64) % site.known_rank(0), stem="axes"))


@down(15, "Shape")
def _part_of_shape(site: Site) -> None:
    start, end = site.pop("start", 0), site.pop("end")
    if start or end is not None:
        sizes = site.add("Shape", [site.input(0)], dtype=_INT64)
        bounds = [site.value([start], stem="start"), site.value([2**31 - 1 if end is None else end], stem="end")]
        site.add("Slice", [sizes, *bounds], site.node.output[0])


@down(14, "Reshape")
def _no_zeros(site: Site) -> None:
    """Without allowzero a 0 stands for the size of the input.

    Sizes that are computed, which torch.onnx marks so wherever it reshapes, hold a 0 for tensors without elements only.
    """
    if not site.pop("allowzero", 0):
        return
    sizes = site.constant(1)
    if (sizes is not None and (sizes == 0).any()) or (sizes is None and 0 in (site.shape(0) or ())):
        raise site.refusal("with a size 0")


@down(8, "Expand")
def _times_ones(site: Site) -> None:
    dtype = site.known_dtype(0)
    if dtype not in (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT32, TensorProto.INT64):
        raise site.refusal()
    ones = site.value(np.ones(site.ints(1, "sizes")), dtype, stem="ones")
    site.add("Mul", [site.input(0), ones], site.node.output[0])


@down(9, "ConstantOfShape")
def _expanded(site: Site) -> None:
    tensor = site.attribute("value")
    value = numpy_helper.to_array(tensor) if tensor is not None else np.zeros(1, np.float32)
    site.add("Expand", [site.value(value, value.dtype, stem="value"), site.input(0)], site.node.output[0])


@down(12, "Constant")
def _as_tensor(site: Site) -> None:
    tensor = constant_tensor(site.node)
    if tensor is not None and site.attribute("value") is None:
        del site.node.attribute[:]
        site.set(value=tensor)


@up(11, "Scatter")
def _scatter_elements(site: Site) -> None:
    site.rename("ScatterElements")


@down(11, "ScatterElements")
def _scatter(site: Site) -> None:
    site.rename("Scatter")
    axis, rank = site.attribute("axis"), site.rank(0)
    if axis is not None and axis < 0 and rank is not None:
        site.set(axis=axis + rank)


@down(16, "ScatterElements", "ScatterND")
def _plain_scatter(site: Site) -> None:
    if site.attribute("reduction", "none") == "none":
        site.pop("reduction")


@down(18, "ScatterElements", "ScatterND")
def _scattered_extremes(site: Site) -> None:
    if site.attribute("reduction") in ("max", "min"):
        raise site.refusal(f"with the reduction {site.attribute('reduction')}")


@down(11, "DepthToSpace")
def _columns_first(site: Site) -> None:
    if site.pop("mode", "DCR") == "DCR":
        return
    shape, block = site.shape(0), site.attribute("blocksize")
    if shape is None or None in shape[1:]:
        raise site.refusal("with the mode CRD of sizes that are not known")
    _, channels, height, width = shape
    dtype = site.dtype(0)
    parts = site.value([0, channels // block**2, block, block, height, width], stem="shape")
    split = site.add("Reshape", [site.input(0), parts], dtype=dtype)
    mixed = site.add("Transpose", [split], perm=[0, 1, 4, 2, 5, 3], dtype=dtype)
    whole = site.value([0, channels // block**2, height * block, width * block], stem="shape")
    site.add("Reshape", [mixed, whole], site.node.output[0])


@down(14, "Trilu")
def _masked(site: Site) -> None:
    """Where columns lie on the right side of a diagonal, from opset 11 on."""
    if site.boundary < 12:
        raise site.refusal()
    x, dtype, rank = site.input(0), site.known_dtype(0), site.known_rank(0)
    sizes = site.add("Shape", [x], dtype=_INT64)
    zero, one = site.value(0), site.value(1)
    numbers = []
    for axis in (-2, -1):
        size = site.add("Gather", [sizes, site.value(axis % rank)], axis=0, dtype=_INT64)
        numbers.append(site.add("Range", [zero, size, one], dtype=_INT64))
    rows = site.add("Unsqueeze", [numbers[0], site.value([1])], dtype=_INT64)
    if site.has(1):
        diagonal = site.add("Reshape", [site.input(1), site.value([1])], dtype=_INT64)
        rows = site.add("Add", [rows, diagonal], dtype=_INT64)
    beyond = site.add("Less" if site.attribute("upper", 1) else "Greater", [numbers[1], rows], dtype=TensorProto.BOOL)
    site.add("Where", [beyond, site.value(0, dtype), x], site.node.output[0])


def _without_last(site: Site) -> None:
    while site.node.input and not site.node.input[-1]:
        del site.node.input[-1]
