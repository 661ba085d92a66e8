"""Operators of two tensors, element by element, which are broadcast to each other."""

from __future__ import annotations

import functools
import math

import numpy as np

from converter.tflite.flatbuffer import schema
from converter.tflite_to_onnx.core.registry import Call, operator

_ACTIVATED = {
    "ADD": ("Add", schema.AddOptionsT),
    "SUB": ("Sub", schema.SubOptionsT),
    "MUL": ("Mul", schema.MulOptionsT),
    "DIV": ("Div", schema.DivOptionsT),
}
_SAME = {
    "EQUAL": "Equal",
    "GREATER": "Greater",
    "GREATER_EQUAL": "GreaterOrEqual",
    "LESS": "Less",
    "LESS_EQUAL": "LessOrEqual",
    "LOGICAL_AND": "And",
    "LOGICAL_OR": "Or",
    "MAXIMUM": "Max",
    "MINIMUM": "Min",
    "POW": "Pow",
}


@operator(*_ACTIVATED)
def _activated(call: Call) -> str:
    kind, options = _ACTIVATED[call.name]
    return call.activated(call.node(kind, call.real(0), call.real(1)), call.options(options).fusedActivationFunction)


@operator(*_SAME)
def _same(call: Call) -> str:
    return call.node(_SAME[call.name], call.real(0), call.real(1))


@operator("NOT_EQUAL")
def _not_equal(call: Call) -> str:
    return call.node("Not", call.node("Equal", call.real(0), call.real(1)))


@operator("SQUARED_DIFFERENCE")
def _squared_difference(call: Call) -> str:
    difference = call.node("Sub", call.real(0), call.real(1))
    return call.node("Mul", difference, difference)


@operator("ADD_N")
def _add_n(call: Call) -> str:
    return functools.reduce(lambda left, right: call.node("Add", left, right), call.reals())


@operator("FLOOR_DIV")
def _floor_div(call: Call) -> str:
    x, y = call.real(0), call.real(1)
    if call.dtype().kind == "f":
        return call.node("Floor", call.node("Div", x, y))
    # What is left divides without rest.
    return call.node("Div", call.node("Sub", x, call.node("Mod", x, y)), y)


@operator("FLOOR_MOD")
def _floor_mod(call: Call) -> str:
    x, y = call.real(0), call.real(1)
    if call.dtype().kind != "f":
        return call.node("Mod", x, y)
    rest, zero = call.node("Mod", x, y, fmod=1), call.scalar(0)
    other_sign = call.node("Less", call.node("Mul", call.node("Sign", rest), call.node("Sign", y)), zero)
    return call.node("Where", other_sign, call.node("Add", rest, y), rest)


@operator("ATAN2")
def _atan2(call: Call) -> str:
    y, x = call.real(0), call.real(1)
    zero, pi = call.scalar(0), call.scalar(math.pi)
    angle = call.node("Atan", call.node("Div", y, x))
    half_turn = call.node("Where", call.node("Less", y, zero), call.scalar(-math.pi), pi)
    behind = call.node("Where", call.node("Less", x, zero), call.node("Add", angle, half_turn), angle)
    upright = call.node("Mul", call.node("Sign", y), call.scalar(math.pi / 2))
    return call.node("Where", call.node("Equal", x, zero), upright, behind)


@operator("BITWISE_XOR", opset=18)
def _bitwise_xor(call: Call) -> str:
    kind = "Xor" if call.dtype().kind == "b" else "BitwiseXor"
    return call.node(kind, call.real(0), call.real(1))


@operator("RIGHT_SHIFT")
def _right_shift(call: Call) -> str:
    # ONNX shifts unsigned numbers only; this keeps the sign: division that rounds down.
    x, bits = call.graph.cast(call.stored(0), np.int64), call.graph.cast(call.stored(1), np.int64)
    most = call.graph.constant(8 * call.dtype().itemsize - 1)
    divisor = call.node("Pow", call.graph.constant(2), call.node("Min", bits, most))
    quotient = call.node("Div", call.node("Sub", x, call.node("Mod", x, divisor)), divisor)
    return call.graph.cast(quotient, call.output().dtype)


@operator("SELECT", "SELECT_V2")
def _select(call: Call) -> str:
    condition = call.stored(0)
    if call.name == "SELECT" and call.rank(0) == 1 and call.rank(1) > 1:
        condition = call.graph.unsqueeze(condition, range(1, call.rank(1)))  # chooses whole rows
    x, y, dtype = call.real(1), call.real(2), call.dtype(1)
    if dtype == np.bool_:  # onnxruntime 1.32 chooses among numbers of some types only
        unless = call.node("Not", condition)
        return call.node("Or", call.node("And", condition, x), call.node("And", unless, y))
    if dtype in (np.int8, np.int16, np.uint16, np.uint32):
        found = call.node("Where", condition, call.graph.cast(x, np.int64), call.graph.cast(y, np.int64))
        return call.graph.cast(found, dtype)
    return call.node("Where", condition, x, y)
