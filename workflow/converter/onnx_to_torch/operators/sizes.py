"""Arithmetic of sizes: operators of numbers that are known before the model runs, or follow from its inputs' sizes.

Comparisons fix no sizes: what holds for all sizes is a plain truth value, the rest symbolic. Floats that are whole may be
torch.SymInt here.
"""

from __future__ import annotations

import math
import operator as plain
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import onnx
import torch
from torch.fx.experimental.symbolic_shapes import statically_known_true

from converter.onnx_to_torch.core.registry import Call, known_sizes, on_sizes
from converter.onnx_to_torch.core.values import Known
from converter.onnx_to_torch.operators.reductions import reduced_axes

__all__: list[str] = []

_SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)
_INTEGERS = (int, torch.SymInt)


def _each(function: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
    """Of every element, broadcast; elements are Python's numbers, of which numpy's would make torch fix a size."""
    found = np.frompyfunc(function, len(arrays), 1)(*(array.astype(object) for array in arrays))
    return found if isinstance(found, np.ndarray) else np.array(found, object)


def _is_symbolic(*numbers: Any) -> bool:
    return any(isinstance(number, _SYMBOLIC) for number in numbers)


def _whole(x: Any, other: Any) -> Any:
    """A float that is whole, beside a size: as an integer, so that what is computed of both stays a size."""
    return int(x) if isinstance(x, float) and isinstance(other, torch.SymInt) and x.is_integer() else x


def _joined(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda a, b: function(_whole(a, b), _whole(b, a))


def _divided(a: Any, b: Any) -> Any:
    """Integers towards zero."""
    if not _is_symbolic(a, b):
        return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    if statically_known_true(a >= 0) and statically_known_true(b > 0):
        return a // b
    return torch.sym_int(a / b)


def _quotient(a: Any, b: Any) -> Any:
    """Of floats. Beside a divisor of 0, and where neither is a size, numpy knows what comes out."""
    if not _is_symbolic(a, b):
        with np.errstate(all="ignore"):
            return float(np.float64(a) / np.float64(b))
    a, b = _whole(a, b), _whole(b, a)
    if all(isinstance(number, _INTEGERS) for number in (a, b)) and statically_known_true(a % b == 0):
        return a // b
    return a / b


def _greater(a: Any, b: Any) -> Any:
    return torch.sym_max(_whole(a, b), _whole(b, a)) if _is_symbolic(a, b) else max(a, b)


def _lesser(a: Any, b: Any) -> Any:
    return torch.sym_min(_whole(a, b), _whole(b, a)) if _is_symbolic(a, b) else min(a, b)


def _root(x: Any) -> Any:
    return torch.sym_sqrt(torch.sym_float(x)) if _is_symbolic(x) else math.sqrt(x)


def _rounded(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: x if isinstance(x, _INTEGERS) else function(x)


def _chosen(condition: Any, a: Any, b: Any) -> Any:
    if not _is_symbolic(condition):
        return a if condition else b
    a, b = _whole(a, b), _whole(b, a)
    if isinstance(a, float | torch.SymFloat) or isinstance(b, float | torch.SymFloat):
        a, b = torch.sym_float(a), torch.sym_float(b)
    # torch.sym_ite (2.13) takes no number beside a size.
    a, b = (a + (b - b) if _is_symbolic(b) else a), (b + (a - a) if _is_symbolic(a) else b)
    return torch.sym_ite(condition, a, b)


def _negated(x: Any) -> Any:
    return torch.sym_not(x) if _is_symbolic(x) else not x


def _raised(a: Any, b: Any) -> Any:
    """By a whole number as a product of sizes, if there are any."""
    if not _is_symbolic(a, b):
        return float(a) ** b if isinstance(b, float) or b < 0 else a**b
    if isinstance(b, int | float) and float(b).is_integer() and b >= 0:
        return a ** int(b)
    return torch.sym_float(a) ** torch.sym_float(b)


_SAME_TYPE: dict[str, Callable[..., Any]] = {
    "Add": _joined(plain.add),
    "Sub": _joined(plain.sub),
    "Mul": _joined(plain.mul),
    "Pow": _raised,
    "Neg": plain.neg,
    "Abs": lambda x: _greater(x, -x) if _is_symbolic(x) else abs(x),
    "Sqrt": _root,
    "Floor": _rounded(math.floor),
    "Ceil": _rounded(math.ceil),
    "Round": _rounded(round),
}


def _elementwise(name: str, function: Callable[..., Any]) -> None:
    def compute(call: Call, arrays: list[np.ndarray]) -> np.ndarray:
        return _each(function, *arrays)

    on_sizes(name)(compute)


for _name, _function in _SAME_TYPE.items():
    _elementwise(_name, _function)


@on_sizes("Div")
def _div(call: Call, arrays: list[np.ndarray]) -> np.ndarray:
    return _each(_quotient if _is_float(call) else _divided, *arrays)


def _is_float(call: Call) -> bool:
    value = call.inputs[0]
    return isinstance(value, Known) and value.dtype.kind == "f"


@on_sizes("Mod")
def _mod(call: Call, arrays: list[np.ndarray]) -> np.ndarray | None:
    if _is_float(call):
        return None  # a remainder of floats is no size
    if call.attribute("fmod", 0):
        return _each(lambda a, b: a - b * _divided(a, b), *arrays)
    return _each(plain.mod, *arrays)


@on_sizes("Max")
def _max(call: Call, arrays: list[np.ndarray]) -> np.ndarray:
    return reduce(lambda a, b: _each(_greater, a, b), arrays)


@on_sizes("Min")
def _min(call: Call, arrays: list[np.ndarray]) -> np.ndarray:
    return reduce(lambda a, b: _each(_lesser, a, b), arrays)


@on_sizes("Clip")
def _clip(call: Call, arrays: list[np.ndarray]) -> np.ndarray | None:
    if call.opset < 11:
        return None
    x, rest = arrays[0], iter(arrays[1:])
    x = _each(_greater, x, next(rest)) if call.has(1) else x
    return _each(_lesser, x, next(rest)) if call.has(2) else x


@on_sizes("Sum")
def _sum(call: Call, arrays: list[np.ndarray]) -> np.ndarray:
    return reduce(lambda a, b: _each(plain.add, a, b), arrays)


def _truth(array: np.ndarray) -> Known:
    return known_sizes(array, np.dtype(bool))


def _decided(answer: Any, opposite: Callable[[], Any]) -> Any:
    """A plain truth value where it is the same for all sizes."""
    if not _is_symbolic(answer):
        return answer
    if statically_known_true(answer):
        return True
    return False if statically_known_true(opposite()) else answer


_OPPOSITES = {
    "Equal": (plain.eq, plain.ne),
    "Greater": (plain.gt, plain.le),
    "GreaterOrEqual": (plain.ge, plain.lt),
    "Less": (plain.lt, plain.ge),
    "LessOrEqual": (plain.le, plain.gt),
}


def _comparison(name: str, holds: Callable[[Any, Any], Any], fails: Callable[[Any, Any], Any]) -> None:
    def compute(call: Call, arrays: list[np.ndarray]) -> Known:
        return _truth(_each(lambda a, b: _decided(holds(a, b), lambda: fails(a, b)), *arrays))

    on_sizes(name)(compute)


for _name, (_holds, _fails) in _OPPOSITES.items():
    _comparison(_name, _holds, _fails)


@on_sizes("And")
def _and(call: Call, arrays: list[np.ndarray]) -> Known:
    return _truth(_each(plain.and_, *arrays))


@on_sizes("Or")
def _or(call: Call, arrays: list[np.ndarray]) -> Known:
    return _truth(_each(plain.or_, *arrays))


@on_sizes("Not")
def _not(call: Call, arrays: list[np.ndarray]) -> Known:
    return _truth(_each(_negated, *arrays))


@on_sizes("Where")
def _where(call: Call, arrays: list[np.ndarray]) -> Known:
    value = call.inputs[1]
    assert isinstance(value, Known)
    return known_sizes(_each(_chosen, *arrays), value.dtype)


@on_sizes("Cast")
def _cast(call: Call, arrays: list[np.ndarray]) -> Known | None:
    return _converted(arrays[0], onnx.helper.tensor_dtype_to_np_dtype(call.attribute("to")))


@on_sizes("CastLike")
def _cast_like(call: Call, arrays: list[np.ndarray]) -> Known | None:
    like = call.inputs[1]
    assert isinstance(like, Known)
    return _converted(arrays[0], like.dtype)


def _converted(array: np.ndarray, dtype: np.dtype) -> Known | None:
    if dtype.kind == "b":
        return _truth(_each(lambda x: x if isinstance(x, torch.SymBool) else x != 0, array))
    if dtype.kind in "iu":
        return known_sizes(_each(lambda x: torch.sym_int(_number(x)), array), dtype)
    if dtype.kind == "f":
        # A size stays the integer that it is, also among floats: rounding and casting back then leave it alone.
        return known_sizes(_each(lambda x: _number(x) if _is_symbolic(x) else float(x), array), dtype)
    return None


def _number(x: Any) -> Any:
    """Truth values as 0 and 1."""
    return _chosen(x, 1, 0) if isinstance(x, torch.SymBool) else int(x) if isinstance(x, bool) else x


_REDUCTIONS: dict[str, tuple[Callable[[Any, Any], Any], tuple[int, ...]]] = {
    "ReduceSum": (plain.add, (0,)),
    "ReduceProd": (plain.mul, (1,)),
    "ReduceMax": (_greater, ()),
    "ReduceMin": (_lesser, ()),
}


def _reduction(name: str, function: Callable[[Any, Any], Any], start: tuple[int, ...]) -> None:
    def compute(call: Call, arrays: list[np.ndarray]) -> np.ndarray:
        array = arrays[0].astype(object)
        axes, keep = reduced_axes(call, array.ndim) or [], bool(call.attribute("keepdims", 1))
        for axis in reversed(axes):
            lines = np.moveaxis(array, axis, -1)
            found = np.empty(lines.shape[:-1], object)
            for place in np.ndindex(found.shape):
                found[place] = reduce(function, lines[place], *start)
            array = np.expand_dims(found, axis) if keep else found
        return array

    on_sizes(name)(compute)


for _name, (_function, _start) in _REDUCTIONS.items():
    _reduction(_name, _function, _start)
