"""TensorFlow graphs to ONNX, around tf2onnx."""
