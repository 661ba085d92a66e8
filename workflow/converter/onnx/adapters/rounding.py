"""Rounding, and quantizing by what the data are, in opsets that have no operators for it."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from converter.onnx.core.registry import down
from converter.onnx.core.site import Site

_BOOL = TensorProto.BOOL


@down(11, "Round")
def _halves_to_even(site: Site) -> None:
    """The floor, and one more where what is left is above a half, or a half above an odd number."""
    x = site.input(0)
    dtype = site.known_dtype(0)
    half = site.value(0.5, dtype, "half")
    floor = site.add("Floor", [x], like=x)
    rest = site.add("Sub", [x, floor], like=x)
    above, below = (site.add(name, [rest, half], like=x, dtype=_BOOL) for name in ("Greater", "Less"))
    pairs = site.add("Floor", [site.add("Mul", [floor, half], like=x)], like=x)
    odd = site.add("Sub", [floor, site.add("Add", [pairs, pairs], like=x)], like=x)
    is_odd = site.add("Greater", [odd, half], like=x, dtype=_BOOL)
    tie = site.add("And", [site.add("Not", [below], like=x, dtype=_BOOL), is_odd], like=x, dtype=_BOOL)
    more = site.cast(site.add("Or", [above, tie], like=x, dtype=_BOOL), dtype)
    site.add("Add", [floor, more], site.node.output[0])


@down(11, "DynamicQuantizeLinear")
def _with_a_scale_of_one_for_zeros(site: Site) -> None:
    """ONNX's definition divides by zero where all elements are; onnxruntime takes a scale of 1 there."""
    x, (y, scale_out, zero_out) = site.input(0), site.node.output
    float_, zero, most = (
        TensorProto.FLOAT,
        site.value(np.float32(0), np.float32),
        site.value(np.float32(255), np.float32),
    )

    def number(operator: str, inputs: list[str], output: str | None = None) -> str:
        return site.add(operator, inputs, output, like=zero, dtype=float_)

    low = number("Min", [site.add("ReduceMin", [x], like=zero, dtype=float_, keepdims=0), zero])
    high = number("Max", [site.add("ReduceMax", [x], like=zero, dtype=float_, keepdims=0), zero])
    step = number("Div", [number("Sub", [high, low]), most])
    none = site.add("Not", [site.add("Greater", [step, zero], like=zero, dtype=_BOOL)], like=zero, dtype=_BOOL)
    scale = number("Add", [step, site.add("Cast", [none], like=zero, dtype=float_, to=float_)], scale_out)
    place = number("Div", [number("Sub", [zero, low]), scale])
    place = number("Round", [number("Min", [number("Max", [place, zero]), most])])
    site.add("Cast", [place], zero_out, to=TensorProto.UINT8)
    site.add("QuantizeLinear", [x, scale, zero_out], y)
