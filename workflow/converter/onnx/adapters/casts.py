"""Casts and quantization."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, defs

from converter.onnx.core.registry import down
from converter.onnx.core.site import Site

_T = TensorProto
_FLOAT8 = {number for name, number in _T.DataType.items() if name.startswith("FLOAT8")}


@down(15, "CastLike")
def _cast(site: Site) -> None:
    dtype = site.known_dtype(1)
    site.add("Cast", [site.input(0)], site.node.output[0], to=dtype)


@down(9, "Cast")
@down(13, "Cast")
@down(19, "Cast", "CastLike")
@down(21, "Cast", "CastLike")
@down(23, "Cast", "CastLike")
@down(24, "Cast", "CastLike")
@down(25, "Cast", "CastLike")
def _to_known_type(site: Site) -> None:
    target = site.attribute("to") or site.dtype(1)
    if target not in _FLOAT8:
        site.pop("saturate")
    if target != getattr(_T, "FLOAT8E8M0", -1):
        site.pop("round_mode")
    allowed = defs.get_schema(site.node.op_type, site.boundary - 1, "").type_constraints[-1].allowed_type_strs
    text = f"tensor({_T.DataType.Name(target).lower()})" if target else ""
    if text and text not in allowed:
        raise site.refusal(f"to type {text}")


@down(19, "QuantizeLinear", "DequantizeLinear")
def _saturating(site: Site) -> None:
    if site.dtype_of(site.node.output[0]) not in _FLOAT8:
        site.pop("saturate")


@down(21, "QuantizeLinear")
@down(23, "QuantizeLinear", "DequantizeLinear")
def _type_of_zero_point(site: Site) -> None:
    """The type of the result is that of the zero point, else a byte, where nothing else says it."""
    if site.node.op_type == "DequantizeLinear":
        if site.attribute("output_dtype") in (0, site.dtype(1)):
            site.pop("output_dtype")
        return
    if site.attribute("precision") in (0, _T.FLOAT):
        site.pop("precision")
    if site.boundary > 21:
        return
    dtype = site.pop("output_dtype", 0)
    if dtype and not site.has(2):
        shape = site.shape(1)
        if shape is None or None in shape:
            raise site.refusal("with the attribute output_dtype and scales of an unknown size")
        sizes = [size for size in shape if size is not None]
        site.set_input(2, site.value(np.zeros(sizes), dtype, stem="zero_point"))


@down(13, "QuantizeLinear", "DequantizeLinear")
def _of_whole_tensor(site: Site) -> None:
    shape = site.shape(1)
    if shape is not None and (len(shape) == 0 or shape == (1,)):
        site.pop("axis")
        return
    if site.node.op_type != "DequantizeLinear":
        raise site.refusal("with scales along an axis")
    rank = site.known_rank(0)
    axis = site.attribute("axis", 1) % rank
    along = site.value([-1 if place == axis else 1 for place in range(rank)], stem="shape")
    x = site.cast(site.input(0), _T.FLOAT)
    if site.has(2):
        zero = site.add("Reshape", [site.cast(site.input(2), _T.FLOAT), along], dtype=_T.FLOAT)
        x = site.add("Sub", [x, zero], like=x)
    scale = site.add("Reshape", [site.input(1), along], dtype=_T.FLOAT)
    site.add("Mul", [x, scale], site.node.output[0])
