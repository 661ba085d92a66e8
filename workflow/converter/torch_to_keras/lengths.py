"""Sizes that are known only when the model runs, as tensors of the model.

Keras says no sizes of a symbolic tensor, but it sums: a one for each step along an axis of an input, and the sum of these
is the axis's size, their running sum the places along it.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import torch

from converter.torch_to_keras.values import Dim, KerasTensor, Value, expression_of, static

if TYPE_CHECKING:
    from converter.torch_to_keras.call import Call

__all__ = ["counting", "number", "ones", "ones_along", "size"]


def size(call: Call, dim: Dim) -> int | KerasTensor:
    """The size as a number, or as an int32 tensor without axes where it is not known yet."""
    known = static(dim)
    if known is not None:
        return known
    return call.op(keras.ops.sum, _ones(call, expression_of(dim)))


def ones(call: Call, dim: Dim) -> np.ndarray | KerasTensor:
    """As many ones as the size, int32: an array where the size is known."""
    known = static(dim)
    return np.ones(known, "int32") if known is not None else _ones(call, expression_of(dim))


def counting(call: Call, dim: Dim) -> np.ndarray | KerasTensor:
    """0, 1, 2, ... below the size, int32: an array where the size is known."""
    known = static(dim)
    if known is not None:
        return np.arange(known, dtype="int32")
    return call.op(keras.ops.subtract, call.op(keras.ops.cumsum, _ones(call, expression_of(dim)), axis=0), 1)


def ones_along(call: Call, tensor: KerasTensor, axis: int) -> KerasTensor:
    """A one, int32, for each step along an axis of the Keras tensor: a vector of that axis's size."""
    index = tuple(slice(None) if place == axis else 0 for place in range(len(tensor.shape)))
    return call.op(keras.ops.ones_like, call.op(operator.getitem, tensor, index), dtype="int32")


def _ones(call: Call, expression: Any) -> KerasTensor:
    """As many ones as a sympy expression says: of a sum, a product, or a whole quotient of sizes of the inputs' axes."""
    cache = call.conversion.ones
    if expression not in cache:
        cache[expression] = _made(call, expression)
    return cache[expression]


def _made(call: Call, expression: Any) -> KerasTensor:
    import sympy

    for source in call.conversion.inputs:
        for axis, dim in enumerate(source.shape):
            if static(dim) is None and sympy.simplify(expression_of(dim) - expression) == 0:
                return ones_along(call, source.tensor, source.order.index(axis))
    if expression.is_Symbol:
        found = _of_data(call, expression)
        return _of_multiple(call, expression) if found is None else found
    number, rest = expression.as_coeff_Add()
    if number != 0:
        ones = _ones(call, rest)
        if number > 0:
            return call.op(keras.ops.concatenate, [ones, np.ones(int(number), "int32")], axis=0)
        return call.op(operator.getitem, ones, (slice(-int(number), None),))
    if expression.is_Add and not any(term.could_extract_minus_sign() for term in expression.args):
        return call.op(keras.ops.concatenate, [_ones(call, term) for term in expression.args], axis=0)
    number, rest = expression.as_coeff_Mul()
    if expression.is_Mul and number.is_Integer and number > 0:
        factors = [np.ones(int(number), "int32")] if number != 1 else []
        factors += [_ones(call, factor) for factor in rest.as_ordered_factors()]
        product = factors[-1]
        for factor in factors[:-1]:
            # An outer product: a matrix of ones, which is laid out as a vector.
            column = factor[:, None] if isinstance(factor, np.ndarray) else call.op(keras.ops.expand_dims, factor, 1)
            product = call.op(keras.ops.reshape, call.op(keras.ops.multiply, column, product), (-1,))
        return product
    if expression.is_Pow and expression.exp.is_Integer and expression.exp > 1:
        ones = _ones(call, expression.base)
        others = _ones(call, expression.base ** (expression.exp - 1))
        column = call.op(keras.ops.expand_dims, ones, 1)
        return call.op(keras.ops.reshape, call.op(keras.ops.multiply, column, others), (-1,))
    if type(expression).__name__ == "FloorDiv" and expression.args[1].is_Integer:
        whole, divisor = expression.args
        return call.op(operator.getitem, _ones(call, whole), (slice(int(divisor) - 1, None, int(divisor)),))
    if type(expression).__name__ == "Min" and len(expression.args) == 2 and expression.args[0].is_Integer:
        most, rest = expression.args
        return call.op(operator.getitem, _ones(call, rest), (slice(None, int(most)),))
    raise call.unsupported(f"the size {expression} cannot be counted off the inputs' axes")


