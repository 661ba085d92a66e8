"""Inverses, factors and solutions: functions of keras.ops, for which TensorFlow Lite has no kernels."""

from __future__ import annotations

import operator

import keras
import torch

from converter.torch_to_keras.call import Call
from converter.torch_to_keras.positions import plain
from converter.torch_to_keras.registry import converts
from converter.torch_to_keras.values import Constant, KerasTensor, Value, static

_Tensor = Value | Constant


def _turned(call: Call, tensor: KerasTensor) -> KerasTensor:
    rank = len(tensor.shape)
    return call.op(keras.ops.transpose, tensor, (*range(rank - 2), rank - 1, rank - 2))


def _alone(call: Call, first: KerasTensor, *names: str) -> tuple[Value | None, ...]:
    """The first result; raises UnsupportedError where one of the others, so called, is read."""
    for place, name in enumerate(names, 1):
        if _is_read(call, place):
            raise call.unsupported(f"Keras does not give its {name}")
    return (call.value(first), *(None for _ in names))


def _is_read(call: Call, place: int) -> bool:
    """Whether anything but a check that the operator succeeded reads this result."""
    readers = [
        u for user in call.node.users if user.target is operator.getitem and user.args[1] == place for u in user.users
    ]
    return any(reader.target is not torch.ops.higher_order.with_effects for reader in readers)


@converts("linalg_inv_ex.default")
def inverse(call: Call, value: _Tensor, *_: object) -> tuple[Value | None, ...]:
    """Inverses of square matrices."""
    return _alone(call, call.op(keras.ops.inv, plain(call, value)), "error code")


@converts("linalg_cholesky_ex.default")
def cholesky(call: Call, value: _Tensor, *_: object) -> tuple[Value | None, ...]:
    """The lower triangular factor, or with `upper` its transpose."""
    tensor = call.op(keras.ops.cholesky, plain(call, value))
    return _alone(call, _turned(call, tensor) if call.option("upper", False) else tensor, "error code")


@converts("_linalg_solve_ex.default")
def solve(call: Call, a: _Tensor, b: _Tensor) -> tuple[Value | None, ...]:
    """x in A x = b, or in x A = b."""
    matrix, right = plain(call, a), plain(call, b)
    vectors = len(b.shape) == 1 or len(b.shape) == len(a.shape) - 1
    left = call.option("left", True)
    right = call.op(keras.ops.expand_dims, right, -1) if vectors else right
    if not left:
        matrix, right = _turned(call, matrix), _turned(call, right)
    result = call.op(keras.ops.solve, matrix, right)
    result = result if left else _turned(call, result)
    result = call.op(keras.ops.squeeze, result, -1) if vectors else result
    return _alone(call, result, "factors", "pivots", "error code")


@converts("linalg_solve_triangular.default")
def solve_triangular(call: Call, a: _Tensor, b: _Tensor) -> Value:
    """x in A x = b, or in x A = b, of a triangle; what else the matrix holds is not read."""
    upper, left, unit = call.option("upper"), call.option("left", True), call.option("unitriangular", False)
    matrix, right = plain(call, a), plain(call, b)
    if unit:
        size = static(a.shape[-1])
        if size is None:
            raise call.unsupported("a triangle of unknown size with ones on its diagonal")
        eye = keras.ops.convert_to_numpy(keras.ops.eye(size, dtype="bool"))
        matrix = call.op(keras.ops.where, eye, keras.ops.convert_to_numpy(keras.ops.ones((), call.dtype)), matrix)
    if not left:
        matrix, right, upper = _turned(call, matrix), _turned(call, right), not upper
    result = call.op(keras.ops.solve_triangular, matrix, right, lower=not upper)
    return call.value(result if left else _turned(call, result))


@converts("_linalg_det.default")
def determinant(call: Call, value: _Tensor) -> tuple[Value | None, ...]:
    """Determinants of square matrices."""
    return _alone(call, call.op(keras.ops.det, plain(call, value)), "factors", "pivots")


@converts("_linalg_slogdet.default")
def sign_and_logarithm(call: Call, value: _Tensor) -> tuple[Value | None, ...]:
    """The determinant's sign and the logarithm of its size."""
    sign, logarithm = call.op(keras.ops.slogdet, plain(call, value))
    return (*_alone(call, sign)[:1], call.value(logarithm), None, None)


@converts("_linalg_eigh.default")
def eigenvalues(call: Call, value: _Tensor, *_: object) -> tuple[Value | None, ...]:
    """Of symmetric matrices, in ascending order; their vectors have no sign that libraries agree on."""
    if call.uses(1):
        raise call.unsupported("eigenvectors are determined up to their sign only, and libraries choose it differently")
    return call.value(call.op(keras.ops.eigh, plain(call, value))[0]), None


@converts("_linalg_svd.default")
def singular_values(call: Call, value: _Tensor, *_: object) -> tuple[Value | None, ...]:
    """In descending order; the vectors have no sign that libraries agree on."""
    if call.uses(0) or call.uses(2):
        raise call.unsupported(
            "singular vectors are determined up to their sign only, and libraries choose it differently"
        )
    tensor = call.op(keras.ops.svd, plain(call, value), compute_uv=False)
    shape = tuple(call.result[1].shape)  # type: ignore[index]
    return None, Value(tensor, shape, tuple(range(len(shape)))), None
