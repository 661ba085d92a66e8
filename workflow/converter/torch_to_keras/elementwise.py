"""Functions of each element, comparisons and selections: keras.ops, since no layers exist for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import torch

from converter.torch_to_keras.alignment import aligned
from converter.torch_to_keras.call import Call
from converter.torch_to_keras.registry import converts
from converter.torch_to_keras.values import Constant, Value

_UNARY = {
    "log": "log", "log2": "log2", "log10": "log10", "log1p": "log1p", "expm1": "expm1",
    "sqrt": "sqrt", "rsqrt": "rsqrt", "sin": "sin", "cos": "cos", "tan": "tan", "asin": "arcsin", "acos": "arccos",
    "atan": "arctan", "sinh": "sinh", "cosh": "cosh", "asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh",
    "erf": "erf", "floor": "floor", "ceil": "ceil", "round": "round", "trunc": "trunc", "sign": "sign",
    "reciprocal": "reciprocal", "logical_not": "logical_not", "isnan": "isnan", "isinf": "isinf",
    "exp2": "exp2", "erfinv": "erfinv", "erfc": "erfc", "special_i0": "i0",
}  # fmt: skip
_NONNEGATIVE = {"sqrt", "rsqrt", "cosh", "exp2"}
_COMPARISONS = {
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
}  # fmt: skip
_LOGICAL = {"logical_and": "logical_and", "logical_or": "logical_or", "logical_xor": "logical_xor"}


def _unary(name: str, function: Callable) -> None:
    def convert(call: Call, value: Value) -> Value:
        tensor = value.tensor
        if call.is_float and "float" not in tensor.dtype:
            tensor = call.op(keras.ops.cast, tensor, call.dtype)
        return value.like(call.op(function, tensor), nonnegative=name in _NONNEGATIVE)

    converts(f"{name}.default")(convert)


def _binary(names: list[str], function: Callable) -> None:
    def convert(call: Call, a: Any, b: Any) -> Value:
        tensors, order = aligned(call, _promoted(call, [a, b]))
        return Value(call.op(function, *tensors), call.shape, order)

    converts(*names)(convert)


def _promoted(call: Call, operands: list[Any]) -> list[Any]:
    """Operands of different types as the type PyTorch compares them in (it never compares as float64 by accident)."""
    types = [argument.meta["val"] if isinstance(argument, torch.fx.Node) else argument for argument in call.node.args]
    wanted = torch.result_type(*(torch.empty((1,) * t.dim(), dtype=t.dtype) if hasattr(t, "dim") else t for t in types))
    return [_as(call, operand, str(wanted).removeprefix("torch.")) for operand in operands]


def _as(call: Call, operand: Any, dtype: str) -> Any:
    if isinstance(operand, Value) and operand.tensor.dtype != dtype:
        return operand.like(call.op(keras.ops.cast, operand.tensor, dtype), nonnegative=operand.nonnegative)
    if isinstance(operand, Constant):
        return Constant(operand.array.to(getattr(torch, dtype)), operand.shape)
    return operand


for _name, _function in _UNARY.items():
    _unary(_name, getattr(keras.ops, _function))
for _name, _function in _COMPARISONS.items():
    _binary([f"{_name}.Tensor", f"{_name}.Scalar"], getattr(keras.ops, _function))
for _name, _function in _LOGICAL.items():
    _binary([f"{_name}.default"], getattr(keras.ops, _function))
_binary(["atan2.default"], keras.ops.arctan2)


def _bitwise(name: str) -> None:
    def convert(call: Call, a: Any, b: Any) -> Value:
        function = getattr(keras.ops, ("logical_" if call.dtype == "bool" else "bitwise_") + name)
        tensors, order = aligned(call, _promoted(call, [_with_axis(a), _with_axis(b)]))
        return Value(call.op(function, *tensors), call.shape, order)

    converts(f"bitwise_{name}.Tensor", f"bitwise_{name}.Scalar")(convert)


def _with_axis(operand: Any) -> Any:
    """Keras 3.15 takes no numbers in its bitwise operations, nor arrays without axes from a file."""
    if isinstance(operand, bool | int):
        return Constant(torch.tensor([operand]), (1,))
    if isinstance(operand, Constant) and operand.array.dim() == 0:
        return Constant(operand.array.reshape(1), operand.shape)
    return operand


for _name in "and", "or", "xor":
    _bitwise(_name)


@converts("bitwise_not.default")
def bitwise_not(call: Call, value: Value) -> Value:
    """Inverts all bits; of truth values `not`."""
    function = keras.ops.logical_not if call.dtype == "bool" else keras.ops.bitwise_not
    return value.like(call.op(function, value.tensor))


@converts("view.dtype")
def view_dtype(call: Call, value: Value, dtype: torch.dtype) -> Value:
    """The same bits as numbers of another type of that width."""
    if dtype.itemsize != getattr(torch, str(value.tensor.dtype)).itemsize:
        raise call.unsupported("a view of the bits as numbers of another width")
    return value.like(call.op(keras.ops.view, value.tensor, str(dtype).removeprefix("torch.")))


@converts("where.self")
def where(call: Call, condition: Any, a: Any, b: Any) -> Value:
    """`a` where the condition holds, else `b`."""
    operands = [condition, *(_as(call, operand, call.dtype) for operand in (a, b))]
    tensors, order = aligned(call, operands)
    return Value(call.op(keras.ops.where, *tensors), call.shape, order)


@converts("clamp.Tensor")
def clamp_tensor(call: Call, value: Value, low: Any, high: Any) -> Value:
    """At least `low` and at most `high`, tensors or None."""
    tensor, order = value.tensor, value.order
    for function, bound in ((keras.ops.maximum, low), (keras.ops.minimum, high)):
        if bound is not None:
            tensors, order = aligned(call, [Value(tensor, value.shape, order), _as(call, bound, call.dtype)])
            tensor = call.op(function, *tensors)
    return Value(tensor, call.shape, order)