def _of_data(call: Call, symbol: Any) -> KerasTensor | None:
    """The symbol's ones along a result whose size the data decides, as that of `nonzero`."""
    for value in call.conversion.values.values():
        if not isinstance(value, Value):
            continue
        for axis, dim in enumerate(value.shape):
            if static(dim) is None and expression_of(dim) == symbol:
                return ones_along(call, value.tensor, value.order.index(axis))
    return None


def _of_multiple(call: Call, symbol: Any) -> KerasTensor:
    """The symbol's ones where an input's axis has a multiple of its size."""
    import sympy

    for source in call.conversion.inputs:
        for axis, dim in enumerate(source.shape):
            if static(dim) is not None:
                continue
            factor = sympy.simplify(expression_of(dim) / symbol)
            if factor.is_Integer and factor > 1:
                ones = ones_along(call, source.tensor, source.order.index(axis))
                return call.op(operator.getitem, ones, (slice(int(factor) - 1, None, int(factor)),))
    raise call.unsupported(f"the size {symbol} is no size of an input")


def number(call: Call, symbol: torch.SymInt | torch.SymFloat | int | float) -> int | float | KerasTensor:
    """What arithmetic of sizes gives, as a number or as a tensor without axes: int32 of whole ones, else float32."""
    if isinstance(symbol, int | float):
        return symbol
    expression = symbol.node.expr
    if isinstance(symbol, torch.SymInt):
        return int(expression) if expression.is_number else call.op(keras.ops.sum, _ones(call, expression))
    return float(expression) if expression.is_number else _evaluated(call, expression)


def _evaluated(call: Call, expression: Any) -> float | KerasTensor:
    """A sympy expression of sizes in float32."""
    if expression.is_number:
        return float(expression)
    if expression.is_Symbol:
        return call.op(keras.ops.cast, call.op(keras.ops.sum, _ones(call, expression)), "float32")
    kind = type(expression).__name__
    if kind == "FloorDiv":
        return call.op(keras.ops.cast, call.op(keras.ops.sum, _ones(call, expression)), "float32")
    operands = [_evaluated(call, argument) for argument in expression.args]
    if kind == "ToFloat":
        return operands[0]
    if kind not in _FUNCTIONS:
        raise call.unsupported(f"the number {expression} cannot be computed of the inputs' sizes")
    if len(operands) == 1:
        return call.op(_FUNCTIONS[kind], operands[0])
    result = operands[0]
    for operand in operands[1:]:
        both_known = isinstance(result, float) and isinstance(operand, float)
        result = float(_FUNCTIONS[kind](result, operand)) if both_known else call.op(_FUNCTIONS[kind], result, operand)
    return result


_FUNCTIONS = {
    "Add": keras.ops.add, "Mul": keras.ops.multiply, "Pow": keras.ops.power, "FloatPow": keras.ops.power,
    "PowByNatural": keras.ops.power, "IntTrueDiv": keras.ops.true_divide, "FloatTrueDiv": keras.ops.true_divide,
    "OpaqueUnaryFn_sqrt": keras.ops.sqrt, "OpaqueUnaryFn_log": keras.ops.log, "OpaqueUnaryFn_log2": keras.ops.log2,
}  # fmt: skip
