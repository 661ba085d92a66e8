"""Comparisons, and the larger or smaller of values, of types that older opsets do not compare."""

from __future__ import annotations

from onnx import TensorProto

from converter.onnx.core.registry import down
from converter.onnx.core.site import FLOATS, Site

_BOOL = TensorProto.BOOL


@down(12, "Max", "Min")
def _of_large_integers(site: Site) -> None:
    """64 bits of integers have no wider type, but comparisons of their own."""
    if site.dtype(0) != TensorProto.INT64:
        return
    operator = "Greater" if site.node.op_type == "Max" else "Less"
    current, others = site.input(0), list(site.node.input)[1:]
    if not others:
        site.add("Identity", [current], site.node.output[0])
    for position, other in enumerate(others):
        keep = site.add(operator, [current, other], dtype=_BOOL)
        output = site.node.output[0] if position == len(others) - 1 else None
        current = site.add("Where", [keep, current, other], output, dtype=site.dtype(0))


@down(11, "Equal")
def _equal_numbers(site: Site) -> None:
    """Neither less nor greater nor NaN."""
    if site.dtype(0) not in FLOATS:
        return
    a, b = site.input(0), site.input(1)
    if site.boundary <= 9:
        raise site.refusal("of floating-point numbers")
    unequal = site.add("Or", [site.add(operator, [a, b], dtype=_BOOL) for operator in ("Less", "Greater")], dtype=_BOOL)
    missing = site.add("Or", [site.add("IsNaN", [value], like=value, dtype=_BOOL) for value in (a, b)], dtype=_BOOL)
    site.add("Not", [site.add("Or", [unequal, missing], dtype=_BOOL)], site.node.output[0])


@down(12, "Pow")
def _exponent_of_one_type(site: Site) -> None:
    base = site.known_dtype(0)
    if base in FLOATS:
        site.set_input(1, site.cast(site.input(1), base))
        if site.nodes:
            site.stay()
        return
    if base == TensorProto.INT64:
        raise site.refusal("of type tensor(int64)")
    wide = [site.cast(site.input(position), TensorProto.DOUBLE) for position in (0, 1)]
    power = site.add("Pow", wide, dtype=TensorProto.DOUBLE)
    site.cast(power, base, site.node.output[0])


@down(28, "Mod")
def _with_sign_of_divisor(site: Site) -> None:
    """Of floating-point numbers there was only the remainder with the sign of the dividend."""
    if site.dtype(0) not in FLOATS or site.attribute("fmod", 0):
        return
    dtype, divisor = site.dtype(0), site.input(1)
    zero = site.value(0, dtype)
    rest = site.add("Mod", [site.input(0), divisor], fmod=1, dtype=dtype)
    negative = [site.add("Less", [value, zero], dtype=_BOOL) for value in (rest, divisor)]
    differ = site.add("Xor", negative, dtype=_BOOL)
    some = site.add("Not", [site.add("Equal", [rest, zero], dtype=_BOOL)], dtype=_BOOL)
    other = site.add("Add", [rest, divisor], dtype=dtype)
    site.add("Where", [site.add("And", [differ, some], dtype=_BOOL), other, rest], site.node.output[0])


@down(8, "Max", "Min", "Sum", "Mean")
def _of_one_shape(site: Site) -> None:
    """These broadcast from opset 8 on; Add does at 7 too."""
    shapes = [site.shape(position) for position in range(len(site.node.input))]
    if shapes[0] is not None and None not in shapes[0] and len(set(shapes)) == 1:
        return
    if site.node.op_type not in ("Sum", "Mean"):
        raise site.refusal("of inputs with different shapes")
    current, others = site.input(0), list(site.node.input)[1:]
    for other in others:
        current = site.add("Add", [current, other], dtype=site.dtype(0))
    if site.node.op_type == "Mean":
        count = site.value(len(others) + 1, site.known_dtype(0), stem="count")
        site.add("Div", [current, count], site.node.output[0])
    else:
        site.add("Identity", [current], site.node.output[0])
