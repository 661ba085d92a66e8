"""TensorFlow Lite files."""

from converter.formats.declarations import SourceFormat

__all__ = ["TFLITE"]

TFLITE = SourceFormat(
    name="tflite",
    title="TensorFlow Lite",
    framework="onnx",
    extensions=(".tflite",),
    packages=("ai-edge-litert", "onnx", "onnxruntime", "torch", "numpy"),
)
