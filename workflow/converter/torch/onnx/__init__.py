"""PyTorch programs to ONNX."""
