"""ONNX files, with or without weights beside them."""

from converter.formats.declarations import SourceFormat

__all__ = ["ONNX"]

ONNX = SourceFormat(
    name="onnx",
    title="ONNX",
    framework="onnx",
    extensions=(".onnx",),
    parameters=frozenset({"input_nodes", "output_nodes", "constants"}),
    packages=("onnx", "onnxruntime", "torch", "numpy"),
)
