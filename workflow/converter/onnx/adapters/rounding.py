"""Rounding, in opsets that have no operator for it."""

from __future__ import annotations

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
