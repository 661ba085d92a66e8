"""TensorFlow Lite files made smaller."""
