"""The PyTorch side: loading, tracing, and the exporters to ONNX and TensorFlow Lite."""
