"""Tensors that are made of numbers and sizes, some of which are known only when the model runs."""

from __future__ import annotations

from typing import Any

import keras
import torch

from converter.torch_to_keras.call import Call
from converter.torch_to_keras.lengths import counting, number
from converter.torch_to_keras.registry import converts
from converter.torch_to_keras.values import Value


@converts("arange.start_step", "arange.default", "arange.start")
def arange(call: Call, *arguments: Any) -> Value:
    """Numbers from the first argument (0) up to the second, by steps of the third (1)."""
    start = arguments[0] if len(arguments) > 1 else 0
    step = arguments[2] if len(arguments) > 2 else 1
    tensor = counting(call, call.shape[0])
    # In the type of the arguments: half a step of whole numbers would be none.
    wanted = "float32" if "float" in call.dtype or isinstance(start, float) or isinstance(step, float) else call.dtype
    tensor = call.op(keras.ops.cast, tensor, "float64" if call.dtype == "float64" else wanted)
    for factor, function in ((step, keras.ops.multiply), (start, keras.ops.add)):
        if isinstance(factor, torch.SymInt | torch.SymFloat):
            factor = call.op(keras.ops.cast, number(call, factor), tensor.dtype)
        if not isinstance(factor, int | float) or factor != (1 if function is keras.ops.multiply else 0):
            tensor = call.op(function, tensor, factor)
    return call.value(call.op(keras.ops.cast, tensor, call.dtype) if tensor.dtype != call.dtype else tensor)


@converts("scalar_tensor.default")
def scalar_tensor(call: Call, symbol: torch.SymInt | torch.SymFloat) -> Value:
    """A number that is computed of sizes, as a tensor; of plain ones folding makes a constant."""
    return call.value(call.op(keras.ops.cast, number(call, symbol), call.dtype))
