"""Changes between real numbers and the integers that stand for them."""

from __future__ import annotations

import numpy as np

from converter.tflite_to_onnx.core.registry import Call, operator
from converter.tflite_to_onnx.core.values import Value


@operator("QUANTIZE")
def _quantize(call: Call) -> str:
    return call.real()  # what is returned is quantized as the output asks


@operator("DEQUANTIZE")
def _dequantize(call: Call) -> str | Value:
    value = call.input(0)
    if value.array is not None and value.quantization is not None:
        call.real()
        return value  # operators may turn it before it is written
    if value.array is not None:
        return Value(value.name, np.dtype(np.float32), value.shape, array=value.array.astype(np.float32))
    return call.real() if value.quantization is not None else call.graph.cast(call.real(), np.float32)
