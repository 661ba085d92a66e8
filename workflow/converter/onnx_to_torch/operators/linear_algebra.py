"""Products of matrices and what is made of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812

from converter.onnx_to_torch.core.integers import in_int64
from converter.onnx_to_torch.core.registry import Call, operator

__all__: list[str] = []

_MICROSOFT = "com.microsoft"


@operator("MatMul")
def _matmul(call: Call) -> torch.Tensor:
    return in_int64(torch.matmul, call.tensor(0), call.tensor(1))


@operator("FusedMatMul", domain=_MICROSOFT)
def _fused_matmul(call: Call) -> torch.Tensor:
    """Transposed matrices, and with transBatch matrices whose first axis stands behind those of the batch."""
    sides = []
    for position, letter in enumerate("AB"):
        x = call.tensor(position)
        if call.attribute(f"transBatch{letter}", 0) and x.dim() > 2:
            x = x.movedim(0, -2)
        if call.attribute(f"trans{letter}", 0) and x.dim() > 1:
            x = x.transpose(-1, -2)
        sides.append(x)
    product, alpha = torch.matmul(*sides), call.attribute("alpha", 1.0)
    return product if alpha == 1 else product * alpha


@operator("Gemm")
def _gemm(call: Call) -> torch.Tensor:
    return in_int64(lambda a, b, *c: _product_and_sum(call, a, b, c[0] if c else None), *call.tensors())


def _product_and_sum(call: Call, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor | None) -> torch.Tensor:
    alpha, beta = call.attribute("alpha", 1.0), call.attribute("beta", 1.0)
    if not a.is_floating_point():
        alpha, beta = int(alpha), int(beta)
    a = a.t() if call.attribute("transA", 0) else a
    transposed = bool(call.attribute("transB", 0))
    if alpha == 1 and (c is None or (beta == 1 and c.dim() == 1 and c.shape[0] == b.shape[0 if transposed else 1])):
        return F.linear(a, b if transposed else b.t(), c)
    b = b.t() if transposed else b
    if c is None:
        return a.mm(b) * alpha
    return torch.addmm(c, a, b, beta=beta, alpha=alpha)


@operator("FusedGemm", domain=_MICROSOFT)
def _fused_gemm(call: Call) -> torch.Tensor:
    return _activated(call, _product_and_sum(call, call.tensor(0), call.tensor(1), call.optional(2)))


def _activated(call: Call, x: torch.Tensor) -> torch.Tensor:
    alpha, beta = call.attribute("activation_alpha"), call.attribute("activation_beta")
    functions: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "": lambda y: y,
        "Relu": F.relu,
        "Sigmoid": torch.sigmoid,
        "Tanh": torch.tanh,
        "LeakyRelu": lambda y: F.leaky_relu(y, 0.01 if alpha is None else alpha),
        "Elu": lambda y: F.elu(y, 1.0 if alpha is None else alpha),
        "HardSigmoid": lambda y: (y * (0.2 if alpha is None else alpha) + (0.5 if beta is None else beta)).clamp(0, 1),
        "Softplus": F.softplus,
        "Softsign": F.softsign,
    }
    name = call.attribute("activation", "")
    if name not in functions:
        raise call.refusal(f"ends in {name}, which is not known there")
    return functions[name](x)


@operator("Einsum")
def _einsum(call: Call) -> torch.Tensor:
    return in_int64(lambda *tensors: torch.einsum(call.attribute("equation"), *tensors), *call.tensors())


@operator("Det")
def _det(call: Call) -> torch.Tensor:
    return torch.linalg.det(call.tensor(0))
