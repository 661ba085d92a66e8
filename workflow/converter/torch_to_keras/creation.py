"""Tensors whose values depend on a size that is known only when the model runs."""

from __future__ import annotations

from typing import Any

import keras

from converter.torch_to_keras.call import Call
from converter.torch_to_keras.registry import converts
from converter.torch_to_keras.values import KerasTensor, Value, same


@converts("arange.start_step", "arange.default", "arange.start")
def arange(call: Call, *arguments: Any) -> Value:
    """0, 1, 2, ... up to the size of an axis of an input: a running sum of ones along that axis."""
    for source in call.conversion.inputs:
        for axis, size in enumerate(source.shape):
            if same(size, call.shape[0]) and _counts_up(arguments):
                index = tuple(slice(None) if a == axis else 0 for a in source.order)
                row = call.op(keras.ops.ones_like, _picked(call, source, index), dtype="int32")
                positions = call.op(keras.ops.subtract, call.op(keras.ops.cumsum, row), 1)
                return call.value(call.op(keras.ops.cast, positions, call.dtype))
    raise call.unsupported("its length is not the size of an axis of an input")


def _counts_up(arguments: tuple[Any, ...]) -> bool:
    start, step = (arguments[0] if len(arguments) > 1 else 0), (arguments[2] if len(arguments) > 2 else 1)
    return (start, step) == (0, 1)


def _picked(call: Call, source: Value, index: tuple[Any, ...]) -> KerasTensor:
    import operator

    return call.op(operator.getitem, source.tensor, index)
