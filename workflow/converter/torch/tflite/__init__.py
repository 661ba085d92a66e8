"""PyTorch programs to TensorFlow Lite."""
