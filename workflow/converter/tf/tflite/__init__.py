"""TensorFlow graphs to TensorFlow Lite."""
