"""erf for TensorFlow Lite, which has no kernel for it: as in Gelu that somebody's exporter has written out.

The quotient of two polynomials that Eigen and XLA compute it by in float32 (Eigen/src/SpecialFunctions, generic_erf_float):
off by some units of the last digit, and 1 beyond 4.
"""

from __future__ import annotations

import torch

from converter.torch.exact.rewriting import Rule, Writer

__all__ = ["RULES"]

_aten = torch.ops.aten
_LIMIT = 4.0
# By falling powers of x squared; the numerator is multiplied with x.
_NUMERATOR = (
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
    -7.34990630326855e-04,
    -2.95459980854025e-03,
    -1.60960333262415e-02,
)
_DENOMINATOR = (
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
    -1.42647390514189e-02,
)


def _erf(write: Writer, node: torch.fx.Node) -> torch.fx.Node | None:
    if node.meta["val"].dtype != torch.float32:
        return None
    x = write(_aten.clamp.default, node.args[0], -_LIMIT, _LIMIT)
    square = write(_aten.mul.Tensor, x, x)
    numerator = write(_aten.mul.Tensor, x, _polynomial(write, square, _NUMERATOR))
    return write(_aten.div.Tensor, numerator, _polynomial(write, square, _DENOMINATOR))


def _polynomial(write: Writer, x: torch.fx.Node, coefficients: tuple[float, ...]) -> torch.fx.Node:
    total = write(_aten.add.Tensor, write(_aten.mul.Tensor, x, coefficients[0]), coefficients[1])
    for coefficient in coefficients[2:]:
        total = write(_aten.add.Tensor, write(_aten.mul.Tensor, total, x), coefficient)
    return total


RULES: dict[torch._ops.OpOverload, Rule] = {_aten.erf.default: _erf}
