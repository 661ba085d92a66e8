"""TensorFlow Lite files as bytes: their tables, and what can be cut away."""
