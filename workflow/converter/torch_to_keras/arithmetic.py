"""Sums, differences, products and quotients: merging layers for two tensors, layers with weights for a parameter."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import torch
from keras import layers

from converter.torch_to_keras.activations import rescale
from converter.torch_to_keras.alignment import aligned
from converter.torch_to_keras.call import Call
from converter.torch_to_keras.parameter_layers import affine
from converter.torch_to_keras.registry import converts
from converter.torch_to_keras.values import Constant, KerasTensor, Value, same_shape

__all__ = ["total"]

_Operand = Value | Constant | int | float


def _number(operand: _Operand) -> int | float | None:
    """The operand as one number, if it is one; a parameter that is a single number becomes fixed."""
    if isinstance(operand, Constant):
        return operand.uniform if operand.uniform is not None and np.isfinite(operand.uniform) else None
    return None if isinstance(operand, Value | torch.SymInt | torch.SymFloat) else operand


def _scaled(call: Call, operand: _Operand, factor: float) -> _Operand:
    if factor == 1:
        return operand
    if isinstance(operand, Constant):
        return Constant(operand.array * factor, operand.shape, operand.name, operand.trainable)
    if isinstance(operand, Value):
        if operand.is_float:
            return rescale(call, operand, factor)
        return operand.like(call.op(keras.ops.multiply, operand.tensor, factor))
    return operand * factor


def _keeps_shape(call: Call, value: _Operand) -> bool:
    return isinstance(value, Value) and same_shape(value.shape, call.shape)


def _by_layers(call: Call, *operands: _Operand) -> bool:
    """Layers compute in floats: every tensor operand must be one, of the result's type."""
    return call.is_float and all(o.tensor.dtype == call.dtype for o in operands if isinstance(o, Value))


def _merge(call: Call, cls: type | None, function: Callable, a: _Operand, b: _Operand) -> Value:
    """A merging layer for two float tensors, keras.ops for all else."""
    nonnegative = all(isinstance(o, Value) and o.nonnegative for o in (a, b)) and cls is not layers.Subtract
    if cls is not None and _by_layers(call, a, b) and isinstance(a, Value) and isinstance(b, Value):
        tensors, order = aligned(call, [a, b])
        if _same_batch(tensors):
            return Value(call.layer(cls, tensors), call.shape, order, nonnegative)
    tensors, order = aligned(call, [_cast(call, operand) for operand in (a, b)])
    return Value(call.op(function, *tensors), call.shape, order, nonnegative)


def _sum(call: Call, a: _Operand, b: _Operand) -> Value:
    """a + b, the larger operand second.

    Keras 3.15's add on TensorFlow takes a second operand with one axis that is not 1 for a bias of the channels, so that
    (N, T, C) + (1, T, 1) comes out wrong where C or the second axis happens to be T. Where both operands are broadcast,
    none is safe, and a difference says the same.
    """
    if not isinstance(b, Value) or not _keeps_shape(call, b):
        a, b = b, a
    if isinstance(b, Value) and _keeps_shape(call, b):
        return _merge(call, layers.Add, keras.ops.add, a, b)
    return _merge(call, layers.Subtract, keras.ops.subtract, a, _scaled(call, b, -1))


def _same_batch(tensors: list[KerasTensor]) -> bool:
    """Merging layers refuse to broadcast the batch."""
    return bool(tensors[0].shape) and tensors[0].shape[0] == tensors[1].shape[0]


def _cast(call: Call, operand: _Operand) -> _Operand:
    """PyTorch promotes by its own rules: the operand as the result's type."""
    if isinstance(operand, Value) and operand.tensor.dtype != call.dtype and call.dtype != "bool":
        return operand.like(call.op(keras.ops.cast, operand.tensor, call.dtype), nonnegative=operand.nonnegative)
    if isinstance(operand, Constant) and call.dtype != "bool":
        return Constant(operand.array.to(getattr(torch, call.dtype)), operand.shape, operand.name, operand.trainable)
    return operand


def total(call: Call, a: _Operand, b: _Operand) -> Value:
    """`a + b`, whatever options the operator has."""
    a, b = (a, b) if isinstance(a, Value) else (b, a)
    number = _number(b)
    if _by_layers(call, a) and not isinstance(b, Value) and _keeps_shape(call, a):
        if number is not None:
            return rescale(call, a, 1.0, number)
        if isinstance(b, Constant):
            shifted = affine(call, a, shift=b)
            if shifted is not None:
                return shifted
    return _sum(call, a, b)


def _multiply(call: Call, a: _Operand, b: _Operand) -> Value:
    a, b = (a, b) if isinstance(a, Value) else (b, a)
    number = _number(b)
    if _by_layers(call, a) and not isinstance(b, Value) and _keeps_shape(call, a):
        if number is not None:
            return rescale(call, a, number)
        if isinstance(b, Constant):
            scaled = affine(call, a, scale=b)
            if scaled is not None:
                return scaled
    return _merge(call, layers.Multiply, keras.ops.multiply, a, b)


