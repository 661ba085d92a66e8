"""Operators that take samples of windows and at computed places, branches and loops."""

from __future__ import annotations

from converter.onnx.core.registry import down, up
from converter.onnx.core.site import Site

_MODES = {"bilinear": "linear", "bicubic": "cubic"}


@up(20, "GridSample")
def _modes_of_all_ranks(site: Site) -> None:
    mode = site.attribute("mode", "bilinear")
    site.set(mode=_MODES.get(mode, mode))


@down(20, "GridSample")
def _modes_of_images(site: Site) -> None:
    if site.known_rank(0) != 4:
        raise site.refusal("of volumes")
    mode = site.attribute("mode", "linear")
    site.set(mode={new: old for old, new in _MODES.items()}.get(mode, mode))


@up(16, "RoiAlign")
def _old_coordinates(site: Site) -> None:
    site.set(coordinate_transformation_mode="output_half_pixel")


@down(16, "RoiAlign")
def _same_coordinates(site: Site) -> None:
    if site.attribute("coordinate_transformation_mode", "half_pixel") != "output_half_pixel":
        raise site.refusal("with the coordinates half_pixel")
    site.pop("coordinate_transformation_mode")


@down(22, "AveragePool", "MaxPool")
def _last_window(site: Site) -> None:
    """Where windows that begin in the padding behind the input are left out, sizes are those of rounding down."""
    shape, kernel = site.shape(0), site.attribute("kernel_shape")
    if not site.attribute("ceil_mode", 0) or shape is None or None in shape[2:]:
        return
    axes = range(len(kernel))
    pads = site.attribute("pads", [0] * (2 * len(kernel)))
    strides, dilations = (site.attribute(name, [1] * len(kernel)) for name in ("strides", "dilations"))
    if site.attribute("auto_pad", "NOTSET") != "NOTSET":
        return
    left_out = []
    for axis in axes:
        size = shape[2 + axis] + pads[axis] + pads[axis + len(kernel)] - dilations[axis] * (kernel[axis] - 1) - 1
        begin = -(-size // strides[axis]) * strides[axis]
        left_out.append(size % strides[axis] == 0 or begin >= shape[2 + axis] + pads[axis])
    if all(left_out):
        site.pop("ceil_mode")


@down(11, "If")
def _branches_of_one_shape(site: Site) -> None:
    for own, other in zip(site.attribute("then_branch").output, site.attribute("else_branch").output, strict=True):
        shapes = [value.type.tensor_type.shape.dim for value in (own, other)]
        if all(value.type.tensor_type.HasField("shape") for value in (own, other)) and len(shapes[0]) != len(shapes[1]):
            raise site.refusal("whose branches give other shapes")


@up(9, "Scan")
def _no_batches(site: Site) -> None:
    raise site.obstacle("loops over sequences of a batch")


@down(9, "Scan")
def _without_batches(site: Site) -> None:
    raise site.refusal("without batches")
