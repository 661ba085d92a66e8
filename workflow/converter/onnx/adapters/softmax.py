"""Softmax, LogSoftmax and Hardmax: over all axes from one on up to opset 12, over one axis from 13 on."""

from __future__ import annotations

from onnx import TensorProto

from converter.onnx.core.registry import down, up
from converter.onnx.core.site import Site

_FAMILY = ("Softmax", "LogSoftmax", "Hardmax")


@up(13, *_FAMILY)
def _over_one_axis(site: Site) -> None:
    axis, rank = site.pop("axis", 1), site.rank(0)
    if axis == -1 or (rank is not None and axis % max(rank, 1) == rank - 1):
        site.set(axis=-1)
        return
    x, output = site.input(0), site.node.output[0]
    sizes = site.add("Shape", [x], dtype=TensorProto.INT64)
    flat = site.add("Flatten", [x], axis=axis, dtype=site.dtype(0))
    result = site.add(site.node.op_type, [flat], axis=-1, dtype=site.dtype(0))
    site.add("Reshape", [result, sizes], output)


@down(13, *_FAMILY)
def _over_all_from_one(site: Site) -> None:
    axis, rank = site.pop("axis", -1), site.rank(0)
    if axis == -1 or (rank is not None and axis % max(rank, 1) == rank - 1):
        site.set(axis=-1)
        return
    if rank is None and site.node.op_type != "Hardmax":
        _of_unknown_rank(site, axis)
        return
    rank = site.known_rank(0)
    order = [place for place in range(rank) if place != axis % rank] + [axis % rank]
    last = site.add("Transpose", [site.input(0)], perm=order, dtype=site.dtype(0))
    result = site.add(site.node.op_type, [last], axis=-1, dtype=site.dtype(0))
    site.add("Transpose", [result], site.node.output[0], perm=[order.index(place) for place in range(rank)])


def _of_unknown_rank(site: Site, axis: int) -> None:
    x, output, dtype = site.input(0), site.node.output[0], site.dtype(0)
    below = site.add("Sub", [x, site.add("ReduceMax", [x], axes=[axis], dtype=dtype)], like=x)
    powers = site.add("Exp", [below], like=x)
    total = site.add("ReduceSum", [powers], axes=[axis], dtype=dtype)
    if site.node.op_type == "Softmax":
        site.add("Div", [powers, total], output)
    else:
        site.add("Sub", [below, site.add("Log", [total], dtype=dtype)], output)


@down(11, *_FAMILY)
def _from_start(site: Site) -> None:
    """An axis that counts from the end needs the rank; the last one of an unknown rank stays (onnxruntime 1.32 takes it)."""
    axis, rank = site.attribute("axis", 1), site.rank(0)
    if axis < 0 and rank is not None:
        site.set(axis=axis + rank)
