"""Functions of each element, of rows, and of matrices."""

import numpy as np
import torch

from operator_cases.case import bools, case, floats, ints

X, Y = floats(3, 5, 4), floats(3, 5, 4, seed=1)
UNIT = np.tanh(X)
POSITIVE = np.abs(X) + 0.1
N, M = ints(-9, 10, 3, 6), ints(-9, 10, 3, 6, seed=1)
M[M == 0] = 3
B, C = bools(3, 6), bools(3, 6, seed=1)
SPECIAL = np.array([[0.0, -0.0, np.inf, -np.inf, np.nan, 1.5]] * 3, np.float32)
SQUARE = floats(3, 4, 4) + 3 * np.eye(4, dtype=np.float32)
SYMMETRIC = (SQUARE @ SQUARE.transpose(0, 2, 1) + np.eye(4)).astype(np.float32)


def _each(x, *names):
    return case(lambda x: tuple(getattr(torch, name)(x) for name in names), x)


CASES = {
    "unary": _each(
        X,
        "abs",
        "exp",
        "exp2",
        "expm1",
        "sin",
        "cos",
        "tan",
        "atan",
        "sinh",
        "cosh",
        "asinh",
        "tanh",
        "sigmoid",
        "erf",
        "neg",
        "relu",
        "square",
    ),
    "unary_of_the_unit_interval": _each(UNIT, "asin", "acos", "atanh", "deg2rad", "sinc", "erfinv"),
    "unary_of_positive_numbers": _each(POSITIVE, "log", "log2", "log10", "log1p", "sqrt", "rsqrt", "reciprocal"),
    "acosh": _each(POSITIVE + 1, "acosh"),
    "special_functions": case(
        lambda x: (
            torch.special.erfc(x),
            torch.special.ndtr(x),
            torch.special.i0(x),
            torch.special.xlog1py(x, x.abs()),
        ),
        X,
    ),
    "rounding": _each(X * 3, "floor", "ceil", "round", "trunc", "frac", "sign", "sgn"),
    "rounding_of_halves": _each(
        np.array([[0.5, 1.5, 2.5, -0.5, -1.5]] * 3, np.float32), "floor", "ceil", "round", "trunc"
    ),
    "round_to_decimals": case(lambda x: x.round(decimals=2), X),
    "tests": _each(SPECIAL, "isnan", "isinf", "isfinite", "isposinf", "isneginf", "signbit", "nan_to_num"),
    "activations": case(
        lambda x: tuple(
            getattr(torch.nn.functional, n)(x)
            for n in (
                "elu",
                "gelu",
                "hardtanh",
                "leaky_relu",
                "silu",
                "softplus",
                "mish",
                "hardswish",
                "hardsigmoid",
                "selu",
                "logsigmoid",
                "relu6",
                "tanhshrink",
                "softshrink",
                "hardshrink",
            )
        ),
        X,
    ),
    "softmax": case(lambda x: (x.softmax(1), x.log_softmax(-1), torch.logsumexp(x, (1, 2))), X),
    "binary": case(
        lambda x, y: (
            x + y,
            x - 2 * y,
            x * y,
            x / y,
            torch.maximum(x, y),
            torch.minimum(x, y),
            torch.atan2(x, y),
            torch.hypot(x, y),
            torch.rsub(x, y, alpha=3),
            torch.copysign(x, y),
            torch.lerp(x, y, 0.3),
            torch.addcmul(x, x, y, value=2),
            torch.addcdiv(x, x, y.abs() + 1, value=2),
        ),
        X,
        Y,
    ),
    "fmax": case(
        lambda x, y: (
            torch.fmax(x, y),
            torch.fmin(x, y),
            torch.logaddexp(x, y),
            torch.logaddexp2(x, y),
            torch.xlogy(x, y.abs()),
            torch.heaviside(x, y),
        ),
        X,
        Y,
    ),
    "power": case(lambda x, y: (x.abs() ** y, 2.5**y, x**3, x**-2, (x.abs() + 1) ** 0.3, x**2.0), X, Y),
    "remainders": case(
        lambda x, y: (
            x % y,
            torch.fmod(x, y),
            x % 0.7,
            torch.fmod(x, -0.7),
            x // y,
            torch.div(x, y, rounding_mode="trunc"),
        ),
        X,
        Y,
    ),
    "remainders_of_whole_numbers": case(
        lambda x, y: (
            x % y,
            torch.fmod(x, y),
            x // y,
            torch.div(x, y, rounding_mode="trunc"),
            x % 4,
            torch.fmod(x, 4),
            x // -4,
        ),
        N,
        M,
    ),
    "bitwise": case(lambda x, y: (x & y, x | y, x ^ y, ~x, x & 6, x | 6, x ^ 6), N, M),
    "shifts": case(lambda x: (x << 2, x >> 1), N),
    "bitwise_of_truth_values": case(lambda x, y: (x & y, x | y, x ^ y, ~x), B, C),
    "logical": case(
        lambda x, y: (torch.logical_and(x, y), torch.logical_or(x, y), torch.logical_xor(x, y), torch.logical_not(x)),
        B,
        C,
    ),
    "logical_of_numbers": case(
        lambda x, y: (torch.logical_and(x, y), torch.logical_or(x, y), torch.logical_xor(x, y), torch.logical_not(x)),
        N,
        M,
    ),
    "comparisons": case(
        lambda x, y: (x < y, x <= y, x > y, x >= y, x == y, x != y, x < 2, x == 3, x != 1, x >= 0, x <= 1, x > 4), N, M
    ),
    "clamp": case(
        lambda x, y: (x.clamp(-0.5, 0.5), x.clamp(min=0.1), x.clamp(max=y), x.clamp(y - 1, y), x.clamp(min=y)), X, Y
    ),
    "sums": case(
        lambda x: (x.sum(), x.sum(1), x.sum((0, 2), keepdim=True), x.mean(), x.mean((1, 2)), x.prod(1), x.prod()), X
    ),
    "sums_of_whole_numbers": case(lambda x: (x.sum(1), x.prod(1), x.sum()), N),
    "sums_of_truth_values": case(lambda x: (x.sum(1), x.any(1), x.all(1), x.any(), x.all(), x.cumsum(1)), B),
    "nan_sums": case(lambda x: (x.nansum(1), x.nanmean(1)), np.where(np.abs(X) > 1.5, np.nan, X).astype(np.float32)),
    "extrema": case(lambda x: (x.amax(1), x.amin((1, 2)), x.max(), x.min(), *x.aminmax(dim=1), x.count_nonzero(1)), X),
    "variances": case(
        lambda x: (
            x.var(1),
            x.std((1, 2), keepdim=True),
            x.var(),
            x.var(2, correction=0),
            *torch.var_mean(x, 1),
            torch.std_mean(x, 2, correction=2)[0],
        ),
        X,
    ),
    "any_of_numbers": case(lambda x: (x.any(1), x.all(1), x.any(), (x > 0).all((0, 1))), N),
    "norms": case(
        lambda x: (
            x.norm(),
            x.norm(dim=1),
            x.norm(1, (1, 2)),
            x.norm(3, 1),
            x.norm(float("inf"), 1),
            x.norm(float("-inf"), 2),
            x.norm(0, 1),
            x.norm(0.5, 2),
            torch.linalg.matrix_norm(x),
            torch.renorm(x, 2, 1, 1.0),
        ),
        X,
    ),
    "distances": case(
        lambda x, y: (
            torch.cdist(x, y),
            torch.cdist(x, y, 1.0),
            torch.cdist(x, y, 3.0),
            torch.cdist(x, y, float("inf")),
        ),
        X,
        floats(3, 2, 4),
    ),
    "pdist": case(lambda x: torch.pdist(x[0]), X),
    "cumulative": case(
        lambda x: (x.cumsum(1), x.cumprod(1), x.cumsum(-1), x.cumprod(0), x.cumsum(2, dtype=torch.float64)), X
    ),
    "cumulative_of_whole_numbers": case(lambda x: (x.cumsum(1), x.cumprod(1)), ints(-3, 4, 3, 6)),
    "cumulative_extrema": case(lambda x: (*x.cummax(1), *x.cummin(2)), X),
    "cumulative_extrema_of_ties": case(lambda x: (*x.cummax(1), *x.cummin(1)), ints(-2, 3, 3, 8)),
    "logcumsumexp": case(lambda x: (x.logcumsumexp(1), (x * 40).logcumsumexp(2)), X),
    "differences": case(lambda x: (x.diff(dim=1), x.diff(2, 2), torch.trapezoid(x, dim=1)), X),
    "products": case(
        lambda x, y: (
            x @ y.mT,
            torch.bmm(x, y.mT),
            x[0] @ y[0].T,
            torch.mv(x[0], y[0, 0]),
            torch.dot(x[0, 0], y[0, 0]),
            torch.addmm(x[0] @ x[0].T, x[0], y[0].T, beta=0.5, alpha=2),
            torch.baddbmm(x @ x.mT, x, y.mT, beta=2, alpha=0.3),
            torch.outer(x[0, 0], y[0, 1]),
            torch.linalg.multi_dot([x[0], y[0].T, x[0]]),
            torch.addmv(x[0, :, 0], x[0], y[0, 0]),
            torch.addbmm(x[0] @ x[0].T, x, y.mT),
        ),
        X,
        Y,
    ),
    "einsum": case(
        lambda x, y: (
            torch.einsum("bij,bkj->bik", x, y),
            torch.einsum("bij,bij->b", x, y),
            torch.einsum("bij->bji", x),
            torch.einsum("...ij,...kj->...ik", x, y),
            torch.einsum("ij,kj,ij->k", x[0], y[0], x[0]),
            torch.einsum("bij,bcj->bic", x, y),
            torch.einsum("bii->bi", x[:, :4] + 0),
            torch.einsum("bij->", x),
            torch.einsum("bij,j->bi", x, torch.arange(4.0)),
            torch.tensordot(x, y, ([1, 2], [1, 2])),
        ),
        X,
        Y,
    ),
    "kron": case(lambda x: torch.kron(x[0], torch.arange(4.0).view(2, 2)), X),
    "cross": case(lambda x, y: torch.linalg.cross(x, y), floats(3, 5, 3), floats(3, 5, 3, seed=1)),
    "inverse": case(lambda x: torch.linalg.inv(x), SQUARE),
    "determinant": case(lambda x: (torch.linalg.det(x), *torch.linalg.slogdet(x)), SQUARE),
    "solve": case(lambda x, y: (torch.linalg.solve(x, y), torch.linalg.solve(x, y[:, :, 0])), SQUARE, floats(3, 4, 2)),
    "triangular_solve": case(
        lambda x, y: (
            torch.linalg.solve_triangular(x.triu(), y, upper=True),
            torch.linalg.solve_triangular(x.tril(), y, upper=False),
            torch.linalg.solve_triangular(x.tril(), y.mT, upper=False, left=False),
            torch.linalg.solve_triangular(x, y, upper=True, unitriangular=True),
        ),
        SQUARE,
        floats(3, 4, 2),
    ),
    "cholesky": case(lambda x: (torch.linalg.cholesky(x), torch.linalg.cholesky(x, upper=True)), SYMMETRIC),
    "cholesky_solve": case(lambda x, y: torch.cholesky_solve(y, torch.linalg.cholesky(x)), SYMMETRIC, floats(3, 4, 2)),
    "pinv": case(lambda x: torch.linalg.pinv(x), SQUARE),
    "eigenvalues": case(lambda x: torch.linalg.eigvalsh(x), SYMMETRIC),
    "singular_values": case(lambda x: torch.linalg.svdvals(x), SQUARE),
    "qr": case(lambda x: tuple(torch.linalg.qr(x)), SQUARE),
    "matrix_power": case(lambda x: (torch.linalg.matrix_power(x, 3), torch.matrix_exp(x * 0.1)), SQUARE),
    "trace": case(
        lambda x: (
            torch.trace(x[0]),
            x.diagonal(1, 1, 2),
            torch.diagonal(x, -1, 1, 2),
            torch.diag_embed(x),
            torch.diag(x[0]),
            torch.diag_embed(x, 1),
        ),
        SQUARE,
    ),
    "losses": case(
        lambda x, y: (
            torch.nn.functional.mse_loss(x, y),
            torch.nn.functional.l1_loss(x, y, reduction="none"),
            torch.nn.functional.smooth_l1_loss(x, y),
            torch.nn.functional.huber_loss(x, y),
            torch.nn.functional.binary_cross_entropy_with_logits(x, y.sigmoid()),
            torch.nn.functional.kl_div(x.log_softmax(1), y.softmax(1), reduction="batchmean"),
        ),
        X,
        Y,
    ),
    "cross_entropy": case(
        lambda x, i: (torch.nn.functional.cross_entropy(x, i), torch.nn.functional.nll_loss(x, i, reduction="none")),
        X,
        ints(0, 5, 3, 4),
    ),
    "dropout": case(lambda x: torch.nn.functional.dropout(x, 0.5, training=False) * 2, X),
    "random": case(lambda x: x + torch.rand(x.shape[0], 5, 4), X),
}
