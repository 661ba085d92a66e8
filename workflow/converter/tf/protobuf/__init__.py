"""TensorFlow graphs to .pb files."""
