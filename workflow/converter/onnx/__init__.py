"""ONNX to ONNX: cut, with other sizes, at another opset."""
