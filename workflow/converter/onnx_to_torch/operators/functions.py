"""Functions of each element."""

from __future__ import annotations

from collections.abc import Callable

import torch

from converter.onnx_to_torch.core.integers import UNSIGNED, in_int64
from converter.onnx_to_torch.core.registry import Call, operator

__all__: list[str] = []

_FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "Reciprocal": torch.reciprocal,
    "Sqrt": torch.sqrt,
    "Exp": torch.exp,
    "Log": torch.log,
    "Floor": torch.floor,
    "Ceil": torch.ceil,
    "Round": torch.round,
    "Erf": torch.erf,
    "IsNaN": torch.isnan,
    "Not": torch.logical_not,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Tan": torch.tan,
    "Asin": torch.asin,
    "Acos": torch.acos,
    "Atan": torch.atan,
    "Sinh": torch.sinh,
    "Cosh": torch.cosh,
    "Asinh": torch.asinh,
    "Acosh": torch.acosh,
    "Atanh": torch.atanh,
    "Tanh": torch.tanh,
    "Sigmoid": torch.sigmoid,
}
# float8 has no arithmetic; what is asked of it can be asked of a wider type.
_FLOAT8 = (torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz)


def _unary(name: str, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    def compute(call: Call) -> torch.Tensor:
        x = call.tensor(0)
        return function(x.to(torch.float32) if x.dtype in _FLOAT8 else x)

    operator(name)(compute)


for _name, _function in _FUNCTIONS.items():
    _unary(_name, _function)


@operator("Neg")
def _neg(call: Call) -> torch.Tensor:
    return in_int64(torch.neg, call.tensor(0))


@operator("Abs")
def _abs(call: Call) -> torch.Tensor:
    x = call.tensor(0)
    return x if x.dtype in UNSIGNED else x.abs()


@operator("Sign")
def _sign(call: Call) -> torch.Tensor:
    x = call.tensor(0)
    if x.dtype in UNSIGNED:
        return (x != 0).to(x.dtype)
    # torch's sign of NaN is 0.
    return torch.where(torch.isnan(x), x, torch.sign(x)) if x.is_floating_point() else torch.sign(x)


@operator("BitwiseNot")
def _bitwise_not(call: Call) -> torch.Tensor:
    return in_int64(torch.bitwise_not, call.tensor(0))


@operator("IsInf")
def _is_inf(call: Call) -> torch.Tensor:
    x = call.tensor(0)
    x = x.to(torch.float32) if x.dtype in _FLOAT8 else x
    negative, positive = call.attribute("detect_negative", 1), call.attribute("detect_positive", 1)
    if negative and positive:
        return torch.isinf(x)
    if not negative and not positive:
        return torch.zeros_like(x, dtype=torch.bool)
    return x == float("-inf" if negative else "inf")
