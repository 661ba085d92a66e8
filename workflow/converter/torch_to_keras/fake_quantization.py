"""Fake quantization as TensorFlow's own operator, of which its converter makes QUANTIZE and DEQUANTIZE: for TensorFlow Lite."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from converter.torch.exact.quantized_program import pair_name
from converter.torch_to_keras.call import Call
from converter.torch_to_keras.registry import converts
from converter.torch_to_keras.values import KerasTensor, Value


@converts("fake_quantize_per_tensor_affine.default")
def fake_quantize(call: Call, value: Value, scale: float, zero: int, lowest: int, highest: int) -> Value:
    """The operator bears the name of the pair, by which it is found in the file."""
    if not call.conversion.for_tensorflow:
        raise call.unsupported("Keras has no fake quantization")
    name = f"{pair_name(call.node)}_"
    return value.like(call.op(fake_quantized, value.tensor, (lowest - zero) * scale, (highest - zero) * scale, name))


def fake_quantized(tensor: KerasTensor, low: float, high: float, name: str) -> KerasTensor:
    """To the nearest of 256 steps from `low` to `high`."""
    return _FakeQuantization(low, high, name)(tensor)


class _FakeQuantization(keras.Operation):
    def __init__(self, low: float, high: float, name: str) -> None:
        super().__init__()
        self._low, self._high, self._given = low, high, name

    def compute_output_spec(self, tensor: KerasTensor) -> KerasTensor:
        return keras.KerasTensor(tensor.shape, "float32")

    def call(self, tensor: Any) -> Any:
        return tf.raw_ops.FakeQuantWithMinMaxArgs(
            inputs=tensor, min=self._low, max=self._high, num_bits=8, name=self._given
        )
