"""TensorFlow Lite files as ONNX models."""

from converter.tflite_to_onnx.reading import read_model

__all__ = ["read_model"]