@converts("add.Tensor", "add.Scalar")
def add(call: Call, a: _Operand, b: _Operand, alpha: float = 1) -> Value:
    """`a + alpha * b`."""
    return total(call, a, _scaled(call, b, call.option("alpha", alpha)))


@converts("sub.Tensor", "sub.Scalar")
def subtract(call: Call, a: _Operand, b: _Operand, alpha: float = 1) -> Value:
    """`a - alpha * b`."""
    b = _scaled(call, b, call.option("alpha", alpha))
    if isinstance(a, Value) and isinstance(b, Value):
        return _merge(call, layers.Subtract, keras.ops.subtract, a, b)
    if not call.is_float:
        return _merge(call, None, keras.ops.subtract, a, b)
    return total(call, a, _scaled(call, b, -1))


@converts("rsub.Scalar", "rsub.Tensor")
def reverse_subtract(call: Call, a: _Operand, b: _Operand, alpha: float = 1) -> Value:
    """`b - alpha * a`."""
    return subtract(call, b, a, alpha)


@converts("neg.default")
def negative(call: Call, value: Value) -> Value:
    """`-value`."""
    return _multiply(call, value, -1)


@converts("mul.Tensor", "mul.Scalar")
def multiply(call: Call, a: _Operand, b: _Operand) -> Value:
    """`a * b`; of truth values `a and b`."""
    if call.dtype == "bool":
        return _merge(call, None, keras.ops.logical_and, a, b)
    return _multiply(call, a, b)


@converts("div.Tensor", "div.Scalar")
def divide(call: Call, a: _Operand, b: _Operand) -> Value:
    """`a / b`, as a product where b is a constant without zeros."""
    if isinstance(b, Constant) and isinstance(a, Value) and bool((b.array != 0).all()):
        b = Constant(1 / b.array.to(getattr(torch, call.dtype)), b.shape, b.name, b.trainable)
        return _multiply(call, _cast(call, a), b)
    if not isinstance(b, Value | Constant | torch.SymInt | torch.SymFloat) and b != 0:
        return _multiply(call, _cast(call, a), 1 / b)
    return _merge(call, None, keras.ops.true_divide, a, b)


@converts("div.Tensor_mode", "div.Scalar_mode")
def divide_rounding(call: Call, a: _Operand, b: _Operand) -> Value:
    """`a / b`, rounded towards zero ("trunc"), down ("floor") or not at all."""
    mode = call.option("rounding_mode")
    if mode is None:
        return divide(call, a, b)
    if mode == "floor":
        return _merge(call, None, keras.ops.floor_divide, a, b)
    quotient = _merge(call, None, keras.ops.true_divide, a, b)
    whole = call.op(keras.ops.trunc, quotient.tensor)
    return quotient.like(whole if call.is_float else call.op(keras.ops.cast, whole, call.dtype))


@converts("floor_divide.default")
def floor_divide(call: Call, a: _Operand, b: _Operand) -> Value:
    """`floor(a / b)`."""
    return _merge(call, None, keras.ops.floor_divide, a, b)


@converts("remainder.Tensor", "remainder.Scalar", "remainder.Scalar_Tensor")
def remainder(call: Call, a: _Operand, b: _Operand) -> Value:
    """`a - floor(a / b) * b`: it has the sign of b."""
    return _merge(call, None, keras.ops.mod, a, b)


@converts("maximum.default")
def maximum(call: Call, a: _Operand, b: _Operand) -> Value:
    """The larger of a and b, element by element."""
    return _merge(call, layers.Maximum, keras.ops.maximum, a, b)


@converts("minimum.default")
def minimum(call: Call, a: _Operand, b: _Operand) -> Value:
    """The smaller of a and b, element by element."""
    return _merge(call, layers.Minimum, keras.ops.minimum, a, b)


@converts("pow.Tensor_Scalar")
def power(call: Call, value: Value, exponent: float) -> Value:
    """`value ** exponent` with a number as exponent; small whole ones as products."""
    if exponent == 1:
        return value
    if exponent in (2, 3, 4) and _by_layers(call, value):
        tensor = call.layer(layers.Multiply, [value.tensor] * int(exponent))
        return value.like(tensor, nonnegative=exponent % 2 == 0 or value.nonnegative)
    if exponent == 0.5:
        return value.like(call.op(keras.ops.sqrt, value.tensor), nonnegative=True)
    return value.like(call.op(keras.ops.power, value.tensor, exponent), nonnegative=value.nonnegative)


@converts("pow.Tensor_Tensor", "pow.Scalar")
def power_of(call: Call, a: _Operand, b: _Operand) -> Value:
    """`a ** b`, either of which may be a tensor."""
    return _merge(call, None, keras.ops.power, a, b)
