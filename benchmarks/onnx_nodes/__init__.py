"""The node tests of the `onnx` package, each converted as a model of its own: docs/onnx-operators.md."""
