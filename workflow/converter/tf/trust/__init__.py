"""TensorFlow files that would run a stranger's code."""
